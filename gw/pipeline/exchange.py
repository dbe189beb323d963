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
the one before calls, so that any of them can be followed by a wait. A plugin that awaits gets a task, from that plugin
on; all others run in the callback that brought the request. Where a route has filters, what goes back passes through
`gw.pipeline.filtering`, which stands in the client's place. `gw.pipeline.retry` says what is tried again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gw.errors import UpstreamError
from gw.model.merge import Missing
from gw.pipeline.client import Client
from gw.pipeline.context import Attempt, Context, Request
from gw.pipeline.fields import Headers
from gw.pipeline.filtering import Filtering
from gw.pipeline.gateway import Gateway
from gw.pipeline.headers import (
    UnsafeRequest,
    admit,
    announces_more_than,
    drop_named_by_connection,
    may_trail,
    read_headers,
    request_head,
)
from gw.pipeline.path import BadTarget
from gw.pipeline.phases import Step
from gw.pipeline.reply import (
    BAD_GATEWAY,
    BAD_REQUEST,
    BODY_TOO_LARGE,
    BY_UPSTREAM_STATUS,
    INTERNAL_ERROR,
    METHOD_NOT_ALLOWED,
    REQUEST_TIMEOUT,
    ROUTE_NOT_FOUND,
    SERVICE_UNAVAILABLE,
    Reply,
    error_reply,
    failed_reply,
)
from gw.pipeline.request_body import BodyTooLarge, KeptBody, RequestBody
from gw.pipeline.retry import Next, after
from gw.pipeline.route import NO_ROUTE, CompiledRoute
from gw.pipeline.upstream import NodeRuntime, UpstreamRuntime
from gw.upstream.connection import UpstreamConnection
from gw.upstream.target import Target

logger = logging.getLogger(__name__)

# As nginx, which APISIX stands on: a tunnel is not ours to give, and TRACE shows a script the headers it may not see.
_NOT_SERVED: Final = frozenset(("CONNECT", "TRACE"))
# nginx's status for a client that left before it was answered.
CLIENT_CLOSED_REQUEST: Final = 499
_NO_TRAILERS: Final[Headers] = []
_BY_CLIENT: Final = 1


class Exchange(Context):
    """See the module's rules. The client side makes one per request, calls `start`, and feeds the body, if any.

    `finished`: nothing more will be said, nor be listened to. `upgrade`: the protocol a client asks to switch to, set
    by an adapter that can tunnel.
    """

    __slots__ = (
        "_attempt",
        "_body",
        "_body_waiter",
        "_client",
        "_connection",
        "_earlier",
        "_filtering",
        "_gateway",
        "_head",
        "_head_passed",
        "_is_fresh_asked",
        "_is_picked",
        "_kept_body",
        "_node",
        "_opening",
        "_pauses",
        "_task",
        "_tried",
        "_upstream",
        "_written",
        "finished",
        "upgrade",
    )

    _attempt: Attempt
    _head: bytes
    _node: NodeRuntime
    _upstream: UpstreamRuntime
    route: CompiledRoute

    def __init__(self, gateway: Gateway, client: Client, request: Request) -> None:
        super().__init__(request, time.monotonic())
        gateway.counters.request_started()
        self._gateway = gateway
        self._client: Client | None = client
        self._connection: UpstreamConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._body: RequestBody | None = None
        self._body_waiter: asyncio.Future[None] | None = None
        self._filtering: Filtering | None = None  # where filters await: they may go on when the upstream has ended
        self._kept_body: KeptBody | None = None
        self._pauses = 0  # who wants the upstream to wait: _BY_CLIENT, _BY_FILTERS
        self._written = False  # the head went to the present connection
        self._head_passed = False
        self._is_fresh_asked = False  # a reused connection was stale
        self._is_picked = False  # the balancer waits to hear how its pick did
        self._tried: tuple[NodeRuntime, ...] = ()  # nodes that failed
        self._earlier = b""  # what they came to, as APISIX shows it: `502, 504, `
        self.finished = False
        self.upgrade = b""

    # What the client side calls.

    def start(self) -> None:
        """Find the route, choose a node, and begin: the response may be there when this returns. Raises nothing."""
        if not self.finished:
            self._proceed(self._admit)

    @property
    def wants_body(self) -> bool:
        """After `start`: the request has a body of which not all came."""
        return self._body is not None and not self._body.ended

    def request_body(self, piece: bytes) -> None:
        """A piece of the request's body. Before `start`, too: it is held until there is somewhere to write it."""
        if self.finished or not piece:
            return
        body = self._body
        if body is None:
            body = self._body = RequestBody(self._gateway.max_body_bytes)
        try:
            body.add(piece)
        except BodyTooLarge:
            self._break_off(BODY_TOO_LARGE)
            return
        if self._connection is not None:
            self._write_body(self._connection, body)
        elif body.wanted_bytes is None:
            if self._client is not None:
                self._client.pause_request()
        elif body.is_larger_than_wanted:
            self._wake_reader()

    def request_end(self, trailers: Headers = _NO_TRAILERS) -> None:
        """The request's body is complete."""
        body = self._body
        if self.finished or body is None:
            return
        body.ended = True
        body.trailers = trailers
        self._wake_reader()
        if self._connection is not None:
            self._end_request(self._connection, body)

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

    def pause_response(self, by: int = _BY_CLIENT) -> None:
        """The client is slow: leave the response in the upstream's socket."""
        self._pauses |= by
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_response(self, by: int = _BY_CLIENT) -> None:
        """Undo `pause_response`. The upstream goes on when nobody wants it to wait."""
        self._pauses &= ~by
        if self._connection is not None and not self._pauses:
            self._connection.resume_reading()

    def tunnel_over(self) -> None:
        """The tunnel that the client side was given has ended."""
        self._attempt_over(None)
        self._finish()

    # The steps of a request.

    def _proceed(self, step: Callable[[], None]) -> None:
        """Take a step that may find the request unfit, or fail."""
        try:
            step()
        except (BadTarget, UnsafeRequest) as error:
            request = self.request
            logger.info("refused: %s (%s %s)", error, ascii(request.method), ascii(request.target))
            self._reply(BAD_REQUEST)
        except Exception:
            logger.exception("%s %s", ascii(self.request.method), ascii(self.request.target))
            self._let_go()
            self._reply(INTERNAL_ERROR)

    def _admit(self) -> None:
        """Make the request canonical, and find its route."""
        gateway, request = self._gateway, self.request
        if gateway.locate is not None:
            gateway.locate(request)
        admit(request)
        if request.method in _NOT_SERVED:
            # Whoever sends CONNECT may go on with what is no HTTP.
            self._reply(METHOD_NOT_ALLOWED.closing() if request.method == "CONNECT" else METHOD_NOT_ALLOWED)
            return
        if request.is_chunked or request.content_length is not None:
            limit_bytes = gateway.max_body_bytes
            if limit_bytes and announces_more_than(request.content_length, limit_bytes):
                self._reply(BODY_TOO_LARGE)
                return
            if self._body is None and request.has_body:
                self._body = RequestBody(limit_bytes)
        handle = gateway.routes.find(request.path, request.host, request.method)
        if handle is None:
            route = NO_ROUTE.walking(gateway.routes.unmatched())
        else:
            route = handle.resolve()
            self.params = handle.params
        self.route = route
        phases = route.phases
        if phases.header_filter or phases.body_filter:
            assert self._client is not None
            self._client = filtering = Filtering(self._client, self, gateway, phases)
            if filtering.awaits:
                self._filtering = filtering
        if phases.request or phases.before_proxy:
            drop_named_by_connection(request)
        if phases.request:
            self._walk(phases.request, self._choose)
        else:
            self._choose()

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

    def _choose(self) -> None:
        """Choose a node."""
        upstream = self.route.upstream
        if isinstance(upstream, Missing):
            # At debug, here and below: it is reported once for the route, and clients must not be able to fill the log.
            logger.debug("route %s: %s", self.route.id, upstream.reason)
            self._reply(ROUTE_NOT_FOUND if self.route.id == "" else error_reply(upstream.status))
            return
        if upstream.unsupported is not None:
            logger.debug("route %s: its upstream: %s", self.route.id, upstream.unsupported)
            self._reply(BAD_GATEWAY)
            return
        self._upstream = upstream
        node = upstream.pick(self)
        if node is None:
            self._reply(SERVICE_UNAVAILABLE)
            return
        self._take_node(node)
        phases = self.route.phases
        if phases.before_proxy:
            self._walk(phases.before_proxy, self._reread_and_send)
        elif phases.request:
            self._reread_and_send()
        else:
            self._send()

    def _reread_and_send(self) -> None:
        """Plugins may have changed the headers; how the body is framed is not theirs to change."""
        request, body = self.request, self._body
        is_chunked, length = request.is_chunked, request.content_length
        read_headers(request)
        request.is_chunked = is_chunked
        whole = body is not None and body.ended and not is_chunked
        request.content_length = b"%d" % body.size_bytes if whole and body is not None else length
        self._send()

    def _send(self) -> None:
        """Write the head for the node, and find a connection to it."""
        request = self.request
        host = self._upstream.host_header(request, self._node)
        if self.upstream_host is not None:
            host = self.upstream_host.encode("latin-1", "replace")
        upgrade = self.upgrade if self.upgrade and self.route.upgrades else b""
        self._head = request_head(request, host, method=self.upstream_method, uri=self.upstream_uri, upgrade=upgrade)
        self._connect(self._upstream.target(self._node, host))

    def _take_node(self, node: NodeRuntime) -> None:
        self._node = node
        self._attempt = Attempt(node.address, node, time.monotonic())
        self._is_picked = True

    def _connect(self, target: Target) -> None:
        if self._attempt.ended_s:
            self._attempt = Attempt(self._node.address, self._node, time.monotonic())
        self.attempts = (*self.attempts, self._attempt)
        upstreams = self._gateway.upstreams
        connection = None if self._is_fresh_asked else upstreams.take_idle(target)
        if connection is None:
            self._opening = upstreams.open(target, self.route.timeouts.connect_s, self)
        else:
            self._use(connection)

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """A connection that was opened for this exchange stands."""
        self._opening = None
        self._use(connection)

    def _use(self, connection: UpstreamConnection) -> None:
        """Send what there is: all of a request without a body, else the head with the body's first piece."""
        self._connection = connection
        self._attempt.connected_s = time.monotonic()
        connection.begin(
            self,
            answers_head=(self.upstream_method or self.request.method) == "HEAD",
            timeouts=self.route.timeouts,
            keepalive=self._upstream.keepalive,
            may_upgrade=bool(self.upgrade) and self.route.upgrades,
        )
        body = self._body
        if body is None:
            self._written = True
            connection.write(self._head)
            connection.request_complete()
            return
        self._written = False
        self._write_body(connection, body)
        if body.ended:
            self._end_request(connection, body)
        elif self._client is not None:
            self._client.resume_request()

    def _write_body(self, connection: UpstreamConnection, body: RequestBody) -> None:
        """Write what came of the body; the head goes before the first of it."""
        for piece in body.take():
            if not self._written:
                self._written = True
                connection.write(self._head)
            connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self.request.is_chunked else piece)

    def _end_request(self, connection: UpstreamConnection, body: RequestBody) -> None:
        if not self._written:
            self._written = True
            connection.write(self._head)
        if self.request.is_chunked:
            trailers = b"".join([b"%b: %b\r\n" % pair for pair in body.trailers if may_trail(pair[0])])
            connection.write(b"0\r\n%b\r\n" % trailers)
        connection.request_complete()

    async def read_body(self, limit_bytes: int) -> bytes:
        """See gw.pipeline.context.Context."""
        body = self._body
        if body is None:
            return b""
        if announces_more_than(self.request.content_length, limit_bytes):
            raise BodyTooLarge
        body.wanted_bytes = limit_bytes
        try:
            while not body.ended and not body.is_larger_than_wanted:
                if self._client is not None:
                    self._client.resume_request()
                self._body_waiter = self._gateway.loop.create_future()
                await self._body_waiter
                self._body_waiter = None
            if body.is_larger_than_wanted:
                raise BodyTooLarge
        finally:
            body.wanted_bytes = None
        return body.whole()

    def _wake_reader(self) -> None:
        if self._body_waiter is not None and not self._body_waiter.done():
            self._body_waiter.set_result(None)

    def replace_body(self, body: bytes) -> None:
        """See gw.pipeline.context.Context."""
        if self._body is None:
            self._body = RequestBody(0)
        elif not self._body.ended:
            raise RuntimeError("replace_body before all of the body came: await ctx.read_body first")
        self._body.replace(body)
        self.request.content_length = b"%d" % len(body)
        self.request.is_chunked = False
        self.request.remove_header("transfer-encoding")
        self.request.set_header("content-length", str(len(body)))

    def keep_body(self, limit_bytes: int) -> None:
        """See gw.pipeline.context.Context."""
        if self._body is not None and self._kept_body is None:
            self._kept_body = KeptBody(limit_bytes)
            self._body.keep(self._kept_body)

    @property
    def kept_body(self) -> bytes:
        """See gw.pipeline.context.Context."""
        return b"" if self._kept_body is None else bytes(self._kept_body)

    # What the upstream connection calls.

    def upstream_interim(self, status: int, headers: Headers) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None:
            self._client.response_interim(status, headers)

    def upstream_head(self, status: int, reason: bytes, headers: Headers) -> None:
        """See gw.upstream.connection.Sink."""
        self._attempt.status = status
        self._attempt.head_s = time.monotonic()
        headers.append(self._gateway.server_header)
        if status >= 500:
            headers.append((b"x-apisix-upstream-status", b"%b%d" % (self._earlier, status)))
        self.status = status
        self.response_headers = headers
        self._head_passed = True
        client = self._client
        if client is not None:
            client.response_head(status, reason, headers)
            if status >= 300 and self._body is not None and not self._body.ended:
                # It has decided without the rest; a 2xx may be an answer to the body as it comes.
                client.pause_request()

    def upstream_body(self, piece: bytes) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None:
            self._client.response_body(piece)

    def upstream_flush(self) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None and self._head_passed:
            self._client.response_flush()

    def upstream_end(self, trailers: Headers) -> None:
        """See gw.upstream.connection.Sink."""
        self._connection = None
        self._attempt_over(None)
        client, self._client = self._client, None
        self.finished = True
        if client is not None:
            client.response_end(trailers)
        if self._filtering is None:
            self._finish()

    def upstream_upgraded(self, headers: Headers, rest: bytes) -> None:
        """See gw.upstream.connection.Sink."""
        connection, self._connection = self._connection, None
        self._attempt.status = self.status = 101
        self._attempt.head_s = time.monotonic()
        client, self._client = self._client, None
        if client is not None and connection is not None:
            headers.append(self._gateway.server_header)
            client.tunnel(self, connection, headers, rest)

    def upstream_failed(self, error: UpstreamError) -> None:
        """See gw.upstream.connection.Sink; also that no connection could be opened."""
        self._gateway.counters.upstream_failed()
        connection, self._connection = self._connection, None
        self._opening = None
        target, request, body = self._node.target, self.request, self._body
        then = Next.GIVE_UP
        if not self._head_passed:
            then = after(
                error,
                method=self.upstream_method or request.method,
                is_stale=connection is not None and connection.reused and not connection.response_started,
                was_written=self._written,
                can_be_sent_again=body is None or body.can_be_sent_again,
            )
        if then is Next.SAME_NODE:
            self._attempt.ended_s = time.monotonic()
            self._is_fresh_asked = True
            self._again()
            return
        attempt = self._attempt
        attempt.status = attempt.status or error.status
        if then is Next.OTHER_NODE and self._may_try_another():
            self._attempt_over(error, is_last=False)
            if not self._take_another_node():
                self._fail(error)
                return
            logger.warning("upstream %s:%s: %s; trying another node", target.host, target.port, error)
            self._earlier += b"%d, " % error.status
            self._again()
            return
        self._fail(error)

    def _fail(self, error: UpstreamError) -> None:
        """No other node is left to try, or may be."""
        self.status = self.status or error.status
        self._attempt_over(error)
        target, request = self._node.target, self.request
        asked = f"{request.method} {request.path!a}"
        logger.warning("upstream %s:%s: %s (%s)", target.host, target.port, error, asked)
        if self._head_passed:
            self._cut()
        else:
            self._reply(BY_UPSTREAM_STATUS.get(error.status, BAD_GATEWAY), upstream_status=error.status)

    def _may_try_another(self) -> bool:
        upstream = self._upstream
        return len(self._tried) < upstream.retries and not upstream.is_too_late(time.monotonic() - self.started_s)

    def _take_another_node(self) -> bool:
        upstream = self._upstream
        self._tried = (*self._tried, self._node)
        node = upstream.pick(self, self._tried)
        if node is None:
            return False
        self._take_node(node)
        self._is_fresh_asked = False
        return True

    def _attempt_over(self, error: UpstreamError | None, *, is_last: bool = True) -> None:
        """Say once how the node that was picked did."""
        attempt = self._attempt
        attempt.ended_s = time.monotonic()
        if self._is_picked:
            self._is_picked = False
            if self._upstream.observes:
                self._upstream.over(attempt, error, is_last=is_last, status=self.status)

    def _again(self) -> None:
        self._gateway.counters.upstream_retried()
        if self._written and self._body is not None:
            self._body.rewind()
        self._written = False
        self._proceed(self._send)

    def upstream_full(self) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None and self.wants_body:
            self._client.pause_request()

    def upstream_drained(self) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None and self.wants_body:
            self._client.resume_request()

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
        client.response_end(_NO_TRAILERS)
        if self._filtering is None:
            self._finish()

    def filters_done(self) -> None:
        """Filters that await have passed the end on."""
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
        self._filtering = None
        if self._is_picked:
            self._attempt_over(None)
        if not self.ended_s:
            self.ended_s = time.monotonic()
            self._gateway.end(self)
