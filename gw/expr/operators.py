"""The operators of lua-resty-expr, each settled to a predicate over a context (its lib/resty/expr/v1.lua).

A variable is text, or None where the request has no value for it; some are lists, and those of a JSON body are whatever
stands there. Against a number, the text counts as the number it spells; what spells none is equal to none, and neither
more nor less than any. Numbers are doubles, as in Lua: a whole number beyond them is infinite.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from gw.expr.errors import ExpressionError, shown
from gw.expr.search import compile_search

Getter: TypeAlias = Callable[[Any], Any]
Predicate: TypeAlias = Callable[[Any], bool]


class Addresses(Protocol):
    """A set of addresses, to be asked with one as text."""

    def __contains__(self, address: str, /) -> bool: ...


# Addresses and CIDR blocks as text -> the set of them. Raises ValueError.
Networks: TypeAlias = Callable[[Sequence[str]], Addresses]
Operator: TypeAlias = Callable[[Getter, Any, Networks], Predicate]

_DECIMAL: Final = re.compile(r"\s*[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*", re.ASCII).fullmatch
_HEXADECIMAL: Final = re.compile(r"\s*([+-]?)0[xX]([0-9A-Fa-f]{1,16})\s*", re.ASCII).fullmatch
# More digits mean no other number, and int() of very many takes long.
_LONGEST_NUMBER: Final = 64


def to_number(value: Any) -> float | None:
    """Lua's tonumber, without its words for infinity."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _double(value)
    if not isinstance(value, str) or len(value) > _LONGEST_NUMBER:
        return None
    if _DECIMAL(value):
        return float(value)
    if match := _HEXADECIMAL(value):
        number = float(int(match[2], 16))
        return -number if match[1] == "-" else number
    return None


def _double(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _to_text(value: Any) -> str | None:
    """Lua's tostring of what a pattern can be looked for in: texts and numbers."""
    if isinstance(value, str):
        return value
    return f"{_double(value):.14g}" if _is_number(value) else None


def _equal(get: Getter, wanted: Any, _: Networks) -> Predicate:
    if wanted is None or isinstance(wanted, bool):
        return lambda ctx: get(ctx) is wanted
    if _is_number(wanted):
        number = _double(wanted)
        return lambda ctx: to_number(get(ctx)) == number
    return lambda ctx: bool(get(ctx) == wanted)


def _unequal(get: Getter, wanted: Any, networks: Networks) -> Predicate:
    equal = _equal(get, wanted, networks)
    return lambda ctx: not equal(ctx)


def _compared(holds: Callable[[float, float], bool]) -> Operator:
    def settle(get: Getter, bound: Any, _: Networks) -> Predicate:
        number = to_number(bound)
        if number is None:
            raise ExpressionError(f"{shown(bound)} is no number, so nothing is more or less than it")

        def predicate(ctx: Any) -> bool:
            value = to_number(get(ctx))
            return value is not None and holds(value, number)

        return predicate

    return settle


def _matches(ignores_case: bool) -> Operator:
    def settle(get: Getter, pattern: Any, _: Networks) -> Predicate:
        if not isinstance(pattern, str):
            raise ExpressionError(f"{shown(pattern)} is no regular expression")
        search = compile_search(pattern, ignores_case=ignores_case)

        def predicate(ctx: Any) -> bool:
            text = _to_text(get(ctx))
            return text is not None and search(text)

        return predicate

    return settle


def _in(get: Getter, values: Any, _: Networks) -> Predicate:
    if not isinstance(values, list | tuple):
        raise ExpressionError("`in` needs a list")
    texts = frozenset(value for value in values if isinstance(value, str))
    numbers = frozenset(_double(value) for value in values if _is_number(value))

    def predicate(ctx: Any) -> bool:
        value = get(ctx)
        return (isinstance(value, str) and value in texts) or (bool(numbers) and to_number(value) in numbers)

    return predicate


def _has(get: Getter, wanted: Any, _: Networks) -> Predicate:
    is_bool = isinstance(wanted, bool)

    def predicate(ctx: Any) -> bool:
        value = get(ctx)
        # To Python true is 1, and to nobody else.
        return isinstance(value, list | tuple) and any(
            each == wanted and isinstance(each, bool) is is_bool for each in value
        )

    return predicate


def _ip_match(get: Getter, written: Any, networks: Networks) -> Predicate:
    addresses = [written] if isinstance(written, str) else written
    if not isinstance(addresses, list | tuple) or not addresses:
        raise ExpressionError("invalid ip address: `ipmatch` needs an address, a CIDR block, or a list of them")
    try:
        among = networks([address if isinstance(address, str) else "" for address in addresses])
    except ValueError as error:
        raise ExpressionError(f"invalid ip address: {error}") from None

    def predicate(ctx: Any) -> bool:
        value = get(ctx)
        return isinstance(value, str) and value in among

    return predicate


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


OPERATORS: Final[dict[str, Operator]] = {
    "==": _equal,
    "~=": _unequal,
    ">": _compared(lambda value, bound: value > bound),
    ">=": _compared(lambda value, bound: value >= bound),
    "<": _compared(lambda value, bound: value < bound),
    "<=": _compared(lambda value, bound: value <= bound),
    "~~": _matches(ignores_case=False),
    "~*": _matches(ignores_case=True),
    "in": _in,
    "has": _has,
    "ipmatch": _ip_match,
}
