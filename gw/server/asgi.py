"""The ASGI edge: an adapter at the client side of an exchange, for any ASGI server (gunicorn's ASGIProtocol here).

`traffic_app` gives the ASGI callable. The server's task runs it; the exchange itself runs in callbacks, and this module
carries its pieces over to `send`. A request with a body takes one more task, because ASGI's `receive` and `send` have
to be awaited side by side: an upstream may answer before the body is complete.

A client that goes away: without a body, the server cancels the task (gunicorn with asgi_disconnect_grace_period 0);
with one, `receive` says http.disconnect. Either closes the upstream connection.

What ASGI cannot carry: trailers over HTTP/1, interim responses of the upstream, reason phrases, half-close, and a byte
tunnel: a WebSocket handshake is refused (the server answers 403) on this edge. A head that is to leave before its body
is followed by an empty piece, which makes our server (gw.server.asgi_call) write it. A response that breaks off ends
this call without its last message, whereupon the server closes the connection.
"""

import asyncio
import logging
from typing import Any, Final

from gw.pipeline.context import Link, Request
from gw.pipeline.exchange import Exchange
from gw.pipeline.fields import Headers
from gw.pipeline.forwarding import Forwarding
from gw.pipeline.gateway import Gateway
from gw.server.asgi_types import CONNECTION_NOTES, Application, ConnectionNotes, Receive, Scope, Send
from gw.upstream.connection import UpstreamConnection
from gw.upstream.response import ResponseHead

logger = logging.getLogger(__name__)

# Bytes of a response that wait for `send` before the upstream is paused. A piece may be as large as one read of the
# event loop (256 KB), so per exchange it is at most that much more.
_RESPONSE_HIGH_WATER_BYTES: Final = 64 * 1024
# Methods of which an HTTP/2 request without content-length is taken to have a body.
_BODY_METHODS: Final = frozenset(("POST", "PUT", "PATCH"))


def traffic_app(gateway: Gateway) -> Application:
    """Return the ASGI callable that proxies for `gateway`, on its loop."""
    loop = gateway.loop

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _refuse(scope, receive, send)
            return
        client = _AsgiClient(loop)
        exchange = Exchange(gateway, client, _request(scope))
        client.exchange = exchange
        upload: asyncio.Task[None] | None = None
        try:
            exchange.start()
            if exchange.wants_body and not exchange.finished:
                upload = loop.create_task(client.upload(receive), name="upload")
            await client.relay(send)
        finally:
            exchange.client_gone()
            client.exchange = None
            if upload is not None:
                upload.cancel()

    return app


def http_only(application: Any) -> Application:
    """`application`, to which no WebSocket comes: falcon leads a handshake past the middleware that guards requests."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await _refuse(scope, receive, send)
        else:
            await application(scope, receive, send)

    return app


def _request(scope: Scope) -> Request:
    notes = scope["extensions"].get(CONNECTION_NOTES) if "extensions" in scope else None
    if notes is None:
        notes = ConnectionNotes()
    notes.requests += 1
    method, repeated = scope["method"], notes.repeated
    if repeated is not None and repeated.is_settled:
        known: Request = repeated.request(method, scope["raw_path"], scope["query_string"], notes.requests)
        return known
    link = notes.link
    if link is None:
        link = notes.link = _link(scope)
    version = scope["http_version"]
    request = Request(
        method,
        scope["raw_path"],
        scope["query_string"],
        scope["headers"],
        link,
        version,
        notes.requests,
        unframed_body=method in _BODY_METHODS and version == "2",
    )
    request.repeated = repeated
    return request


def _link(scope: Scope) -> Link:
    peer, server = scope.get("client"), scope.get("server")
    peer_addr, peer_port = peer if peer else ("unix", None)
    server_addr, server_port = server if server else ("", None)
    return Link(scope["scheme"], peer_addr, peer_port, server_addr, server_port)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """What is not HTTP: a WebSocket is closed before it is accepted, which the server answers with 403."""
    if scope["type"] != "websocket":
        raise NotImplementedError(f"scope type {scope['type']}")
    await receive()  # websocket.connect
    await send({"type": "websocket.close", "code": 1000, "reason": ""})


class _AsgiClient:
    """Holds what the exchange says until `send` has taken it."""

    # PERF: defaults of the class, as in gw.pipeline.exchange: most responses come whole and set three of them.
    _cut = False
    _ended = False
    _flushes = False
    _head: tuple[int, Headers] | None = None
    _holds_head = False  # no piece has followed it yet
    _response_paused = False
    _size = 0
    _upload_paused = True  # until the upstream is ready for the body
    _upload_waiter: asyncio.Future[None] | None = None
    _waiter: asyncio.Future[None] | None = None
    exchange: Exchange | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: list[bytes] = []

    # What the exchange calls; see gw.pipeline.client.Client.

    def response_interim(self, status: int, headers: Headers) -> None:
        """ASGI has no way to say it."""

    def response_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self._head = (status, headers)
        self._holds_head = True
        self._wake()

    def response(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        if self.exchange is not None:
            self.exchange.sent_bytes += len(body)
            self.exchange.body_sent_bytes += len(body)
        self._head = (head.status, head.headers)
        self._pieces.append(body)
        self._ended = True
        self._wake()

    def response_flush(self) -> None:
        if self._holds_head:
            self._flushes = True
            self._wake()

    def tunnel(self, exchange: Forwarding, connection: UpstreamConnection, headers: Headers, rest: bytes) -> None:
        """Never called: no handshake is passed on from here."""
        raise NotImplementedError

    def response_body(self, piece: bytes) -> None:
        if self.exchange is not None:
            self.exchange.sent_bytes += len(piece)
            self.exchange.body_sent_bytes += len(piece)
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _RESPONSE_HIGH_WATER_BYTES and not self._response_paused and self.exchange is not None:
            self._response_paused = True
            self.exchange.pause_response()
        self._wake()

    def response_end(self, trailers: Headers) -> None:
        self._ended = True
        self._wake()

    def response_cut(self) -> None:
        self._cut = True
        self._flushes = self._holds_head
        self._wake()

    def pause_request(self) -> None:
        self._upload_paused = True

    def resume_request(self) -> None:
        self._upload_paused = False
        waiter = self._upload_waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the application's tasks run.

    async def relay(self, send: Send) -> None:
        """Pass the response on until it has ended, or was cut."""
        if self._head is None and not self._cut:
            waiter = self._waiter = self._loop.create_future()
            await waiter
            self._waiter = None
        if self._ended and self._head is not None and len(self._pieces) == 1:
            # PERF: as most come, whole and at once; bench/request_path.py.
            status, headers = self._head
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": self._pieces[0], "more_body": False})
            return
        while True:
            if self._head is None and not (self._pieces or self._ended or self._cut or self._flushes):
                waiter = self._waiter = self._loop.create_future()
                await waiter
                self._waiter = None
            if self._head is not None:
                (status, headers), self._head = self._head, None
                await send({"type": "http.response.start", "status": status, "headers": headers})
            ended = self._ended
            if self._pieces:
                self._holds_head = self._flushes = False
                pieces, self._pieces = self._pieces, []
                self._size = 0
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                await send({"type": "http.response.body", "body": body, "more_body": not ended})
                if ended:
                    return
                self._resume_response()
            elif ended:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            elif self._flushes:
                self._holds_head = self._flushes = False
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            elif self._cut:
                return

    def _resume_response(self) -> None:
        if self._response_paused and self._size <= _RESPONSE_HIGH_WATER_BYTES:
            self._response_paused = False
            if self.exchange is not None:
                self.exchange.resume_response()

    async def upload(self, receive: Receive) -> None:
        """Feed the request's body to the exchange, as fast as it wants it."""
        exchange = self.exchange
        assert exchange is not None
        try:
            while not exchange.finished:
                if self._upload_paused:
                    waiter = self._upload_waiter = self._loop.create_future()
                    await waiter
                    self._upload_waiter = None
                    continue
                message = await receive()
                if message["type"] != "http.request":
                    exchange.request_cut()
                    return
                if not message.get("more_body", False):
                    exchange.request_end(message.get("body", b""))
                    return
                exchange.request_body(message.get("body", b""))
        except Exception:
            logger.exception("reading a request's body")
            exchange.request_cut()
