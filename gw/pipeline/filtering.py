"""What stands in the client's place where a route has header or body filters: the same calls, filtered.

Filters may change everything but the framing, which is ours: with a filter that changes the body, whatever length was
announced no longer holds, so it goes, and the client side frames the body; without one, it stands, or a filter takes it
away. A filter that raises before the head left makes the answer a 500, or a 400 where a condition of its cannot be
decided for this request; later the response breaks off. An interim response and a tunnel pass untouched.

Plain filters run in the callback that brings the piece. Where one of them awaits, everything is queued and a task works
it off in order; the upstream is paused while too much waits. The exchange is over when that task has passed the end on.

A request whose consumer is found goes on with other plugins, so with other filters: `filter_by` changes them, before
there is a response.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from gw.pipeline.client import Client
from gw.pipeline.context import Response
from gw.pipeline.failing import search_too_long
from gw.pipeline.fields import Headers
from gw.pipeline.gateway import Gateway
from gw.pipeline.phases import Phases, Step
from gw.pipeline.reply import error_reply, failed_reply
from gw.upstream.response import ResponseHead

if TYPE_CHECKING:
    from gw.pipeline.exchange import Exchange
    from gw.pipeline.forwarding import Forwarding
    from gw.upstream.connection import UpstreamConnection

# Of a response that waits for a filter that awaits: as much as waits for a slow client elsewhere.
_HIGH_WATER_BYTES: Final = 64 * 1024
_NO_BODY_STATUSES: Final = frozenset((204, 304))
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class _Failed(Exception):
    def __init__(self, step: Step) -> None:
        super().__init__(step.plugin)
        self.step = step


class Filtering:
    """Made per exchange. See the module's rules.

    `awaits`: a filter does; `client_is_slow`: it wants the response to pause; `head_left`: it was given a head.
    """

    __slots__ = (
        "_client",
        "_exchange",
        "_gateway",
        "_is_paused",
        "_phases",
        "_queue",
        "_queued_bytes",
        "_task",
        "awaits",
        "client_is_slow",
        "head_left",
    )

    def __init__(self, client: Client, exchange: Exchange, gateway: Gateway, phases: Phases) -> None:
        self._client: Client | None = client
        self._exchange: Exchange | None = exchange
        self._gateway = gateway
        self._phases = phases
        self.awaits = phases.filters_await
        self.client_is_slow = False
        self.head_left = False
        self._queue: deque[tuple[Callable[..., Awaitable[None]], tuple[Any, ...]]] = deque()
        self._queued_bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._is_paused = False

    @property
    def is_held_up(self) -> bool:
        """Whether filters or the client have enough for now."""
        return self._is_paused or self.client_is_slow

    @property
    def is_working(self) -> bool:
        """Whether the client has not been given the end yet."""
        return self._client is not None

    def walk(self, phases: Phases) -> None:
        """Take these filters from here on. Before there is a head."""
        self._phases = phases
        # Once the exchange waits for the task, it always does.
        self.awaits = self.awaits or phases.filters_await

    # What the exchange calls; see gw.pipeline.client.Client.

    def response_interim(self, status: int, headers: Headers) -> None:
        if self._client is not None:
            self._client.response_interim(status, headers)

    def response_head(self, status: int, reason: bytes, headers: Headers) -> None:
        if self.awaits:
            self._later(self._head_awaited, status, reason, headers)
            return
        if self._exchange is None:
            return
        filtered = self._filter_head(self._exchange, status, reason, headers)
        if filtered is not None and self._client is not None:
            self._client.response_head(filtered.status, filtered.reason, filtered.headers)

    def _filter_head(self, exchange: Exchange, status: int, reason: bytes, headers: Headers) -> ResponseHead | None:
        """The head that is to leave, None where a filter failed."""
        response, framing = self._begin(exchange, status, headers)
        try:
            for step in self._phases.header_filter:
                _run(step, exchange)
        except _Failed as failure:
            self._fail(failure.step)
            return None
        return self._settle_head(exchange, response, framing, status, reason)

    def response(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        if self.awaits or self._phases.body_filter or self._exchange is None:
            self.response_head(head.status, head.reason, head.headers)
            if body:
                self.response_body(body)
            self.response_end([])
            return
        filtered = self._filter_head(self._exchange, head.status, head.reason, head.headers)
        client, self._client = self._client, None
        self._exchange = None
        if filtered is not None and client is not None:
            client.response(filtered, body, now_s)

    def response_body(self, piece: bytes) -> None:
        if self.awaits:
            self._queued_bytes += len(piece)
            self._later(self._body_awaited, piece, False)
            self._pause_if_full()
        else:
            self._body(piece, is_last=False)

    def response_flush(self) -> None:
        if self._client is not None and self.head_left:
            self._client.response_flush()

    def response_end(self, trailers: Headers) -> None:
        if self.awaits:
            self._later(self._end_awaited, trailers)
            return
        if self._has_body_filters:
            self._body(b"", is_last=True)
        self._end(trailers)

    def response_cut(self) -> None:
        if self.awaits:
            self._later(self._cut_awaited)
            return
        client, self._client = self._client, None
        if client is not None:
            client.response_cut()

    def stop(self) -> None:
        """Nobody listens any more: filters that still work on the response do so for nothing."""
        self._client = None
        self._exchange = None
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def tunnel(self, exchange: Forwarding, connection: UpstreamConnection, headers: Headers, rest: bytes) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.tunnel(exchange, connection, headers, rest)

    def pause_request(self) -> None:
        if self._client is not None:
            self._client.pause_request()

    def resume_request(self) -> None:
        if self._client is not None:
            self._client.resume_request()

    # Plain filters.

    @property
    def _has_body_filters(self) -> bool:
        exchange = self._exchange
        return bool(self._phases.body_filter) and (
            exchange is not None and exchange.request.method != "HEAD" and exchange.status not in _NO_BODY_STATUSES
        )

    def _begin(self, exchange: Exchange, status: int, headers: Headers) -> tuple[Response, Headers]:
        """What the filters get, and the fields that frame the body as it will be."""
        framing = [pair for pair in headers if pair[0] in _FRAMING]
        if framing and self._phases.changes_body:
            headers = [pair for pair in headers if pair[0] not in _FRAMING]
            framing = []
        else:
            # A list of their own: by what it passed, the upstream connection knows whether its end cuts the body.
            headers = list(headers)
        response = exchange.response = Response(status, headers)
        return response, framing

    def _settle_head(
        self, exchange: Exchange, response: Response, framing: Headers, status: int, reason: bytes
    ) -> ResponseHead:
        exchange.status = response.status
        exchange.response_headers = response.headers
        self.head_left = True
        left = [pair for pair in response.headers if pair[0] in _FRAMING]
        if left and left != framing:
            response.headers[:] = [pair for pair in response.headers if pair[0] not in _FRAMING] + framing
        return ResponseHead(response.status, reason if response.status == status else b"", response.headers)

    def _body(self, piece: bytes, *, is_last: bool) -> None:
        if self._has_body_filters:
            try:
                for step in self._phases.body_filter:
                    piece = _run(step, self._exchange, piece, is_last)
            except _Failed as failure:
                self._fail(failure.step)
                return
        self._pass_body(piece)

    def _pass_body(self, piece: bytes) -> None:
        if piece and self._client is not None:
            self._client.response_body(piece)

    def _end(self, trailers: Headers) -> None:
        client, self._client = self._client, None
        self._exchange = None
        if client is not None:
            client.response_end(trailers)

    def _fail(self, step: Step) -> None:
        """While the exception is handled."""
        client, self._client = self._client, None
        exchange, self._exchange = self._exchange, None
        self._queue.clear()
        if client is None or exchange is None:
            return
        if self.head_left:
            client.response_cut()
        else:
            undecided = search_too_long(sys.exception()) is not None
            reply = error_reply(400) if undecided else failed_reply(exchange.request_id)
            exchange.status = reply.status
            length = (b"content-length", b"%d" % len(reply.body))
            client.response_head(reply.status, b"", [*reply.headers, length, self._gateway.server_header])
            if exchange.request.method != "HEAD":
                client.response_body(reply.body)
            client.response_end([])
        exchange.filters_failed(step)

    # Filters that await.

    def _later(self, call: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        if self._client is None:
            return
        self._queue.append((call, arguments))
        if self._task is None:
            self._task = self._gateway.spawn(self._work_off(), "filters")

    async def _work_off(self) -> None:
        try:
            while self._queue:
                call, arguments = self._queue.popleft()
                await call(*arguments)
                if not self._queue:
                    # What waited for more that did not come, such as a head alone.
                    self.response_flush()
        except _Failed as failure:
            self._fail(failure.step)
        finally:
            self._task = None

    async def _head_awaited(self, status: int, reason: bytes, headers: Headers) -> None:
        if self._exchange is None:
            return
        response, framing = self._begin(self._exchange, status, headers)
        for step in self._phases.header_filter:
            await _awaited(step, self._exchange)
        exchange, client = self._exchange, self._client
        if exchange is not None and client is not None:
            left = self._settle_head(exchange, response, framing, status, reason)
            client.response_head(left.status, left.reason, left.headers)

    async def _body_awaited(self, piece: bytes, is_last: bool) -> None:
        self._queued_bytes -= len(piece)
        if self._has_body_filters:
            for step in self._phases.body_filter:
                piece = await _awaited(step, self._exchange, piece, is_last)
        self._pass_body(piece)
        if self._is_paused and self._queued_bytes <= _HIGH_WATER_BYTES and self._exchange is not None:
            self._is_paused = False
            self._exchange.resume_upstream()

    async def _end_awaited(self, trailers: Headers) -> None:
        if self._has_body_filters:
            await self._body_awaited(b"", True)
        exchange = self._exchange
        self._end(trailers)
        if exchange is not None:
            exchange.filters_done()

    async def _cut_awaited(self) -> None:
        """What came before the cut has been passed on."""
        client, self._client = self._client, None
        exchange, self._exchange = self._exchange, None
        if client is not None:
            client.response_cut()
        if exchange is not None:
            exchange.filters_done()

    def _pause_if_full(self) -> None:
        if self._queued_bytes > _HIGH_WATER_BYTES and not self._is_paused and self._exchange is not None:
            self._is_paused = True
            self._exchange.pause_upstream()


def filter_by(exchange: Exchange, phases: Phases) -> None:
    """Have the response pass through these filters, whatever stood in the client's place before.

    An exchange knows its filters as it does when it begins: by what stands in the client's place, and, where one of
    them awaits, by `_filtering`.
    """
    client = exchange._client
    if isinstance(client, Filtering):
        filtering = client
        filtering.walk(phases)
    elif client is not None and (phases.header_filter or phases.body_filter):
        exchange._client = filtering = Filtering(client, exchange, exchange._gateway, phases)
    else:
        return
    if filtering.awaits:
        exchange._filtering = filtering
        exchange._passes_later = True


def _run(step: Step, *arguments: Any) -> Any:
    try:
        return step.run(*arguments)
    except Exception as error:
        raise _Failed(step) from error


async def _awaited(step: Step, *arguments: Any) -> Any:
    try:
        outcome = step.run(*arguments)
        return await outcome if step.is_async else outcome
    except Exception as error:
        raise _Failed(step) from error
