"""Whether an expression can be settled at all, for those who store it and know neither requests nor variables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gw.expr.compile import compile_expression
from gw.expr.errors import ExpressionError
from gw.expr.networks import parse_network
from gw.expr.operators import Addresses, Getter


def check(expression: object) -> str | None:
    """Why an expression (`vars`, `_meta.filter`) is none, with its place (`rule too short (at [2])`); None when it is.

    Names of variables are not looked at: which there are is known where requests are served.
    """
    try:
        compile_expression(expression, find=_any_variable, networks=_checked_networks)
    except ExpressionError as error:
        return str(error)
    return None


def _any_variable(name: str) -> Getter:
    return _no_value


def _no_value(_: Any) -> None:
    return None


def _checked_networks(written: Sequence[str]) -> Addresses:
    for text in written:
        parse_network(text)
    return ()
