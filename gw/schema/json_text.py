"""Bytes to JSON values, strictly: what one reader takes for one thing, no other may take for another.

Refused: what is not UTF-8, a byte order mark, NaN and Infinity, numbers beyond a double, a name twice in one object
(readers differ in which one counts, CVE-2022-25757), half surrogate pairs, and nesting beyond what the rest can walk.
Python's parser does the work; only when it or a look at the outcome objects are the places searched for.
"""

import json
from math import isfinite
from typing import Any, Final, NoReturn

from gw.schema.screen import MAX_DEPTH, Unfit, copy_json
from gw.schema.wording import bare, path_of, quote

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class _Refused(Exception):
    """Leaves the parser, never this module."""


class _Pairs(list[tuple[str, Any]]):
    """An object with all its pairs, for finding the one whose name comes twice."""


class _BadNumber(str):
    """A number that is none, kept as its text, for finding its place."""

    __slots__ = ()


def parse_json(raw: bytes, *, allow_duplicate_names: bool = False) -> Any:
    """The value of a JSON text. Raises ValueError with reason and place; no more of the text than a name is quoted.

    With `allow_duplicate_names` the last of several values of a name counts, as in most readers.
    """
    if raw.startswith(BYTE_ORDER_MARK):
        raise ValueError("invalid JSON: begins with a byte order mark")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid JSON: not UTF-8 at byte {error.start}") from None
    try:
        value = (_LENIENT if allow_duplicate_names else _STRICT).decode(text)
    except _Refused:
        raise ValueError(_find_fault(text)) from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"invalid JSON: {_lower_first(error.msg)} at {place}") from None
    except RecursionError:
        raise ValueError(f"invalid JSON: nested too deeply: more than {MAX_DEPTH} levels") from None
    except ValueError as error:  # an integer of thousands of digits, which Python declines to convert
        raise ValueError(f"invalid JSON: {_lower_first(str(error).partition(';')[0])}") from None
    if _is_suspect(raw):
        _refuse_unfit(value)
    return value


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Refused
    return value


def _refuse_constant(_name: str) -> NoReturn:
    raise _Refused


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise _Refused
    return number


# Made once: with a hook, json.loads makes one per call, which takes as long as to parse a route.
_STRICT: Final = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates, parse_constant=_refuse_constant, parse_float=_finite
)
_LENIENT: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def _is_suspect(raw: bytes) -> bool:
    """Whether the value must be walked: it could be too deep, or hold half a surrogate pair."""
    return raw.count(b"[") + raw.count(b"{") > MAX_DEPTH or b"\\ud" in raw or b"\\uD" in raw


def _refuse_unfit(value: Any) -> None:
    try:
        copy_json(value)
    except Unfit as unfit:
        raise ValueError(f"invalid JSON: {unfit.reason}{_at(path_of(unfit.place))}") from None


def _find_fault(text: str) -> str:
    """Parse again, keeping what was refused, and say what it is and where it stands."""
    value = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_BadNumber, parse_float=_number_or_text)
    return "invalid JSON: " + (_fault(value, ()) or "not acceptable")


def _number_or_text(digits: str) -> float | _BadNumber:
    number = float(digits)
    return number if isfinite(number) else _BadNumber(digits)


def _fault(value: Any, place: tuple[str | int, ...]) -> str | None:
    if isinstance(value, _BadNumber):
        return f"{bare(value)} is no number that JSON knows, or too large for one{_at(path_of(place))}"
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, item in value:
            if name in seen:
                return f"duplicate name {quote(name)}{_at(path_of(place))}"
            seen.add(name)
            if fault := _fault(item, (*place, name)):
                return fault
    elif isinstance(value, list):
        for position, item in enumerate(value):
            if fault := _fault(item, (*place, position)):
                return fault
    return None


def _at(path: str) -> str:
    return f" at {path}" if path else " at the top"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
