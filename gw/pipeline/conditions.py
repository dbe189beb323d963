"""Conditions of the configuration (`_meta.filter`, a plugin's or a route's `vars`) over a request's variables.

`gw.expr` has the language; here it meets variables and addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gw.expr import compile_expression, parse_network
from gw.pipeline.addresses import AddressSet
from gw.pipeline.context import Context
from gw.pipeline.variables import find_variable


def compile_condition(expression: object) -> Callable[[Context], bool]:
    """Settle a condition. Raises gw.expr.ExpressionError, a ValueError that says what is wrong where."""
    return compile_expression(expression, find=find_variable, networks=_address_set)


def _address_set(written: Sequence[str]) -> AddressSet:
    return AddressSet([parse_network(text) for text in written])
