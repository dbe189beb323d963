"""The core: one request and its response, between a client side and an upstream connection. No task, no await.

    client side (an adapter)         Exchange            UpstreamConnection
      start, request_body/end  --->           --->  write, request_complete
      response_head/body/end   <---           <---  upstream_head/body/end
      pause_request/resume     <---           <---  upstream_full/drained
      pause_response/resume    --->           --->  pause_reading/resume_reading
      client_gone              --->           --->  abort
      response_cut             <---           <---  upstream_failed

An exchange ends exactly once: the client side hears `response_end` (whole) or `response_cut` (not whole, and the
client must be able to see that), or says `client_gone`. After that neither side is called again, and the exchange
holds neither: no cycle is left for the collector.

Steps of a request: admit (canonical form), match, plugins, choose a node, plugins, connect, send; each is a method that
the one before calls, so that any of them can be followed by a wait. From the node on they stand in
`gw.pipeline.forwarding`, and what becomes of the request's body in `gw.pipeline.uploading`. A plugin that awaits gets a
task, from that plugin on; all others run in the callback that brought the request. Where a route has filters, what goes
back passes through `gw.pipeline.filtering`, which stands in the client's place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

from gw.model.merge import Missing
from gw.pipeline.body_variables import NeedsWait, forget_body
from gw.pipeline.client import Client
from gw.pipeline.context import Attempt, Request
from gw.pipeline.fields import Headers
from gw.pipeline.filtering import Filtering
from gw.pipeline.forwarding import NO_TRAILERS
from gw.pipeline.gateway import Gateway
from gw.pipeline.headers import (
    UnsafeRequest,
    admit,
    announces_more_than,
    drop_named_by_connection,
    read_headers,
)
from gw.pipeline.path import BadTarget, canonical_path
from gw.pipeline.phases import Phases, Step
from gw.pipeline.repeated import Repeated
from gw.pipeline.reply import (
    BAD_GATEWAY,
    BAD_REQUEST,
    BODY_TOO_LARGE,
    INTERNAL_ERROR,
    METHOD_NOT_ALLOWED,
    REQUEST_TIMEOUT,
    ROUTE_NOT_FOUND,
    SERVICE_UNAVAILABLE,
    Reply,
    error_reply,
    failed_reply,
)
from gw.pipeline.request_body import BodyTooLarge, RequestBody
from gw.pipeline.route import NO_ROUTE
from gw.pipeline.uploading import Uploading
from gw.pipeline.upstream import UpstreamRuntime

logger = logging.getLogger(__name__)

# As nginx, which APISIX stands on: a tunnel is not ours to give, and TRACE shows a script the headers it may not see.
_NOT_SERVED: Final = frozenset(("CONNECT", "TRACE"))
# nginx's status for a client that left before it was answered.
CLIENT_CLOSED_REQUEST: Final = 499


class Read(NamedTuple):
    """What `admit` read, before plugins had their turn."""

    headers: Headers
    remote_addr: str
    repeated: Repeated | None


class Exchange(Uploading):
    """See the module's rules. The client side makes one per request, calls `start`, and feeds the body, if any."""

    _task: asyncio.Task[None] | None = None
    _filtering: Filtering | None = None  # where filters await
    _read: Read | None = None

    def __init__(self, gateway: Gateway, client: Client, request: Request, received_bytes: int = 0) -> None:
        """`received_bytes`: of the head."""
        # PERF: what the bases' constructors do, in place: three calls are a tenth of a request (bench/request_path.py).
        self.request = request
        self.started_s = time.monotonic()
        self.received_bytes = received_bytes
        self._gateway = gateway
        self._client = client
        gateway.counters.request_started()

    # What the client side calls.

    def start(self) -> None:
        """Find the route, choose a node, and begin: the response may be there when this returns. Raises nothing."""
        if self.finished:
            return
        try:
            self._admit()
        except Exception as error:
            self._unfit(error)

    def request_cut(self) -> None:
        """The request's body will not become complete, though the client may still be there to hear so."""
        self._break_off(REQUEST_TIMEOUT)

    def body_malformed(self) -> None:
        """The request's body breaks its framing: nothing that comes can be trusted."""
        self._break_off(BAD_REQUEST)

    def client_gone(self) -> None:
        """Nobody listens any more: stop everything. Harmless when the exchange has finished."""
        filtering = self._filtering
        if not self.finished or filtering is not None:
            self._let_go()
            if filtering is not None:
                filtering.stop()
            if not self.status or (filtering is not None and not filtering.head_left):
                self.status = CLIENT_CLOSED_REQUEST
            self._finish()

    def pause_response(self) -> None:
        """The client is slow: leave the response in the upstream's socket."""
        if self._filtering is not None:
            self._filtering.client_is_slow = True
        self.pause_upstream()

    def resume_response(self) -> None:
        """Undo `pause_response`. Where filters await, they may want the upstream to wait on."""
        if self._filtering is not None:
            self._filtering.client_is_slow = False
        self.resume_upstream()

    # What filters that await call.

    def pause_upstream(self) -> None:
        """Too much waits."""
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_upstream(self) -> None:
        """Nothing waits any more, if that is so on both sides of the filters."""
        if self._connection is not None and (self._filtering is None or not self._filtering.is_held_up):
            self._connection.resume_reading()

    def filters_done(self) -> None:
        """They have passed the end on."""
        self._finish()

    # The steps of a request.

    def _proceed(self, step: Callable[[], None]) -> None:
        """Take a step that may find the request unfit, or fail."""
        try:
            step()
        except Exception as error:
            self._unfit(error)

    def _unfit(self, error: Exception) -> None:
        request = self.request
        if isinstance(error, (BadTarget, UnsafeRequest)):
            logger.info("refused: %s (%s %s)", error, ascii(request.method), ascii(request.target))
            self._reply(BAD_REQUEST)
        else:
            logger.error("%s %s", ascii(request.method), ascii(request.target), exc_info=error)
            self._let_go()
            self._reply(INTERNAL_ERROR)

    def _admit(self) -> None:
        """Make the request canonical."""
        gateway, request = self._gateway, self.request
        repeated = request.repeated
        if repeated is not None and repeated.is_settled:
            request.path, request.wire_path = canonical_path(request.target)
        elif (refusal := self._admit_fields(request, gateway)) is not None:
            self._reply(refusal)
            return
        if gateway.path_view is not None:
            request.path = gateway.path_view(request.path)
        self._match(self.started_s)

    def _match(self, now_s: float) -> None:
        """Find the route, and walk it. `now_s`: CLOCK_MONOTONIC."""
        gateway, request = self._gateway, self.request
        try:
            handle = gateway.routes.find(request.path, request.host, request.method, self)
        except NeedsWait as wait:
            self._task = gateway.spawn(self._await_and_match(wait), "match by the body")
            return
        if handle is None:
            route = NO_ROUTE.walking(gateway.routes.unmatched())
        else:
            route = handle.resolve()
            self.params = handle.params
        self.route = route
        if route.is_plain:
            self._choose(now_s)
        else:
            self._begin_phases(route.phases, now_s)

    def _admit_fields(self, request: Request, gateway: Gateway) -> Reply | None:
        """The same for a head that is seen for the first time; what to answer instead of it. Raises as `admit`."""
        admit(request, gateway.locate)
        if request.method in _NOT_SERVED:
            return METHOD_NOT_ALLOWED
        if request.is_chunked or request.content_length is not None:
            limit_bytes = gateway.max_body_bytes
            if limit_bytes and announces_more_than(request.content_length, limit_bytes):
                return BODY_TOO_LARGE
            if self._body is None and request.has_body:
                self._body = RequestBody(limit_bytes)
        if request.repeated is not None:
            request.repeated.settle(request)
        return None

    def _begin_phases(self, phases: Phases, now_s: float) -> None:
        """Let plugins take part before a node is chosen, and in the response."""
        request = self.request
        if phases.header_filter or phases.body_filter:
            assert self._client is not None
            self._client = filtering = Filtering(self._client, self, self._gateway, phases)
            if filtering.awaits:
                self._filtering = filtering
                self._passes_later = True
        headers = request.headers
        # A copy, by which it shows what plugins change; and a repeated request's are the next one's, too.
        request.headers = headers.copy()
        if phases.request or phases.before_proxy:
            self._read = Read(headers, request.remote_addr, request.repeated)
            request.repeated = None
            if request.names_headers:
                drop_named_by_connection(request)
        if phases.request:
            self._walk(phases.request, self._choose)
        else:
            self._choose(now_s)

    async def _await_and_match(self, wait: NeedsWait) -> None:
        """For a route whose condition is about the body."""
        reply = None
        try:
            await wait.prepare(self)
        except BodyTooLarge:
            reply = BODY_TOO_LARGE  # it does not fall through to a route that asks for less
        except Exception:
            logger.exception("match by the body (request %s)", self.request_id)
            reply = INTERNAL_ERROR
        self._task = None
        if reply is not None:
            self._reply(reply)
        elif not self.finished:
            self._proceed(lambda: self._match(time.monotonic()))

    def _walk(self, steps: tuple[Step, ...], then: Callable[[], None]) -> None:
        """Run plugins one after the other; with the first that awaits, go on in a task."""
        for number, step in enumerate(steps, 1):
            try:
                outcome = step.run(self)
            except Exception:
                self._plugin_failed(step)
                return
            if outcome is None:
                continue
            if step.is_async:
                rest = self._await_and_go_on(outcome, step, steps[number:], then)
                self._task = self._gateway.spawn(rest, f"plugin {step.plugin}")
            else:
                self._reply(outcome)
            return
        then()

    async def _await_and_go_on(
        self,
        outcome: Coroutine[Any, Any, Reply | None],
        step: Step,
        rest: tuple[Step, ...],
        then: Callable[[], None],
    ) -> None:
        try:
            reply = await outcome
        except BodyTooLarge:
            reply = BODY_TOO_LARGE
        except Exception:
            self._task = None
            self._plugin_failed(step)
            return
        self._task = None
        if self.finished:
            return
        if reply is not None:
            self._reply(reply)
        else:
            self._proceed(lambda: self._walk(rest, then))

    def _plugin_failed(self, step: Step) -> None:
        self._gateway.plugin_failed(step, self)
        if not self.finished:
            self._reply(failed_reply(self.request_id))

    def _choose(self, now_s: float | None = None) -> None:
        """Choose a node. `now_s`: CLOCK_MONOTONIC, where it is known already."""
        route = self.route
        upstream = route.usable
        if upstream is None:
            self._reply(self._why_unusable(route.upstream))
            return
        self._upstream = upstream
        node = upstream.pick(self)
        if node is None:
            self._reply(SERVICE_UNAVAILABLE)
            return
        if route.is_plain:
            # PERF: _take_node in place.
            self._node = node
            attempt = self._attempt = Attempt(node.address, node, now_s or time.monotonic())
            self.attempts = (attempt,)
            self._is_picked = True
            self._send()
            return
        phases = route.phases
        self._take_node(node, now_s or time.monotonic())
        if phases.before_proxy:
            self._walk(phases.before_proxy, self._reread_and_send)
        elif phases.request:
            self._reread_and_send()
        else:
            self._send()

    def _why_unusable(self, upstream: UpstreamRuntime | Missing) -> Reply:
        # At debug: it is reported once for the route, and clients must not be able to fill the log.
        if isinstance(upstream, Missing):
            logger.debug("route %s: %s", self.route.id, upstream.reason)
            return ROUTE_NOT_FOUND if self.route.id == "" else error_reply(upstream.status)
        logger.debug("route %s: its upstream: %s", self.route.id, upstream.unsupported)
        return BAD_GATEWAY

    def _reread_and_send(self) -> None:
        """Plugins may have changed the headers; how the body is framed is not theirs to change."""
        forget_body(self)
        request, read = self.request, self._read
        if read is not None and request.headers == read.headers and request.remote_addr == read.remote_addr:
            if self._body is None:
                request.repeated = read.repeated
            self._send()
            return
        if self._gateway.locate is not None:
            # What it was not asked about, no client had said: what is said now is a plugin's word.
            request.is_settled = True
        length, is_chunked = request.content_length, request.is_chunked
        read_headers(request)
        request.content_length, request.is_chunked = length, is_chunked
        self._send()

    # Ends.

    def _reply(self, reply: Reply, *, upstream_status: int | None = None) -> None:
        """Answer in an upstream's stead. `upstream_status`: what APISIX would log as the upstream's, for 5xx."""
        client, self._client = self._client, None
        if client is None:
            return
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), self._gateway.server_header]
        if upstream_status is not None:
            headers.append((b"x-apisix-upstream-status", b"%b%d" % (self._earlier, upstream_status)))
        self.finished = True
        self.status = reply.status
        self.response_headers = headers
        client.response_head(reply.status, b"", headers)
        if self.request.method != "HEAD" and reply.body:
            client.response_body(reply.body)
        client.response_end(NO_TRAILERS)
        self._finish()

    def filters_failed(self, step: Step) -> None:
        """A filter raised: the answer is a 500 where its head has not left yet, else it breaks off."""
        self._gateway.plugin_failed(step, self)
        self._let_go()
        self._client = None
        self._finish()

    def _break_off(self, reply: Reply) -> None:
        """The request cannot be completed: let go of the upstream, and say so while there is a way to."""
        if self.finished:
            return
        self._let_go()
        if self._head_passed:
            self._cut()
        else:
            self._reply(reply)

    def _cut(self) -> None:
        client, self._client = self._client, None
        self.finished = True
        if client is not None:
            client.response_cut()
        self._finish()

    def _let_go(self) -> None:
        """Give up what is under way towards the upstream, and in plugins."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _finish(self) -> None:
        self.finished = True
        self._client = None
        self._body = None
        if self._is_picked:
            self._attempt_over(None)
        if self._filtering is not None:
            if self._filtering.is_working:
                return  # until `filters_done`
            self._filtering = None
            self.ended_s = time.monotonic()
            self._gateway.end(self)
        elif not self.ended_s:
            attempts = self.attempts
            self.ended_s = (attempts[-1].ended_s if attempts else 0.0) or time.monotonic()
            self._gateway.end(self)
