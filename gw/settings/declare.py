"""How a setting is declared: once, as a field of a frozen dataclass that carries its kind, default, unit and meaning.

From that one declaration come the parsing and its errors (`load`), the default file (`reference`) and the type that
the rest of the code sees. The dotted path of a setting is the nesting of the dataclasses; where the attribute has its
unit at the end of its name and APISIX's key has not, `key` gives the key. Nothing here reads a file or an
environment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, cast

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_SETTING: Final = "setting"
_SECTION: Final = "section"


class Refused(Exception):
    """A value does not fit its kind. `at` is the place inside the value (`[1].port`), empty for the whole."""

    def __init__(self, reason: str, *, at: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.at = at


@dataclass(frozen=True, slots=True)
class Context:
    """What parsing a value may need from outside: where relative paths count from, and where warnings go."""

    directory: Path
    environ: Mapping[str, str]
    warn: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """A type of value: how it is written (for people, with its bounds) and how it is read.

    `parse` raises Refused. A `secret` kind never repeats the value in a reason.
    """

    form: str
    parse: Callable[[object, Context], T_co]
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting. `default` is in the form of the file, so that the default file can be written from it."""

    key: str
    kind: Kind[Any]
    default: object
    unit: str
    help: str


@dataclass(frozen=True, slots=True)
class Section:
    """A nested mapping of settings."""

    key: str
    cls: type
    help: str


def setting(kind: Kind[T], *, default: object, help: str, unit: str = "", key: str = "") -> T:
    """Declare a setting as a dataclass field. `help` is what a user reads in the default file.

    The field of a secret kind does not show in a repr.
    """
    declared = Setting(key, kind, default, unit, help)
    return cast(T, dataclasses.field(repr=not kind.secret, metadata={_SETTING: declared}))


def section(cls: type[T], *, help: str = "", key: str = "") -> T:
    """Declare a nested section as a dataclass field."""
    return cast(T, dataclasses.field(metadata={_SECTION: Section(key, cls, help)}))


def derived(default: T) -> T:
    """A field that no key sets: a rule of `load` works it out of others."""
    return dataclasses.field(default=default)


def members(cls: type) -> Iterator[tuple[str, Setting | Section]]:
    """(attribute name, declaration) of what a section holds, in the order of writing, keys filled in."""
    for field in dataclasses.fields(cls):
        declared = field.metadata.get(_SETTING) or field.metadata.get(_SECTION)
        if declared is not None:
            yield field.name, dataclasses.replace(declared, key=declared.key or field.name)


def leaf_paths(cls: type, prefix: str = "") -> Iterator[tuple[str, Setting]]:
    """(dotted path, declaration) of every setting at or below a section."""
    for _, declared in members(cls):
        path = f"{prefix}{declared.key}"
        if isinstance(declared, Section):
            yield from leaf_paths(declared.cls, f"{path}.")
        else:
            yield path, declared
