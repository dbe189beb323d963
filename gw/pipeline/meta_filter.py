"""`_meta.filter`: whether one instance of a plugin takes part in a request (meta_filter in apisix/plugin.lua).

It is asked in the first phase in which the plugin takes part, and what it answered holds for the rest, whatever plugins
change of the request afterwards. A filter about the request's body waits for it, so it is asked before the request
leaves: of a plugin that takes part in the response alone, at the end of the access phase.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from typing import Any, Final, TypeAlias

from gw.expr import SearchTooLong
from gw.pipeline.body_variables import Getter, NeedsWait, find_body_variable
from gw.pipeline.conditions import compile_condition, find_text
from gw.pipeline.path import UnsafeRequest
from gw.pipeline.reply import BAD_REQUEST, Reply

Holds: TypeAlias = Callable[[Any], bool]


class AsksBody:
    """A predicate that may raise NeedsWait."""

    __slots__ = ("_holds",)

    def __init__(self, holds: Holds) -> None:
        self._holds = holds

    def __call__(self, ctx: Any) -> bool:
        return self._holds(ctx)


def compile_meta_filter(expression: object) -> Holds:
    """Settle a filter: an AsksBody where it names a variable of the body. Raises gw.expr.ExpressionError."""
    asked: list[str] = []

    def find(name: str) -> Getter | None:
        get = find_body_variable(name)
        if get is not None:
            asked.append(name)
        return get or find_text(name)

    holds = compile_condition(expression, find)
    return AsksBody(holds) if asked else holds


class Filter:
    """The filter of one instance. `key` is where its answer is kept in a request's state."""

    __slots__ = ("_holds", "_key", "asks_body")

    def __init__(self, holds: Holds, key: tuple[str, str]) -> None:
        self._holds = holds
        self._key: Final = ("_meta.filter", *key)
        self.asks_body = isinstance(holds, AsksBody)

    def __call__(self, ctx: Any) -> bool:
        """For phases of the response. Raises SearchTooLong, once: the answer then goes on without this plugin.

        Where the body was not waited for, since the request was answered before the plugin's turn, it does not hold.
        """
        try:
            return self._ask(ctx)
        except NeedsWait:
            return False

    def or_refusal(self, ctx: Any) -> bool | Reply:
        """The same for phases of the request; and what to answer where neither yes nor no is to be had.

        Raises NeedsWait.
        """
        try:
            return self._ask(ctx)
        except (SearchTooLong, UnsafeRequest):
            return BAD_REQUEST

    async def once_body_came(self, ctx: Any) -> bool | Reply:
        """The same, however long it takes. Raises BodyTooLarge."""
        while True:
            try:
                return self.or_refusal(ctx)
            except NeedsWait as wait:
                await wait.prepare(ctx)

    async def ask_early(self, ctx: Any) -> Reply | None:
        """A step of the request for a plugin that has none of its own."""
        answer = await self.once_body_came(ctx)
        return answer if isinstance(answer, Reply) else None

    def _ask(self, ctx: Any) -> bool:
        answers = ctx.state
        answer: bool | None = answers.get(self._key)
        if answer is None:
            answers[self._key] = False
            try:
                answer = answers[self._key] = bool(self._holds(ctx))
            except NeedsWait:
                del answers[self._key]
                raise
        return answer


def only_where(holds: Filter, run: Callable[..., Any], *, is_async: bool, may_refuse: bool) -> Callable[..., Any]:
    """A method that takes the context alone, where the filter holds. `may_refuse`: it belongs to the request.

    It is to be awaited where `is_async`, or where the filter asks for the body and may do so.
    """
    if may_refuse and holds.asks_body:

        async def waited(ctx: Any) -> Any:
            answer = await holds.once_body_came(ctx)
            if answer is not True:
                return answer or None
            outcome = run(ctx)
            return await outcome if iscoroutine(outcome) else outcome

        return waited
    # Of a response nothing can be refused any more.
    ask = holds.or_refusal if may_refuse else holds
    if is_async:

        async def awaited(ctx: Any) -> Any:
            answer = ask(ctx)
            return await run(ctx) if answer is True else answer or None

        return awaited

    def ran(ctx: Any) -> Any:
        answer = ask(ctx)
        return run(ctx) if answer is True else answer or None

    return ran


def pieces_only_where(holds: Filter, run: Callable[..., Any], *, is_async: bool) -> Callable[..., Any]:
    """The same for a body filter: where the filter does not hold, pieces pass as they came."""
    if is_async:

        async def awaited(ctx: Any, piece: bytes, is_last: bool) -> bytes:
            return (await run(ctx, piece, is_last)) if holds(ctx) else piece

        return awaited
    return lambda ctx, piece, is_last: run(ctx, piece, is_last) if holds(ctx) else piece
