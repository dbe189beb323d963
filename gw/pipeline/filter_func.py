"""`filter_func`: a route's own condition as Python source, settled to a callable. Only where `gw.allow_code` is on.

APISIX has Lua there (`function(vars) return vars["arg_x"] == "1" end`). Here it is one function of one argument, with
imports before it if need be, or a lambda:

    lambda vars: vars["arg_x"] == "1"

    def matches(vars):
        return vars["arg_x"] == "1" and vars.get("http_x_stage") is None

`vars` is a mapping from the names of variables to their values, None where the request has none; a name that is no
variable is a KeyError.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from textwrap import dedent
from typing import Any, Final, TypeAlias

from gw.pipeline.context import Context
from gw.pipeline.variable_table import NAMED
from gw.pipeline.variables import Getter

FilterFunc: TypeAlias = Callable[[Mapping[str, Any]], object]
Finder: TypeAlias = Callable[[str], Getter | None]

# The name of the source in tracebacks.
PLACE: Final = "<filter_func>"
# Names that code asks for, which may come from requests: the bound keeps those from growing the cache.
_REMEMBERED: Final = 1024


class FilterFuncError(ValueError):
    """The source is no function of one argument. The text says why, and where."""


class RequestVariables(Mapping[str, Any]):
    """What a filter_func sees of a request."""

    __slots__ = ("_ctx", "_find")

    def __init__(self, ctx: Context, find: Finder) -> None:
        self._ctx = ctx
        self._find = find

    def __getitem__(self, name: str) -> Any:
        get = self._find(name)
        if get is None:
            raise KeyError(f"there is no variable {name!r}")
        return get(self._ctx)

    def __iter__(self) -> Iterator[str]:
        """Those with names of their own; what `arg_`, `http_` and the like stand for cannot be listed."""
        return iter(NAMED)

    def __len__(self) -> int:
        return len(NAMED)


def remembering(find: Finder) -> Finder:
    """The same finder, which makes a getter once and not at every look."""
    return lru_cache(_REMEMBERED)(find)


def compile_filter_func(source: str) -> FilterFunc:
    """Settle a source. Raises FilterFuncError. Imports run now; the function does not."""
    try:
        tree = ast.parse(dedent(source).strip(), PLACE)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FilterFuncError(f"filter_func is no Python: {error}") from None
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Lambda):
        function = _named(tree.body[0].value)
        tree.body[0] = function
    *before, last = tree.body or [ast.Pass()]
    only_imports = all(isinstance(each, ast.Import | ast.ImportFrom) for each in before)
    if not isinstance(last, ast.FunctionDef) or not only_imports:
        raise FilterFuncError("filter_func must be one function, with nothing but imports before it, or one lambda")
    if not _takes_one(last.args):
        raise FilterFuncError("the function of filter_func must take one argument: the variables")
    space: dict[str, Any] = {"__builtins__": builtins, "__name__": "filter_func"}
    try:
        exec(compile(tree, PLACE, "exec"), space)  # noqa: S102 - it is what gw.allow_code allows
    except Exception as error:
        raise FilterFuncError(f"filter_func cannot be prepared: {error!r}") from None
    # Out of its own globals: a function that they hold holds them, and no collector would find the two.
    made: FilterFunc = space.pop(last.name)
    return made


def _named(written: ast.Lambda) -> ast.FunctionDef:
    """The function that a lambda stands for."""
    body = ast.copy_location(ast.Return(written.body), written)
    function = ast.FunctionDef(name="matches", args=written.args, body=[body], decorator_list=[])
    return ast.fix_missing_locations(ast.copy_location(function, written))


def _takes_one(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required_by_name = sum(default is None for default in arguments.kw_defaults)
    enough = positional >= 1 or arguments.vararg is not None
    return enough and positional - len(arguments.defaults) <= 1 and not required_by_name
