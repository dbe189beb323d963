"""Finding the keys of a file that mean nothing: unknown ones, moved ones, and APISIX's that we do not implement."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gw.settings import unsupported
from gw.settings.declare import leaf_paths

# Key -> what may stand below it; None: a value that the setting itself reads.
Names: TypeAlias = "dict[str, Names | None]"

_ELSEWHERE: Final = "it is read from config.yaml; agent.yaml holds what the agent alone may know"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a dotted path."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Findings:
    """`problems` stop the start, `warnings` are told."""

    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def names_of(*sections: type) -> Names:
    """All keys that are declared in any of the sections (roots of trees)."""
    names: Names = {}
    for cls in sections:
        for path, _ in leaf_paths(cls):
            *parents, last = path.split(".")
            level = names
            for parent in parents:
                below = level.setdefault(parent, {})
                assert below is not None, f"{path} lies below another setting"
                level = below
            level[last] = None
    return names


def inspect_keys(raw: dict[str, Any], names: Names, *, elsewhere: Names | None = None) -> Findings:
    """Look at every key of a file. `elsewhere` are keys that are right, but in the other file."""
    problems: list[Problem] = []
    warnings: list[str] = []
    for path, value in _strangers(raw, names, ""):
        if elsewhere is not None and _is_declared(path, elsewhere):
            problems.append(Problem(path, f"does not belong here: {_ELSEWHERE}"))
        elif path in unsupported.STOPPING:
            if not unsupported.is_off(value):
                problems.append(Problem(path, unsupported.STOPPING[path]))
        elif told := unsupported.ignored(path):
            warnings.append(f"{path} {told}")
        elif path in unsupported.MOVED:
            problems.append(Problem(path, f"is {unsupported.MOVED[path]} since APISIX 3"))
        else:
            problems.append(Problem(path, f"unknown key{_nearest(path, names)}"))
    return Findings(tuple(problems), tuple(warnings))


def _strangers(raw: dict[str, Any], names: Names, prefix: str) -> Iterator[tuple[str, object]]:
    """(dotted path, value) of keys that are not declared, the topmost of each branch."""
    for key, value in raw.items():
        path = f"{prefix}{key}"
        if key not in names:
            yield path, value
        elif (below := names[key]) is not None and isinstance(value, dict):
            yield from _strangers(value, below, f"{path}.")


def _is_declared(path: str, names: Names) -> bool:
    level: Names | None = names
    for key in path.split("."):
        if level is None or key not in level:
            return False
        level = level[key]
    return True


def _nearest(path: str, names: Names) -> str:
    """The hint in an error: the nearest name at the same level, or else the same or a near name anywhere."""
    *parents, last = path.split(".")
    level = names
    for parent in parents:
        level = level[parent] or {}
    prefix = "".join(f"{parent}." for parent in parents)
    if close := difflib.get_close_matches(last, level, n=1):
        return f"; did you mean {prefix}{close[0]}?"
    ends: dict[str, str] = {}
    for known in _all_paths(names, ""):
        ends.setdefault(known.rpartition(".")[2], known)
    # Stricter than at the same level: a far name in another section is rather noise than help.
    if close := difflib.get_close_matches(last, ends, n=1, cutoff=0.8):
        return f"; did you mean {ends[close[0]]}?"
    return f"; known here are {', '.join(sorted(level))}" if level else ""


def _all_paths(names: Names, prefix: str) -> Iterator[str]:
    for key, below in names.items():
        yield f"{prefix}{key}"
        if below is not None:
            yield from _all_paths(below, f"{prefix}{key}.")
