"""Is a condition (`vars`, `_meta.filter`) one that a worker could ask? Names of variables are the worker's to know."""

from collections.abc import Sequence
from typing import Any, Final

from gw.expr import ExpressionError, compile_expression
from gw.schema.explain import Complaint
from gw.schema.formats import is_ip_or_cidr
from gw.schema.wording import Place

# As APISIX words it for both (apisix/admin/routes.lua, check_single_plugin_schema in apisix/plugin.lua).
_FAILED: Final = "failed to validate the 'vars' expression: "


def expression_complaint(place: Place, expression: object) -> Complaint | None:
    """What is wrong with the expression at `place`, in APISIX's words; None when it is one."""
    try:
        compile_expression(expression, find=_any_variable, networks=_checked_networks)
    except ExpressionError as error:
        within = tuple(int(step) for step in error.place.strip("[]").split("][") if step)
        return Complaint((*place, *within), _FAILED + error.reason, stands_alone=True)
    return None


def _any_variable(_name: str) -> Any:
    return lambda _ctx: None


def _checked_networks(written: Sequence[str]) -> Any:
    for text in written:
        if not is_ip_or_cidr(text):
            raise ValueError(f"{text!r} is neither an address nor a block")
    return ()
