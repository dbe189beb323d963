"""How a PATCH changes a resource: merged as a whole, or placed at a path. Plain functions that leave their input as is.

The merge is RFC 7396. APISIX's differs in corners only (a null inside a new object stays there and then fails its
schema). Below a path nothing is merged, as in APISIX: what stands there is replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class InvalidSubPath(ValueError):
    """A sub-path leads through something that has no members. Worded as in APISIX."""

    def __init__(self, steps: Sequence[str]) -> None:
        super().__init__("invalid sub-path: /" + "/".join(steps))


def merge(target: Any, patch: Any) -> Any:
    """`patch` merged into `target`: objects member by member, anything else replaced; null takes the member away."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def place(target: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`target` with `value` at `path` (at least one step), objects on the way made as needed; null takes it away.

    Raises InvalidSubPath when something on the way is not an object. Members of arrays cannot be named.
    """
    result = dict(target)
    place_in = result
    for depth, step in enumerate(path[:-1], start=1):
        below = place_in.get(step, {})
        if not isinstance(below, dict):
            raise InvalidSubPath(path[:depth])
        place_in[step] = dict(below)
        place_in = place_in[step]
    if value is None:
        place_in.pop(path[-1], None)
    else:
        place_in[path[-1]] = value
    return result
