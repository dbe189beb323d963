"""`_meta.filter`: of which requests a plugin takes part in anything (apisix/plugin.lua, meta_filter).

Asked once per request, in the first phase of the plugin; the answer counts for all phases, whatever plugins change of
the request afterwards. A condition about the body cannot be asked then and there: a step of its own awaits the body
before the plugin's first phase. Where no request came that far, as when another plugin refused it, such a plugin does
nothing in the response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gw.expr import SearchTooLong
from gw.pipeline.body_variables import NeedsWait, find_body_variable, forget_body
from gw.pipeline.conditions import Getter, compile_condition, find_text
from gw.pipeline.context import Context
from gw.pipeline.path import UnsafeRequest
from gw.pipeline.reply import BAD_REQUEST, Reply


class AboutBody:
    """A condition that reads variables of the body. It raises as `gw.pipeline.body_variables` says."""

    __slots__ = ("_holds",)

    def __init__(self, holds: Callable[[Context], bool]) -> None:
        self._holds = holds

    def __call__(self, ctx: Context) -> bool:
        return self._holds(ctx)


def compile_filter(expression: object) -> Callable[[Context], bool]:
    """Settle a filter; an AboutBody where it reads the body. Raises gw.expr.ExpressionError, a ValueError."""
    of_body: list[str] = []

    def find(name: str) -> Getter | None:
        if (get := find_body_variable(name)) is not None:
            of_body.append(name)
            return get
        return find_text(name)

    holds = compile_condition(expression, find)
    return AboutBody(holds) if of_body else holds


class MetaFilter:
    """The filter of one instance, asked once per request."""

    __slots__ = ("_holds", "_key")

    def __init__(self, owner: str, plugin: str, holds: Callable[[Any], bool]) -> None:
        self._holds = holds
        self._key = ("_meta.filter", owner, plugin)

    @property
    def waits(self) -> bool:
        """Whether `prepare` is to be run before the first question."""
        return isinstance(self._holds, AboutBody)

    async def prepare(self, ctx: Any) -> Reply | None:
        """Ask, and await what that needs; what to answer where neither yes nor no is to be had. Raises BodyTooLarge."""
        answers = ctx.state
        if self._key in answers:
            return None
        while True:
            try:
                answers[self._key] = bool(self._holds(ctx))
            except NeedsWait as wait:
                await wait.prepare(ctx)
            except (SearchTooLong, UnsafeRequest):
                answers[self._key] = False
                return BAD_REQUEST
            else:
                forget_body(ctx)
                return None

    def __call__(self, ctx: Any) -> bool:
        """Raises SearchTooLong, once: what is answered then goes on without this plugin."""
        answers = ctx.state
        answer: bool | None = answers.get(self._key)
        if answer is None:
            answers[self._key] = False
            try:
                answer = answers[self._key] = bool(self._holds(ctx))
            except NeedsWait:
                answer = False
        return answer

    def or_refusal(self, ctx: Any) -> bool | Reply:
        """The same, and what to answer where neither yes nor no is to be had."""
        try:
            return self(ctx)
        except SearchTooLong:
            return BAD_REQUEST


def only_where(
    run: Callable[..., Any], holds: MetaFilter, *, of_body: bool, refuses: bool, is_async: bool
) -> Callable[..., Any]:
    """A phase's method, called where the filter holds. `of_body`: it filters a body; `refuses`: it may answer."""
    if of_body:
        if is_async:

            async def filtered(ctx: Any, piece: bytes, is_last: bool) -> bytes:
                return (await run(ctx, piece, is_last)) if holds(ctx) else piece

            return filtered
        return lambda ctx, piece, is_last: run(ctx, piece, is_last) if holds(ctx) else piece
    # gw.pipeline.filtering knows what a response becomes when a filter raises.
    ask = holds.or_refusal if refuses else holds
    if is_async:

        async def awaited(ctx: Any) -> Any:
            answer = ask(ctx)
            return await run(ctx) if answer is True else answer or None

        return awaited

    def ran(ctx: Any) -> Any:
        answer = ask(ctx)
        return run(ctx) if answer is True else answer or None

    return ran
