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

Steps of a request: admit (canonical form), match, choose a node, connect, send. Plugins will stand between match and
choose, and on the way back; the steps are methods so that each can be followed by a wait.

A request is tried again once, on a fresh connection, when a reused one ends before any byte of a response: the
upstream closed it while we wrote. That is safe only when nothing of the request was written yet, or its method is
idempotent (RFC 9110 section 9.2.2) and none of its body was taken from the client. A node that takes no connection has
seen nothing of the request, so another one is tried, as many as the upstream's `retries` say.
"""

import asyncio
import logging
from typing import Final, Protocol

from gw.errors import UpstreamError
from gw.model.merge import Missing
from gw.pipeline.context import Request
from gw.pipeline.headers import Head, UnsafeRequest, request_head
from gw.pipeline.path import BadTarget
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
)
from gw.pipeline.route import NodeRuntime, Routes, UpstreamRuntime
from gw.upstream.client import UpstreamClient
from gw.upstream.connection import UpstreamConnection
from gw.upstream.errors import Closed, ConnectFailed, ConnectTimedOut
from gw.upstream.response import Headers
from gw.upstream.target import Timeouts

logger = logging.getLogger(__name__)

# As nginx, which APISIX stands on: a tunnel is not ours to give, and TRACE shows a script the headers it may not see.
_NOT_SERVED: Final = frozenset(("CONNECT", "TRACE"))
# RFC 9110 section 9.2.2.
IDEMPOTENT_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))


class Client(Protocol):
    """The client side of an exchange: an adapter to a server's protocol."""

    def response_head(self, status: int, headers: Headers) -> None:
        """End-to-end headers, names in lower case. Without content-length the adapter frames the body."""
        ...

    def response_body(self, piece: bytes) -> None:
        """A piece of the body; never for HEAD."""
        ...

    def response_end(self) -> None:
        """The response is whole. If the request's body is not, its rest is not wanted."""
        ...

    def response_cut(self) -> None:
        """The response breaks off after its head: let the client see that it is not whole."""
        ...

    def pause_request(self) -> None:
        """Deliver no more of the request's body for now."""
        ...

    def resume_request(self) -> None:
        """Deliver the request's body, from now on or again."""
        ...


class Gateway:
    """What all exchanges of a worker share: the configuration, the connections, the gateway's name."""

    __slots__ = ("max_body_bytes", "routes", "server_header", "upstreams")

    def __init__(
        self, routes: Routes, upstreams: UpstreamClient, *, server_name: str, max_body_bytes: int = 0
    ) -> None:
        """`server_name`: the value of `Server` in every response, such as `Jitterway/0.1.0`.

        `max_body_bytes`: a request with a larger body is answered 413; 0 lets any pass.
        """
        self.routes = routes
        self.upstreams = upstreams
        self.max_body_bytes = max_body_bytes
        self.server_header = (b"server", server_name.encode("ascii"))


class Exchange:
    """See the module's rules. The client side makes one per request, calls `start`, then feeds the body, if any.

    `wants_body`, after `start`: the request has a body that will be asked for with `resume_request`.
    `finished`: nothing more will be said, nor be listened to.
    """

    __slots__ = (
        "_body_bytes",
        "_body_taken",
        "_client",
        "_connection",
        "_earlier",
        "_gateway",
        "_head",
        "_head_passed",
        "_held",
        "_host_required",
        "_node",
        "_opening",
        "_request",
        "_request_ended",
        "_retried",
        "_timeouts",
        "_tried",
        "_upstream",
        "_written",
        "finished",
        "wants_body",
    )

    _head: Head
    _node: NodeRuntime
    _timeouts: Timeouts
    _upstream: UpstreamRuntime

    def __init__(self, gateway: Gateway, client: Client, request: Request, *, host_required: bool = True) -> None:
        """`host_required` False: an HTTP/1.0 client may send no Host."""
        self._gateway = gateway
        self._client: Client | None = client
        self._request = request
        self._host_required = host_required
        self._connection: UpstreamConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._held: list[bytes] | None = None  # body that came while there was no connection to write it to
        self._written = False  # the head went to the present connection
        self._body_taken = False
        self._body_bytes = 0  # of a chunked body, where there is a limit
        self._request_ended = False
        self._head_passed = False
        self._retried = False
        self._tried: tuple[NodeRuntime, ...] = ()  # nodes that took no connection
        self._earlier = b""  # what they came to, as APISIX shows it: `502, 504, `
        self.finished = False
        self.wants_body = False

    # What the client side calls.

    def start(self) -> None:
        """Find the route, choose a node, and begin: the response may be there when this returns. Raises nothing."""
        try:
            self._match()
        except (BadTarget, UnsafeRequest) as error:
            logger.info("refused: %s (%s %s)", error, ascii(self._request.method), ascii(self._request.target))
            self._reply(BAD_REQUEST)
        except Exception:
            logger.exception("%s %s", ascii(self._request.method), ascii(self._request.target))
            self._let_go()
            self._reply(INTERNAL_ERROR)

    def request_body(self, piece: bytes) -> None:
        """A piece of the request's body."""
        if self.finished or not piece:
            return
        self._body_taken = True
        if self._head.is_chunked:
            if self._gateway.max_body_bytes and self._is_too_much(len(piece)):
                self._break_off(BODY_TOO_LARGE)
                return
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        if self._connection is not None:
            self._write(piece)
        else:
            if self._held is None:
                self._held = []
            self._held.append(piece)
            if self._client is not None:
                self._client.pause_request()

    def request_end(self) -> None:
        """The request's body is complete."""
        if self.finished:
            return
        self._request_ended = True
        if self._connection is not None:
            self._end_request(self._connection)

    def request_cut(self) -> None:
        """The request's body will not become complete, though the client may still be there to hear so."""
        self._break_off(REQUEST_TIMEOUT)

    def client_gone(self) -> None:
        """Nobody listens any more: stop everything. Harmless when the exchange has finished."""
        if not self.finished:
            self._let_go()
            self._forget()

    def pause_response(self) -> None:
        """The client is slow: leave the response in the upstream's socket."""
        if self._connection is not None:
            self._connection.pause_reading()

    def resume_response(self) -> None:
        """Undo `pause_response`."""
        if self._connection is not None:
            self._connection.resume_reading()

    # The steps of a request.

    def _match(self) -> None:
        """Admit the request and find its route."""
        request = self._request
        request.admit(host_required=self._host_required)
        if request.method in _NOT_SERVED:
            self._reply(METHOD_NOT_ALLOWED)
            return
        handle = self._gateway.routes.find(request.path, request.host, request.method)
        if handle is None:
            self._reply(ROUTE_NOT_FOUND)
            return
        route = handle.resolve()
        upstream = route.upstream
        if isinstance(upstream, Missing):
            # At debug, here and below: it is reported once for the route, and clients must not be able to fill the log.
            logger.debug("route %s: %s", route.id, upstream.reason)
            self._reply(error_reply(upstream.status))
            return
        if upstream.unsupported is not None:
            logger.debug("route %s: its upstream: %s", route.id, upstream.unsupported)
            self._reply(BAD_GATEWAY)
            return
        self._timeouts = route.timeouts
        self._upstream = upstream
        self._choose()

    def _choose(self) -> None:
        """Choose the node and write the head for it."""
        request, upstream = self._request, self._upstream
        node = upstream.pick(request)
        if node is None:
            self._reply(SERVICE_UNAVAILABLE)
            return
        self._node = node
        self._head = request_head(request, upstream.host_header(request, node))
        limit_bytes = self._gateway.max_body_bytes
        if limit_bytes and self._head.announces_more_than(limit_bytes):
            self._reply(BODY_TOO_LARGE)
            return
        self.wants_body = self._head.has_body
        self._request_ended = not self.wants_body
        self._connect()

    def _connect(self) -> None:
        upstreams = self._gateway.upstreams
        connection = None if self._retried else upstreams.take_idle(self._node.target)
        if connection is None:
            self._opening = upstreams.open(self._node.target, self._timeouts.connect_s, self)
        else:
            self._use(connection)

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """A connection that was opened for this exchange stands."""
        self._opening = None
        self._use(connection)

    def _use(self, connection: UpstreamConnection) -> None:
        """Send what there is: all of a request without a body, else the head with the body's first piece."""
        self._connection = connection
        connection.begin(
            self,
            answers_head=self._request.method == "HEAD",
            timeouts=self._timeouts,
            keepalive=self._upstream.keepalive,
        )
        self._written = False
        if self._held:
            held, self._held = self._held, None
            for piece in held:
                self._write(piece)
        if self._request_ended:
            self._end_request(connection)
        elif self._client is not None:
            self._client.resume_request()

    def _write(self, piece: bytes) -> None:
        connection = self._connection
        if connection is not None:
            if not self._written:
                self._written = True
                connection.write(self._head.data)
            connection.write(piece)

    def _end_request(self, connection: UpstreamConnection) -> None:
        if self._head.is_chunked:
            self._write(b"0\r\n\r\n")
        elif not self._written:
            self._written = True
            connection.write(self._head.data)
        connection.request_complete()

    def _is_too_much(self, piece_bytes: int) -> bool:
        self._body_bytes += piece_bytes
        return self._body_bytes > self._gateway.max_body_bytes

    # What the upstream connection calls.

    def upstream_head(self, status: int, headers: Headers) -> None:
        """See gw.upstream.connection.Sink."""
        headers.append(self._gateway.server_header)
        if status >= 500:
            headers.append((b"x-apisix-upstream-status", b"%b%d" % (self._earlier, status)))
        self._head_passed = True
        if self._client is not None:
            self._client.response_head(status, headers)
            if not self._request_ended and status >= 300:
                # It has decided without the rest; a 2xx may be an answer to the body as it comes.
                self._client.pause_request()

    def upstream_body(self, piece: bytes) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None:
            self._client.response_body(piece)

    def upstream_end(self) -> None:
        """See gw.upstream.connection.Sink."""
        self._connection = None
        client = self._client
        self._forget()
        if client is not None:
            client.response_end()

    def upstream_failed(self, error: UpstreamError) -> None:
        """See gw.upstream.connection.Sink; also that no connection could be opened."""
        connection, self._connection = self._connection, None
        self._opening = None
        if connection is not None and isinstance(error, Closed) and self._may_retry(connection):
            self._retried = True
            self._connect()
            return
        if isinstance(error, ConnectFailed | ConnectTimedOut) and self._try_another_node(error):
            return
        target, request = self._node.target, self._request
        path = ascii(request.path)
        logger.warning("upstream %s:%s: %s (%s %s)", target.host, target.port, error, request.method, path)
        if self._head_passed:
            self._cut()
        else:
            self._reply(BY_UPSTREAM_STATUS.get(error.status, BAD_GATEWAY), upstream_status=error.status)

    def _may_retry(self, connection: UpstreamConnection) -> bool:
        if self._retried or not connection.reused or connection.response_started:
            return False
        return not self._written or (self._request.method in IDEMPOTENT_METHODS and not self._body_taken)

    def _try_another_node(self, error: UpstreamError) -> bool:
        self._tried = (*self._tried, self._node)
        node = self._upstream.pick_other(self._tried) if len(self._tried) <= self._upstream.retries else None
        if node is None:
            return False
        target = self._node.target
        logger.warning("upstream %s:%s: %s; trying another node", target.host, target.port, error)
        self._earlier += b"%d, " % error.status
        self._node = node
        self._head = request_head(self._request, self._upstream.host_header(self._request, node))
        self._connect()
        return True

    def upstream_full(self) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None and not self._request_ended:
            self._client.pause_request()

    def upstream_drained(self) -> None:
        """See gw.upstream.connection.Sink."""
        if self._client is not None and not self._request_ended:
            self._client.resume_request()

    # Ends.

    def _reply(self, reply: Reply, *, upstream_status: int | None = None) -> None:
        """Answer in an upstream's stead. `upstream_status`: what APISIX would log as the upstream's, for 5xx."""
        client = self._client
        if client is None:
            return
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body)), self._gateway.server_header]
        if upstream_status is not None:
            headers.append((b"x-apisix-upstream-status", b"%b%d" % (self._earlier, upstream_status)))
        is_head = self._request.method == "HEAD"
        self._forget()
        client.response_head(reply.status, headers)
        if not is_head:
            client.response_body(reply.body)
        client.response_end()

    def _break_off(self, reply: Reply) -> None:
        """The request cannot be completed: let go of the upstream, and say so while there is a way to."""
        self._let_go()
        if self._head_passed:
            self._cut()
        else:
            self._reply(reply)

    def _cut(self) -> None:
        client = self._client
        self._forget()
        if client is not None:
            client.response_cut()

    def _let_go(self) -> None:
        """Give up what is under way towards the upstream."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _forget(self) -> None:
        self.finished = True
        self._client = None
        self._held = None
