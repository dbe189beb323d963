"""Paths into a JSON value, as `post_arg.<path>` has them: `model`, `user.name`, `messages[*].content[0].type`, `a..b`.

A path of names alone leads to one value. One with `[`, `*` or `..` is a JSONPath, as in APISIX (apisix/core/ctx.lua),
and leads to the list of all values it fits, None when it fits none. Of JSONPath: names, `[0]`, `[*]`, `*`, `['name']`
and `..`. Whoever writes a body in which one path has too much to look at is refused (UnsafeRequest): a condition that
did not hold would let the request fall through to a route that asks for less.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from gw.pipeline.path import UnsafeRequest

_STEP: Final = re.compile(
    r"""(?P<deep>\.\.)?(?:\.?(?P<star>\*|\[\*\])|\[(?P<number>-?\d{1,9})\]|\[(?P<quote>['"])(?P<quoted>.*?)(?P=quote)\]"""
    r"""|\.?(?P<name>[^.\[\]*]+))"""
).match
# What one path may gather of one body, and look at: each `..` visits everything below each value of the step before.
# 20 ms on the loop.
_MOST_VALUES: Final = 10_000
_MOST_VISITED: Final = 100_000


class _Step(NamedTuple):
    """`key`: a name, an index, or None for all. `is_deep`: of the value and everything in it."""

    key: str | int | None
    is_deep: bool


def compile_json_path(path: str) -> Callable[[Any], Any] | None:
    """What reads a path off a parsed body; None for what is no path."""
    if "[" not in path and "*" not in path and ".." not in path:
        names = [name for name in path.split(".") if name]
        return (lambda value: _follow(value, names)) if names else None
    steps = _steps(path.removeprefix("$"))
    return None if steps is None else lambda value: _gather(value, steps)


def _steps(path: str) -> list[_Step] | None:
    steps, at = [], 0
    while at < len(path):
        match = _STEP(path, at)
        if match is None:
            return None
        key: str | int | None = match["name"] if match["name"] is not None else match["quoted"]
        if match["number"] is not None:
            key = int(match["number"])
        steps.append(_Step(key, match["deep"] is not None))
        at = match.end()
    return steps


def _follow(value: Any, names: Sequence[str]) -> Any:
    for name in names:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _gather(value: Any, steps: Sequence[_Step]) -> list[Any] | None:
    """Raises UnsafeRequest."""
    values = [value]
    visited = 0
    for step in steps:
        found: list[Any] = []
        for each in values:
            for one in _all_in(each) if step.is_deep else (each,):
                visited += 1
                found += _children(one, step.key)
                if len(found) > _MOST_VALUES or visited > _MOST_VISITED:
                    raise UnsafeRequest("a JSON body with more values than a condition may look at")
        values = found
    return values or None


def _children(value: Any, key: str | int | None) -> Sequence[Any]:
    if key is None:
        return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(key, int):
        return value[key : key + 1 or None] if isinstance(value, list) else ()
    return (value[key],) if isinstance(value, dict) and key in value else ()


def _all_in(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        if isinstance(one, dict | list):
            waiting += reversed(list(one.values()) if isinstance(one, dict) else one)
