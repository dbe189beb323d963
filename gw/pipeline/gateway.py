"""What all exchanges of a worker share, and who gets to know how each ended."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gw.pipeline.context import Context, Request
from gw.pipeline.failing import failing_step, search_too_long
from gw.pipeline.path_view import PathView
from gw.pipeline.phases import Step
from gw.pipeline.request_body import TO_MATCH_BYTES
from gw.pipeline.route import Routes
from gw.shm.counter_layout import ROW_BYTES
from gw.shm.counters import TrafficCounters
from gw.upstream.client import UpstreamClient

logger = logging.getLogger(__name__)

# It must not raise.
Ended = Callable[[Context], None]


class Gateway:
    """The configuration, the connections, the gateway's name.

    `on_ended` is told of each exchange when it is over. `locate`, where there is one, works out the client's address
    from what trusted proxies say. `shows_every_status`: clients are told what upstreams answered, and not only of
    failures (APISIX's show_upstream_status_in_response_header).
    """

    __slots__ = (
        "_on_ended",
        "_tasks",
        "counters",
        "locate",
        "loop",
        "max_body_bytes",
        "max_body_to_match_bytes",
        "max_graphql_bytes",
        "path_view",
        "routes",
        "server_header",
        "shows_status_from",
        "upstreams",
    )

    def __init__(
        self,
        routes: Routes,
        upstreams: UpstreamClient,
        *,
        server_name: str,
        max_body_bytes: int = 0,
        max_body_to_match_bytes: int = TO_MATCH_BYTES,
        max_graphql_bytes: int = TO_MATCH_BYTES,
        path_view: PathView | None = None,
        locate: Callable[[Request], None] | None = None,
        counters: TrafficCounters | None = None,
        on_ended: Ended | None = None,
        shows_every_status: bool = False,
    ) -> None:
        """`server_name`: the value of `Server` in every response, such as `Jitterway/0.1.0`.

        `max_body_bytes`: a request with a larger body is answered 413; 0 lets any pass. `max_body_to_match_bytes`: the
        same, where a route's condition asks for the body; `max_graphql_bytes`: where it is to be parsed as GraphQL.
        `path_view`: what of a path counts, None for all of it.
        """
        self.routes = routes
        self.upstreams = upstreams
        self.loop = upstreams.loop
        self.max_body_bytes = max_body_bytes
        self.max_body_to_match_bytes = max_body_to_match_bytes
        self.max_graphql_bytes = max_graphql_bytes
        self.path_view = path_view
        self.server_header: Final = (b"server", server_name.encode("ascii"))
        self.locate = locate
        self.counters = counters or TrafficCounters(memoryview(bytearray(ROW_BYTES)))
        self._on_ended = on_ended
        self.shows_status_from = 0 if shows_every_status else 500
        self._tasks: dict[asyncio.Task[Any], float] = {}

    def spawn(
        self, work: Coroutine[Any, Any, Any], name: str = "plugin", *, patience_s: float = 0.0
    ) -> asyncio.Task[Any]:
        """Start a task that this worker owns. Its failure is logged.

        `patience_s`: how long `close` lets it go on before it is cancelled, for what would be lost otherwise.
        """
        task = self.loop.create_task(work, name=name)
        self._tasks[task] = patience_s
        task.add_done_callback(self._over)
        return task

    def plugin_failed(self, step: Step, ctx: Context) -> None:
        """Say which plugin of which resource raised, for which request. Called while the exception is handled."""
        error = sys.exception()
        step = failing_step(error, step)
        if (too_long := search_too_long(error)) is not None:
            # No failure of the plugin: clients could cause it as often as they like.
            logger.warning(
                "plugin %s of %s: %s (route %s, request %s)",
                step.plugin, step.owner, too_long, ctx.route_id, ctx.request_id,
            )  # fmt: skip
            return
        self.counters.plugin_failed()
        logger.exception(
            "plugin %s of %s failed (route %s, request %s)", step.plugin, step.owner, ctx.route_id, ctx.request_id
        )

    def end(self, ctx: Context) -> None:
        """An exchange is over: its log phase, then the worker's own account. Harms nobody when one of them fails."""
        route = ctx.route
        if route is not None and route.phases.log:
            self._run_log(route.phases.log, ctx)
        self.counters.request_done(ctx.status, ctx.received_bytes, ctx.sent_bytes, ctx.ended_s - ctx.started_s)
        if self._on_ended is not None:
            self._on_ended(ctx)

    def refused(self, status: int, sent_bytes: int) -> None:
        """Something that never became a request was answered so."""
        self.counters.request_started()
        self.counters.request_done(status, 0, sent_bytes, 0.0)

    def _run_log(self, steps: tuple[Step, ...], ctx: Context) -> None:
        # What a logger takes out of them is not to be missing from the next request and response with the same heads.
        ctx.request.headers = ctx.request.headers.copy()
        ctx.response_headers = ctx.response_headers.copy()
        for step in steps:
            try:
                outcome = step.run(ctx)
                if step.is_async:
                    self.spawn(self._awaited(outcome, step, ctx), f"log of {step.plugin}")
            except Exception:
                self.plugin_failed(step, ctx)

    async def _awaited(self, outcome: Coroutine[Any, Any, Any], step: Step, ctx: Context) -> None:
        try:
            await outcome
        except Exception:
            self.plugin_failed(step, ctx)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("task %s failed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        """Stop what plugins still do: at once, but for tasks that asked for patience."""
        began_s = self.loop.time()
        while tasks := dict(self._tasks):
            spent_s = self.loop.time() - began_s
            waits_s = [patience_s - spent_s for patience_s in tasks.values() if patience_s > spent_s]
            for task, patience_s in tasks.items():
                if patience_s <= spent_s:
                    task.cancel()
            await asyncio.wait(tasks, timeout=min(waits_s, default=None), return_when=asyncio.FIRST_COMPLETED)
