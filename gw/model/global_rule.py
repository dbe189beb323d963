"""A global rule: plugins for every request, whichever route it takes and even if it takes none.

Built from dicts that `gw.schema.validate` has passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class GlobalRule:
    """Its plugins run before those of the route, and beside them where both have the same one."""

    id: str
    plugins: Mapping[str, Mapping[str, Any]]

    @classmethod
    def from_dict(cls, id: str, rule: Mapping[str, Any]) -> Self:
        return cls(id=id, plugins=rule["plugins"])
