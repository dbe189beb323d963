"""The step between authentication and the rest: the route as it is for the consumer that was found.

It ends the rewrite phase of routes on which a plugin may attach a consumer (gw.pipeline.phases), and walks what comes
after it. Without a consumer, or for one that brings no plugins, that is the route's own access phase; else it is what
the route has become with the consumer's plugins and those of its group, from their rewrite phase on, and so are all
phases from here: filters, log.

Source: http_access_phase in apisix/init.lua (merge_consumer_route, then rewrite_in_consumer, then access).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

from gw.pipeline.caller import Caller
from gw.pipeline.failing import await_step, run_step
from gw.pipeline.filtering import filter_by
from gw.pipeline.phases import Step
from gw.pipeline.reply import Reply
from gw.pipeline.route import CompiledRoute

# The name under which a failure of this step itself is logged.
_NAME: Final = "consumer"

# (the route that the request walks, who it comes from) -> the route for him
JoinRoute = Callable[[CompiledRoute, Caller], CompiledRoute]
_Going = Coroutine[Any, Any, Reply | None]


def join_step(join: JoinRoute, owner: str) -> Step:
    """The step for a route. It counts as one that awaits: what it answers is None, or something to be awaited."""

    def run(ctx: Any) -> _Going | None:
        caller: Caller | None = ctx.consumer
        if caller is not None and caller.brings_plugins:
            route = join(ctx.route, caller)
            if route is not ctx.route:
                ctx.route = route
                filter_by(ctx, route.phases)
        rest: tuple[Step, ...] = ctx.route.phases.rest
        return _walk(rest, ctx) if rest else None

    return Step(run, _NAME, owner, True)


def _walk(steps: tuple[Step, ...], ctx: Any) -> _Going | None:
    """Plain steps run here and now, without a task; from the first one on that awaits or answers, it is a coroutine."""
    for number, step in enumerate(steps, 1):
        outcome = run_step(step, ctx)
        if outcome is not None:
            return _go_on(outcome, step, steps[number:], ctx)
    return None


async def _go_on(outcome: Any, step: Step, rest: tuple[Step, ...], ctx: Any) -> Reply | None:
    reply: Reply | None = await await_step(outcome, step) if step.is_async else outcome
    for step in rest:
        if reply is not None:
            break
        outcome = run_step(step, ctx)
        reply = await await_step(outcome, step) if step.is_async and outcome is not None else outcome
    return reply
