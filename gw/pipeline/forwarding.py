"""The way of an exchange to an upstream and back: a node, a connection to it, the request's bytes, the response's.

The half of `gw.pipeline.exchange` that knows nodes and connections, and nothing of routes and plugins. What is tried
again after a failure says `gw.pipeline.retry`; the balancer hears once how each of its picks did.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from gw.errors import UpstreamError
from gw.pipeline.client import Client
from gw.pipeline.context import Attempt, Context, Request
from gw.pipeline.fields import Headers
from gw.pipeline.gateway import Gateway
from gw.pipeline.headers import may_trail, request_head, request_line
from gw.pipeline.reply import BAD_GATEWAY, BY_UPSTREAM_STATUS, Reply
from gw.pipeline.request_body import REPLAY_BYTES, RequestBody
from gw.pipeline.retry import Next, after
from gw.pipeline.route import CompiledRoute
from gw.pipeline.upstream import NodeRuntime, UpstreamRuntime
from gw.upstream.connection import UpstreamConnection
from gw.upstream.response import ResponseHead

logger = logging.getLogger(__name__)

NO_TRAILERS: Final[Headers] = []


class Forwarding(Context):
    """See the module's rules. `finished`: nothing more will be said, nor be listened to.

    `upgrade`: the protocol a client asks to switch to, set by an adapter that can tunnel.
    """

    _attempt: Attempt
    _head: bytes
    _node: NodeRuntime
    _upstream: UpstreamRuntime
    route: CompiledRoute
    # As in Context: defaults, because most requests set few of them.
    finished = False
    upgrade = b""
    _connection: UpstreamConnection | None = None
    _opening: asyncio.Task[None] | None = None
    _body: RequestBody | None = None
    _written = False  # the head went to the present connection
    _head_passed = False
    _is_fresh_asked = False  # a reused connection was stale
    _is_picked = False  # the balancer waits to hear how its pick did
    _tried: tuple[NodeRuntime, ...] = ()  # nodes that failed
    _earlier = b""  # what they came to, as APISIX shows it: `502, 504, `
    _passes_later = False  # what stands in the client's place may go on when the upstream has ended

    _gateway: Gateway
    _client: Client | None

    # The other half.

    @property
    @abstractmethod
    def wants_body(self) -> bool:
        """Whether the request has a body of which not all came."""

    @abstractmethod
    def _proceed(self, step: Callable[[], None]) -> None:
        """Take a step that may find the request unfit, or fail."""

    @abstractmethod
    def _reply(self, reply: Reply, *, upstream_status: int | None = None) -> None:
        """Answer in an upstream's stead."""

    @abstractmethod
    def _cut(self) -> None:
        """Break the response off."""

    @abstractmethod
    def _finish(self) -> None:
        """It is over."""

    # To the upstream.

    def _send(self) -> None:
        """Write the head for the node, and find a connection to it."""
        request, upstream, node = self.request, self._upstream, self._node
        repeated = request.repeated
        host = upstream.host_header(request, node)
        if self.upstream_host is not None:
            host = self.upstream_host.encode("latin-1", "replace")
        if repeated is None:
            if request.is_chunked and self._body is not None:
                self._measure(request, self._body)
            upgrade = self.upgrade if self.route.upgrades else b""
            head = request_head(request, host, self.upstream_method, self.upstream_uri, upgrade)
        elif repeated.lines and repeated.host == host:
            head = request_line(request, self.upstream_method, self.upstream_uri) + repeated.lines
        else:
            head = request_head(request, host, self.upstream_method, self.upstream_uri)
            repeated.host = host
            repeated.lines = head[head.index(b"\r\n") + 2 :]
        target = upstream.target(node, host) if upstream.uses_clients_name else node.target
        upstreams, attempt = self._gateway.upstreams, self._attempt
        connection = None if self._is_fresh_asked else upstreams.take_idle(target)
        if connection is None:
            self._head = head
            self._opening = upstreams.open(target, self.route.timeouts.connect_s, self)
            return
        attempt.connected_s = attempt.started_s
        body = self._body
        if body is not None or self.upgrade:
            if body is None or request.is_chunked or not body.ended or body.size_bytes > REPLAY_BYTES:
                self._head = head
                self._use(connection)
                return
            head += b"".join(body.take())
        if connection.address:
            attempt.address = connection.address
        self._connection = connection
        self._written = True
        route = self.route
        now_s = time.monotonic() if route.phases.before_proxy else attempt.started_s
        method = self.upstream_method or request.method
        connection.ask(self, head, method == "HEAD", route.timeouts, upstream.keepalive, now_s)

    @staticmethod
    def _measure(request: Request, body: RequestBody) -> None:
        """Let a chunked body that is all here leave with its length, as with APISIX: not all upstreams know chunks."""
        if body.ended and not body.trailers:
            request.is_chunked = False
            request.content_length = b"%d" % body.size_bytes

    def _take_node(self, node: NodeRuntime, now_s: float) -> None:
        """What the balancer picked; `_send` follows."""
        self._node = node
        attempt = self._attempt = Attempt(node.address, node, now_s)
        self.attempts = (*self.attempts, attempt) if self.attempts else (attempt,)
        self._is_picked = True

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """A connection that was opened for this exchange stands."""
        self._opening = None
        self._attempt.connected_s = time.monotonic()
        self._use(connection)

    def _use(self, connection: UpstreamConnection) -> None:
        """Send what there is: all of a request without a body, else the head with the body's first piece."""
        self._connection = connection
        if connection.address:
            self._attempt.address = connection.address
        route = self.route
        answers_head = (self.upstream_method or self.request.method) == "HEAD"
        may_upgrade = route.upgrades and self.upgrade != b""
        connection.begin(self, answers_head, route.timeouts, self._upstream.keepalive, may_upgrade)
        body = self._body
        if body is None:
            self._written = True
            connection.write(self._head)
            connection.request_complete()
            return
        self._written = False
        if not body.ended and self._client is not None:
            # First: what came of the body may fill the connection, which pauses the client again.
            self._client.resume_request()
        self._write_body(connection, body)
        if body.ended:
            self._end_request(connection, body)

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

    # What the upstream connection calls.

    def upstream_interim(self, status: int, headers: Headers) -> None:
        """See gw.upstream.contract.Sink."""
        if self._client is not None:
            self._client.response_interim(status, headers)

    def upstream_head(self, status: int, reason: bytes, headers: Headers) -> None:
        """See gw.upstream.contract.Sink."""
        self._attempt.status = status
        self._attempt.head_s = time.monotonic()
        self._complete_head(status, headers)
        self.status = status
        self.response_headers = headers
        self._head_passed = True
        client = self._client
        if client is not None:
            client.response_head(status, reason, headers)
            if status >= 300 and self._body is not None and not self._body.ended:
                # It has decided without the rest; a 2xx may be an answer to the body as it comes.
                client.pause_request()

    def _complete_head(self, status: int, headers: Headers) -> None:
        """Add what is ours to the headers of a response."""
        headers.append(self._gateway.server_header)
        if status >= self._gateway.shows_status_from:
            headers.append((b"x-apisix-upstream-status", b"%b%d" % (self._earlier, status)))
        if self.upstream_method == "HEAD" and self.request.method != "HEAD":
            # A plugin asked for the head alone: the length in it is of a body that does not come.
            headers[:] = [pair for pair in headers if pair[0] != b"content-length"] + [(b"content-length", b"0")]

    def upstream_body(self, piece: bytes) -> None:
        """See gw.upstream.contract.Sink."""
        if self._client is not None:
            self._client.response_body(piece)

    def upstream_flush(self) -> None:
        """See gw.upstream.contract.Sink."""
        if self._client is not None and self._head_passed:
            self._client.response_flush()

    def upstream_end(self, trailers: Headers) -> None:
        """See gw.upstream.contract.Sink."""
        self._connection = None
        self._attempt_over(None)
        client, self._client = self._client, None
        self.finished = True
        if client is not None:
            client.response_end(trailers)
        self._finish()

    def upstream_answered(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        """See gw.upstream.contract.Sink."""
        self._connection = None
        attempt = self._attempt
        status = head.status
        attempt.status = self.status = status
        attempt.head_s = attempt.ended_s = now_s
        if not head.is_complete:
            # What is added depends on the exchange.
            if status >= self._gateway.shows_status_from or self.upstream_method is not None:
                head = ResponseHead(status, head.reason, head.headers.copy())
            self._complete_head(status, head.headers)
            head.is_complete = True
        self.response_headers = head.headers
        self._head_passed = self.finished = True
        self._is_picked = False
        if self._upstream.observes:
            self._upstream.over(attempt, None, is_last=True, status=status)
        client, self._client = self._client, None
        if client is not None:
            client.response(head, body, now_s)
        if self._passes_later or self.ended_s:
            self._finish()  # when it is over, or was: a filter failed
            return
        self._body = None
        self.ended_s = now_s
        self._gateway.end(self)

    def upstream_upgraded(self, headers: Headers, rest: bytes) -> None:
        """See gw.upstream.contract.Sink."""
        connection, self._connection = self._connection, None
        self._attempt.status = self.status = 101
        self._attempt.head_s = time.monotonic()
        client, self._client = self._client, None
        if client is not None and connection is not None:
            self._complete_head(101, headers)
            client.tunnel(self, connection, headers, rest)

    def tunnel_over(self) -> None:
        """The tunnel that the client side was given has ended."""
        self._attempt_over(None)
        self._finish()

    def upstream_failed(self, error: UpstreamError) -> None:
        """See gw.upstream.contract.Sink; also that no connection could be opened."""
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
            now_s = self._attempt.ended_s = time.monotonic()
            self._take_node(self._node, now_s)
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
        self._take_node(node, time.monotonic())
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
        """See gw.upstream.contract.Sink."""
        if self._client is not None and self.wants_body:
            self._client.pause_request()

    def upstream_drained(self) -> None:
        """See gw.upstream.contract.Sink."""
        if self._client is not None and self.wants_body:
            self._client.resume_request()
