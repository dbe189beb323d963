"""Is a condition (`vars`, `_meta.filter`) one that a worker could ask? Names of variables are the worker's to know, but
for a path into a body, which can be seen to be none (as in APISIX, t/admin/routes_request_body.t)."""

import re
from collections.abc import Sequence
from typing import Any, Final

from gw.expr import ExpressionError, compile_expression
from gw.schema.explain import Complaint
from gw.schema.formats import is_ip_or_cidr
from gw.schema.wording import Place, bare

# As APISIX words it for all (apisix/admin/routes.lua, check_single_plugin_schema in apisix/plugin.lua, log-util.lua).
_FAILED: Final = "failed to validate the '{}' expression: "
_OF_BODY: Final = "post_arg."
# The paths that gw.pipeline.json_path reads, which this room may not import; a test holds both equal.
_STEPS: Final = re.compile(
    r"""(?>(?:\.\.)?(?:\.?(?:\*|\[\*\])|\[-?\d{1,9}\]|\[(['"]).*?\1\]|\.?[^.\[\]*]+))*\Z"""
)


def expression_complaint(place: Place, expression: object, name: str = "vars") -> Complaint | None:
    """What is wrong with the expression at `place`, in APISIX's words; None when it is one. `name` stands in them."""
    try:
        compile_expression(expression, find=_any_variable, networks=_checked_networks)
    except ExpressionError as error:
        within = tuple(int(step) for step in error.place.strip("[]").split("][") if step)
        return Complaint((*place, *within), _FAILED.format(name) + error.reason, stands_alone=True)
    return None


def is_json_path(path: str) -> bool:
    """Whether what stands behind `post_arg.` is a path into a JSON value."""
    if "[" in path or "*" in path or ".." in path:
        return _STEPS.match(path.removeprefix("$")) is not None
    return path.strip(".") != ""


def _any_variable(name: str) -> Any:
    if name.startswith(_OF_BODY) and not is_json_path(name.removeprefix(_OF_BODY)):
        raise ExpressionError(f"invalid expression: {bare(name)} names no place in a body")
    return lambda _ctx: None


def _checked_networks(written: Sequence[str]) -> Any:
    for text in written:
        if not is_ip_or_cidr(text):
            raise ValueError(f"{text!r} is neither an address nor a block")
    return ()
