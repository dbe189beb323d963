"""What a route asks of a request beyond path, host and method: `remote_addrs`, `vars`, `filter_func`.

Settled once for a route: when it changes, or else before the first request that comes to it. What of it cannot be
settled is left out here and named in `broken`: such a route answers 500 to the requests that meet the rest, since
serving it without the condition would let in what its owner keeps out, and passing it over would hand its requests to
another route.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from traceback import extract_tb
from typing import Final, TypeAlias

from gw.expr import SearchTooLong
from gw.model.route import Route
from gw.pipeline.body_variables import find_body_variable
from gw.pipeline.conditions import Getter, address_set, compile_condition, find_text
from gw.pipeline.context import Context
from gw.pipeline.filter_func import PLACE, FilterFunc, RequestVariables, compile_filter_func, remembering
from gw.pipeline.path import UnsafeRequest

Holds: TypeAlias = Callable[[Context], bool]


class FilterFuncFailed(Exception):
    """A filter_func raised. The route does not match; the text says what it raised."""


class RouteCondition:
    """Call it with a request's context.

    Raises NeedsWait (await, and ask again), FilterFuncFailed, and UnsafeRequest where a text makes a pattern explode.
    `broken`: what of the route's conditions cannot be asked, None when all can.
    """

    __slots__ = ("_parts", "broken")

    def __init__(self, parts: Sequence[Holds], broken: str | None) -> None:
        self._parts = tuple(parts)
        self.broken = broken

    def __call__(self, ctx: Context) -> bool:
        try:
            for holds in self._parts:
                if not holds(ctx):
                    return False
        except SearchTooLong as error:
            raise UnsafeRequest(str(error)) from None
        return True


def compile_route_condition(route: Route, *, allow_code: bool) -> RouteCondition:
    """Settle a route's conditions, cheap ones first. Raises nothing: see `RouteCondition.broken`."""
    parts: list[Holds] = []
    faults: list[str] = []
    settlers: dict[str, Callable[[], Holds]] = {}
    if route.remote_addrs:
        settlers["remote_addrs"] = lambda: _from(route.remote_addrs)
    if route.vars:
        settlers["vars"] = lambda: compile_condition(route.vars, find_at_matching)
    if (source := route.filter_func) is not None:
        settlers["filter_func"] = lambda: _filtered(source, allow_code)
    for name, settle in settlers.items():
        try:
            parts.append(settle())
        except ValueError as error:
            faults.append(f"{name}: {error}")
    return RouteCondition(parts, "; ".join(faults) or None)


def find_at_matching(name: str) -> Getter | None:
    """All variables of a request, those of its body, too. See `gw.pipeline.body_variables` for what these raise."""
    return find_body_variable(name) or find_text(name)


_find_remembered: Final = remembering(find_at_matching)


def _from(written: Sequence[str]) -> Holds:
    addresses = address_set(written)
    return lambda ctx: ctx.request.remote_addr in addresses


def _filtered(source: str, allow_code: bool) -> Holds:
    if not allow_code:
        raise ValueError("code in the configuration runs only where gw.allow_code is true")
    function: FilterFunc = compile_filter_func(source)

    def holds(ctx: Context) -> bool:
        try:
            return bool(function(RequestVariables(ctx, _find_remembered)))
        except UnsafeRequest:
            raise
        except Exception as error:
            # Not what it says: that may be a client's text, and a key in it.
            raise FilterFuncFailed(f"filter_func raised {type(error).__name__}{_line_of(error)}") from None

    return holds


def _line_of(error: Exception) -> str:
    """Where in the source; empty for a failure that no line of it is part of."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == PLACE]
    return f" (line {lines[-1]})" if lines else ""
