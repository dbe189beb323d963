"""The kinds of values settings have: how each is written, read and bounded.

A kind's `form` is the sentence that both the default file and an error show, so the two cannot differ. Text that came
from an environment variable (EnvText) is read as a YAML scalar by every kind that is not text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from gw.settings.declare import Context, Kind, Refused
from gw.settings.environment import EnvText

T = TypeVar("T")
U = TypeVar("U")

# nginx's units; a bare number is seconds. https://nginx.org/en/docs/syntax.html
_SECONDS_PER_UNIT: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES_PER_UNIT: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIME: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d|)")
_SIZE: Final = re.compile(r"([0-9]+)([kmg]?)", re.IGNORECASE)

# How much of a wrong value an error repeats: enough to find it in the file.
_SHOWN_CHARS: Final = 60


def shown(value: object) -> str:
    """A value as an error names it."""
    text = repr(str(value)) if isinstance(value, EnvText) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


def boolean() -> Kind[bool]:
    """true or false; also nginx's on and off, which YAML reads as booleans anyway when they are not quoted."""

    def parse(raw: object, context: Context) -> bool:
        value = scalar(raw)
        if value in ("on", "off"):
            return value == "on"
        if not isinstance(value, bool):
            raise Refused(f"must be true or false, not {shown(raw)}")
        return value

    return Kind("true or false", parse)


def integer(minimum: int, maximum: int) -> Kind[int]:
    """A whole number within bounds, both included."""
    form = f"a whole number from {minimum} to {maximum}"

    def parse(raw: object, context: Context) -> int:
        value = scalar(raw)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise Refused(f"must be {form}, not {shown(raw)}")
        return value

    return Kind(form, parse)


def choice(*names: str, later: tuple[str, ...] = ()) -> Kind[str]:
    """One of a few words. `later` are words that APISIX has and we do not yet, so that the error can say so."""
    form = f"one of {', '.join(names)}" if len(names) > 1 else names[0]

    def parse(raw: object, context: Context) -> str:
        if isinstance(raw, str) and raw in names:
            return str(raw)
        if isinstance(raw, str) and raw in later:
            raise Refused(f"{raw} is not supported yet; it must be {form}")
        raise Refused(f"must be {form}, not {shown(raw)}")

    return Kind(form, parse)


def text(form: str, pattern: str = r".*", *, secret: bool = False) -> Kind[str]:
    """A string that matches a pattern as a whole."""
    compiled = re.compile(pattern, re.ASCII | re.DOTALL)

    def parse(raw: object, context: Context) -> str:
        if not isinstance(raw, str):
            hint = " (put it in quotes)" if isinstance(raw, int | float) else ""
            raise Refused(f"must be {form}, not {type(raw).__name__}{hint}")
        if not compiled.fullmatch(raw):
            raise Refused(f"must be {form}" if secret else f"must be {form}, not {shown(raw)}")
        return str(raw)

    return Kind(form, parse, secret=secret)


def line_of_text(form: str, pattern: str) -> Kind[str]:
    """The same, without the line end that YAML's `|` leaves behind a text."""
    whole = text(form, pattern)

    def parse(raw: object, context: Context) -> str:
        return whole.parse(raw.removesuffix("\n") if isinstance(raw, str) else raw, context)

    return Kind(form, parse)


def file_path() -> Kind[Path]:
    """A path; a relative one counts from the directory of the configuration file. Absolute in the result."""

    def parse(raw: object, context: Context) -> Path:
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise Refused(f"must be a path, not {shown(raw)}")
        return resolved_path(raw, context)

    return Kind("a path; a relative one counts from the directory of config.yaml", parse)


def resolved_path(raw: str, context: Context) -> Path:
    """The absolute path, without `..` in it (what a reader of a log or an error can use as it stands)."""
    return Path(raw) if Path(raw).is_absolute() and ".." not in Path(raw).parts else (context.directory / raw).resolve()


def seconds(minimum: float, maximum: float) -> Kind[float]:
    """A duration in nginx's form (`60s`, `500ms`, `1h 30m`) or a number of seconds. Seconds in the result."""
    form = f"a time such as 500ms, 60s or 4m, from {minimum:g} to {maximum:g} seconds"

    def parse(raw: object, context: Context) -> float:
        value = scalar(raw)
        if isinstance(value, str):
            value = _duration_s(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value <= maximum:
            raise Refused(f"must be {form}, not {shown(raw)}")
        return float(value)

    return Kind(form, parse)


def _duration_s(written: str) -> float | None:
    parts = written.split() if " " in written.strip() else _TIME.findall(written) and [written.strip()]
    total = 0.0
    for part in parts:
        matches = list(_TIME.finditer(part))
        if "".join(match[0] for match in matches) != part:
            return None
        # A unit may be missing once, at the very end: `1m30` is not nginx's form.
        if any(match[2] == "" for match in matches) and (len(matches) > 1 or len(parts) > 1):
            return None
        total += sum(float(match[1]) * _SECONDS_PER_UNIT[match[2]] for match in matches)
    return total if parts else None


def size(minimum: int, maximum: int) -> Kind[int]:
    """A size in nginx's form (`8m`, `64k`) or a number of bytes. Bytes in the result."""
    form = f"a size such as 64k or 8m, from {_size_text(minimum)} to {_size_text(maximum)}"

    def parse(raw: object, context: Context) -> int:
        value = scalar(raw)
        if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
            value = int(match[1]) * _BYTES_PER_UNIT[match[2].lower()]
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise Refused(f"must be {form}, not {shown(raw)}")
        return value

    return Kind(form, parse)


def _size_text(size_bytes: int) -> str:
    for unit in ("g", "m", "k"):
        if size_bytes and size_bytes % _BYTES_PER_UNIT[unit] == 0:
            return f"{size_bytes // _BYTES_PER_UNIT[unit]}{unit}"
    return str(size_bytes)


def window_ms(maximum: int) -> Kind[tuple[int, int]]:
    """Two numbers of milliseconds, the smaller one first: a draw is made between them, both included.

    One number is the highest, with 0 the lowest; so a plain 0 turns waiting off.
    """
    form = f"[lowest, highest] or highest alone, whole milliseconds from 0 to {maximum}, lowest not above highest"
    bound = integer(0, maximum)

    def parse(raw: object, context: Context) -> tuple[int, int]:
        if isinstance(raw, int | EnvText):
            return 0, bound.parse(raw, context)
        if not isinstance(raw, list) or len(raw) != 2:
            raise Refused(f"must be {form}, not {shown(raw)}")
        low, high = (bound.parse(item, context) for item in raw)
        if low > high:
            raise Refused(f"lowest ({low}) is above highest ({high})")
        return low, high

    return Kind(form, parse)


def optional(kind: Kind[T]) -> Kind[T | None]:
    """The kind, or null. Empty text is null too: it is what an unset variable with an empty default leaves."""

    def parse(raw: object, context: Context) -> T | None:
        return None if raw is None or raw == "" else kind.parse(raw, context)

    return Kind(f"{kind.form}; or null", parse, secret=kind.secret)


def either(word: str, value: U, kind: Kind[T]) -> Kind[T | U]:
    """The kind, or one word that stands for `value` (`auto`, `system`)."""

    def parse(raw: object, context: Context) -> T | U:
        try:
            return value if raw == word else kind.parse(raw, context)
        except Refused as refused:
            raise Refused(f"{refused.reason} (or {word})", at=refused.at) from None

    return Kind(f"{word}, or {kind.form}", parse)


def list_of(kind: Kind[T], form: str, *, minimum: int = 0) -> Kind[tuple[T, ...]]:
    """A list of values of one kind. An error says which one is wrong."""

    def parse(raw: object, context: Context) -> tuple[T, ...]:
        if not isinstance(raw, list):
            raise Refused(f"must be {form}" + ("" if kind.secret else f", not {shown(raw)}"))
        if len(raw) < minimum:
            raise Refused(f"must have at least {minimum} item{'s' if minimum > 1 else ''}")
        return tuple(parse_at(f"[{index}]", kind.parse, item, context) for index, item in enumerate(raw))

    return Kind(form, parse, secret=kind.secret)


def parse_at(at: str, parse: Callable[[object, Context], T], raw: object, context: Context) -> T:
    """Parse a part of a value; a Refused gets the part's place in front."""
    try:
        return parse(raw, context)
    except Refused as refused:
        raise Refused(refused.reason, at=f"{at}{refused.at}") from None


def mapping_fields(raw: object, known: dict[str, bool], form: str) -> dict[str, Any]:
    """The mapping, after a look at its keys: all must be in `known`, and those marked True must be there."""
    if not isinstance(raw, dict):
        raise Refused(f"must be {form}")
    for name in raw:
        if name not in known:
            raise Refused(f"unknown key {name!r}; known are {', '.join(known)}")
    for name, required in known.items():
        if required and raw.get(name) is None:
            raise Refused(f"{name} is missing; it must be {form}")
    return raw


def plain(raw: object) -> object:
    """A value of nobody's kind, as YAML would have read it: text from a variable is a scalar like any other."""
    if isinstance(raw, list):
        return [plain(item) for item in raw]
    if isinstance(raw, dict):
        return {key: plain(item) for key, item in raw.items()}
    return scalar(raw)


def scalar(raw: object) -> object:
    """The value; text from a variable is read as YAML reads a scalar (a number, a boolean, null, or text)."""
    if not isinstance(raw, EnvText):
        return raw
    try:
        value = yaml.safe_load(raw)
    except (yaml.YAMLError, ValueError):
        return str(raw)
    return value if isinstance(value, bool | int | float) else str(raw)
