"""Conditions of the configuration (`_meta.filter`, a plugin's `vars`) over a request's variables.

`gw.expr` has the language; here it meets variables and addresses. A route's conditions are in `route_condition`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from gw.expr import compile_expression, parse_network
from gw.pipeline.addresses import AddressSet
from gw.pipeline.context import Context
from gw.pipeline.variables import find_variable, wire_encoding

Getter: TypeAlias = Callable[[Context], Any]

# Each of many routes has a set of its own, and looking costs a microsecond.
_REMEMBERED_ADDRESSES: Final = 16


def compile_condition(
    expression: object, find: Callable[[str], Getter | None] | None = None
) -> Callable[[Context], bool]:
    """Settle a condition. Raises gw.expr.ExpressionError, a ValueError that says what is wrong where.

    `find`: another source of variables than all that can be read at any time. The predicate raises
    gw.expr.SearchTooLong where neither yes nor no is to be had.
    """
    return compile_expression(expression, find=find or find_text, networks=address_set)


def address_set(written: Sequence[str]) -> AddressSet:
    """Addresses and CIDR blocks, made for being asked often. Raises ValueError."""
    return AddressSet([parse_network(text) for text in written], _REMEMBERED_ADDRESSES)


def find_text(name: str) -> Getter | None:
    """What reads a variable as the text that a condition is written in: also where the table has a character for each
    byte of a header, since the configuration is UTF-8.
    """
    get = find_variable(name)
    if get is None or wire_encoding(name) != "latin-1":
        return get
    read = get

    def text(ctx: Context) -> str | None:
        value = read(ctx)
        if value is None or value.isascii():
            return value
        return value.encode("latin-1", "replace").decode("utf-8", "surrogateescape")

    return text
