"""One client connection of HTTP/1.1, in callbacks: whole heads in, exchanges made, responses written.

One request at a time: what a client sends behind it (pipelining) stays as bytes, and reading stops, until it is
answered. So nothing is parsed before its turn, and what one connection holds is bounded by one read of the loop.

- A body is handed to the exchange as it comes; `pause_request` stops the socket.
- A request that is answered before its body is complete ends the connection, in a way that lets the client read the
  answer (gw.server.client_pace.Lingering).
- A client that says no more (half-close) is still answered; one that resets the connection is gone.
- A client that sends `Expect: 100-continue` is told to go on when its body is wanted for the first time.

One timer guards head, body and idle time; it is moved when it fires, not for each request. What is written and not
taken is SendWatch's to see.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from functools import partial
from typing import Any, Final, cast

from gw.pipeline.context import Link, Request
from gw.pipeline.exchange import Exchange
from gw.pipeline.fields import Headers
from gw.pipeline.forwarding import Forwarding
from gw.pipeline.gateway import Gateway
from gw.pipeline.repeated import Repeated
from gw.server.client_pace import ClientTimes
from gw.server.draining import Connections
from gw.server.h1.answering import Answering
from gw.server.h1.refusal import Refused, refusal_bytes
from gw.server.h1.repetition import METHODS, Repetition, request_line
from gw.server.h1.request_body import ChunkedBody, LengthBody
from gw.server.h1.request_head import HeadLimits, RequestHead, too_large
from gw.server.h1.response_head import date_line, response_head
from gw.server.h1.tunnel import Tunnel
from gw.upstream.connection import UpstreamConnection

logger = logging.getLogger(__name__)

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"
_CR: Final = 0x0D
# Bytes of a response that wait for the client before the upstream is paused.
_HIGH_WATER_BYTES: Final = 64 * 1024
_NO_FIELDS: Final[Headers] = []
# The one protocol that a client may switch to (RFC 6455).
_WEBSOCKET: Final = b"websocket"


class H1Connection(Answering):
    """See the module's rules. It is the `Client` of its exchanges (gw.pipeline.client)."""

    __slots__ = (
        "_connections",
        "_continue_due",
        "_head",
        "_limits",
        "_link",
        "_partial",
        "_repetition",
        "_request_paused",
        "_requests",
        "_tunnel",
    )

    _link: Link

    def __init__(self, gateway: Gateway, connections: Connections, limits: HeadLimits, times: ClientTimes) -> None:
        super().__init__(gateway, times)
        self._connections = connections
        self._limits = limits
        self._head = RequestHead(limits)
        self._partial = bytearray()  # of a head that has begun
        self._continue_due = False
        self._requests = 0
        self._request_paused = False
        self._tunnel: Tunnel | None = None
        self._repetition = Repetition(limits)

    # What the set of connections asks and says; see gw.server.draining.

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost by closing: no request is being read or answered."""
        return self._exchange is None and self._tunnel is None and not self._partial and not self._pending

    def drain(self) -> None:
        """Say `Connection: close` with the next answer, and end with it; of requests that are here, the last's."""
        self._is_draining = True

    def close_idle(self) -> None:
        """Close now: it is idle."""
        self._close()

    def abort(self) -> None:
        """Cut off: what is still to be sent is not."""
        if self._tunnel is not None:
            self._tunnel.abort()
        else:
            self._transport.abort()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._connections.add(self):
            self._is_closing = True
            self._transport.abort()
            return
        peer: Any = transport.get_extra_info("peername")
        here: Any = transport.get_extra_info("sockname")
        scheme = "http" if transport.get_extra_info("ssl_object") is None else "https"
        if isinstance(peer, tuple) and isinstance(here, tuple):
            self._link = Link(scheme, peer[0], peer[1], here[0], here[1])
        else:
            self._link = Link(scheme, "unix", None, "", None)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self._deadline.after(self._times.header_s)

    def data_received(self, data: bytes) -> None:
        if self._is_ready:
            self._is_ready = False
            known = self._repetition.known
            if known is not None:
                head_bytes = len(data) - known.body_bytes
                if 0 < head_bytes <= known.longest_bytes and data.endswith(known.tail, 0, head_bytes):
                    line = request_line(data, 0, head_bytes - len(known.tail))
                    if line is not None:
                        self._take_repeated(known, line, data, head_bytes)
                        return
        exchange = self._exchange
        # PERF: a head that comes whole and alone, as nearly all do.
        if (
            exchange is None
            and not self._partial
            and not self._is_closing
            and not self._writing_paused
            and data.endswith(_HEAD_END)
            and data.find(_HEAD_END) + 4 == len(data)
            and data[0] != _CR
        ):
            try:
                self._head.read(data)
                self._begin_exchange(self._head, len(data))
            except Refused as refusal:
                self._refuse(refusal)
            else:
                self._start_alone(data)
            return
        if self._is_closing:
            return
        if exchange is not None:
            if self._body is not None:
                self._take_body(exchange, data)
            else:
                self._hold(data)
            return
        if self._writing_paused:
            self._hold(data)
            return
        try:
            self._take_head(data)
        except Refused as refusal:
            self._refuse(refusal)

    def eof_received(self) -> bool:
        """A client that says no more is answered all the same, if it said all of its request."""
        self._eof = True
        self._is_ready = False
        exchange = self._exchange
        if exchange is None:
            self._close()
            return False
        if self._body is not None:
            exchange.client_gone()
            self._exchange = None
            self._close()
            return False
        return True

    def resume_writing(self) -> None:
        if self._send_watch is not None and not self._is_closing:
            self._send_watch.stop()
        self._writing_paused = False
        if self._exchange is not None:
            self._exchange.resume_response()
        elif self._pending or self._eof:
            self._loop.call_soon(self._go_on)
        elif not self._partial and not self._is_closing:
            self._deadline.after(self._times.idle_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closing = True
        self._is_ready = False
        self._deadline.stop()
        if self._send_watch is not None:
            self._send_watch.stop()
        self._head.close()
        self._repetition.forget()
        self._connections.discard(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._tunnel is None:
            exchange.client_gone()

    # A request.

    def _take_head(self, data: bytes) -> None:
        """Read a head if all of it is here, and what stands behind it. Raises Refused."""
        if self._partial:
            self._partial += data
            # The end may lie across two reads.
            end = self._partial.find(_HEAD_END, max(0, len(self._partial) - len(data) - 3))
            data = bytes(self._partial)
        else:
            end = data.find(_HEAD_END)
        if data[0] == _CR and data.startswith(b"\r\n"):
            # RFC 9112 section 2.2: an empty line before a request is let pass, here as many as make a head's end.
            data = data.lstrip(b"\r\n") if data.startswith(b"\r\n\r\n") else data[2:]
            self._partial = bytearray()
            if data:
                self._take_head(data)
            return
        if end < 0:
            self._begin_head(data)
            return
        self._partial = bytearray()
        end += 4
        head = self._head
        if end == len(data):
            head.read(data)
        else:
            head.read(data[:end])
        self._begin_exchange(head, end)
        if end < len(data):
            rest = data[end:]
            if self._body is not None:
                self._take_body(self._exchange, rest)
                if self._body is None and head.length == len(rest):
                    self._start_alone(data[:end])
                    return
            else:
                self._hold(rest)
        self._start()

    def _start_alone(self, data: bytes) -> None:
        """Begin with the head that this read brought, with its whole body or none; its fields may come again."""
        exchange = self._exchange
        if exchange is not None:
            head = self._head
            is_bare = self._body is None and (head.is_plain or not (head.upgrade or head.expects_continue))
            body_bytes = 0 if head.is_plain else head.length or 0
            repetition = self._repetition
            repetition.note(data, exchange.request, body_bytes, is_bare=is_bare, keeps_alive=self._keeps_alive)
            self._start()
            repetition.settle()

    def _start(self) -> None:
        if self._exchange is not None:
            if self._body is not None and not self._request_paused:
                self._deadline.after(self._times.body_s)
            self._exchange.start()

    def _may_be_usual(self, request: Request) -> bool:
        """See Answering._is_usual, for a request that is here with all its body."""
        is_plain = request.http_version == "1.1" and request.method != "HEAD"
        return is_plain and self._keeps_alive and self._times.idle_s > 0

    def _begin_head(self, data: bytes) -> None:
        """The first part of a head. Raises Refused."""
        if not self._partial:
            self._partial += data
            if self._requests:
                self._deadline.after(self._times.header_s)
        if (refusal := too_large(self._partial, self._limits)) is not None:
            raise refusal
        if b"\n" in data and data.count(b"\n") != data.count(b"\r\n"):
            raise Refused(400, "bare LF in the head")

    def _begin_exchange(self, head: RequestHead, head_bytes: int) -> None:
        self._requests += 1
        self._deadline.at_s = math.inf
        target, query = head.target, b""
        if b"?" in target:
            target, _, query = target.partition(b"?")
        request = Request(head.method, target, query, head.headers, self._link, head.version, self._requests)
        head.headers = _NO_FIELDS  # while the connection is idle, nobody needs them
        exchange = self._exchange = Exchange(self._gateway, self, request, head_bytes)
        self._keeps_alive = head.keeps_alive
        if head.is_plain:
            self._is_usual = self._may_be_usual(request)
            return
        if head.is_chunked:
            self._body = ChunkedBody()
        elif head.length:
            self._body = LengthBody(head.length)
        if self._body is not None:
            self._is_usual = False
            self._continue_due = head.expects_continue
            self._request_paused = False
            return
        self._is_usual = self._may_be_usual(request)
        if head.upgrade.lower() == _WEBSOCKET and head.method == "GET":
            exchange.upgrade = _WEBSOCKET

    def _take_repeated(self, repeated: Repeated, line: re.Match[bytes], data: bytes, head_bytes: int) -> None:
        """A head whose fields are known, and the body that they announce."""
        self._requests = requests = self._requests + 1
        self._keeps_alive = keeps_alive = repeated.keeps_alive
        method, target, query = line.groups(b"")
        request = repeated.request(METHODS[method], target, query, requests)
        self._is_usual = keeps_alive and method != b"HEAD" and request.http_version == "1.1" and self._times.idle_s > 0
        self._deadline.at_s = math.inf
        exchange = self._exchange = Exchange(self._gateway, self, request, len(data))
        if repeated.body_bytes:
            exchange.request_end(data[head_bytes:])
        exchange.start()

    def _take_body(self, exchange: Exchange | None, data: bytes) -> None:
        """Hand on what belongs to the body; what stands behind it waits."""
        body = self._body
        assert body is not None
        assert exchange is not None
        try:
            taken = body.take(data)
        except Refused as refusal:
            self._spoil(exchange, refusal)
            return
        exchange.received_bytes += taken.used_bytes
        # Whoever sends tiny chunks is not to have each of them written, and framed, by itself.
        pieces = taken.pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if taken.is_complete:
            exchange.request_end(piece, body.trailers)
            if self._is_closing:
                return  # refused: the rest is let pass
            self._body = None
            self._is_usual = self._may_be_usual(exchange.request)
            self._continue_due = False
            self._deadline.at_s = math.inf
            self._resume_reading()
            if taken.used_bytes < len(data):
                self._hold(data[taken.used_bytes :])
        else:
            exchange.request_body(piece)
            if not (self._is_closing or self._request_paused):
                self._deadline.at_s = self._loop.time() + self._times.body_s

    def _spoil(self, exchange: Exchange, refusal: Refused) -> None:
        """The body turned out malformed: an upstream must not take what it got for all of it."""
        logger.info("refused: %s", refusal.reason)
        self._keeps_alive = False
        exchange.body_malformed()

    def _hold(self, data: bytes) -> None:
        """Bytes of later requests wait."""
        self._pending += data
        self._pause_reading()

    def _go_on(self) -> None:
        """Take the next request, if it is here already."""
        if self._is_closing or self._exchange is not None or self._writing_paused:
            return
        data, self._pending = self._pending, b""
        self._resume_reading()
        if data:
            try:
                self._take_head(data)
            except Refused as refusal:
                self._refuse(refusal)
        if self._exchange is None:
            if self._eof:
                self._close()
            elif not self._partial and not self._is_closing:
                self._deadline.after(self._times.idle_s)

    def _refuse(self, refusal: Refused) -> None:
        logger.info("refused: %s", refusal.reason)
        answer = refusal_bytes(refusal.status, self._gateway.server_header, date_line())
        self._transport.write(answer)
        self._gateway.refused(refusal.status, len(answer))
        self._partial = bytearray()
        self._linger()

    # What the exchange calls; see gw.pipeline.client.Client.

    def tunnel(self, exchange: Forwarding, connection: UpstreamConnection, headers: Headers, rest: bytes) -> None:
        if self._transport.is_closing():
            connection.abort()  # the exchange hears of its client's end in a moment
            return
        idle_s = connection.read_timeout_s
        upstream = connection.detach()
        self._deadline.stop()
        pending, self._pending = self._pending, b""
        over = partial(self._tunnel_over, exchange)
        tunnel = self._tunnel = Tunnel(self._loop, self._transport, upstream, idle_s, over)
        head = response_head(101, b"", headers, is_head=False, is_http_1_0=False, keeps_alive=True).data
        self._write(head[:-2] + b"connection: upgrade\r\nupgrade: %b\r\n\r\n" % exchange.upgrade + rest)
        if pending:
            exchange.received_bytes += len(pending)
            upstream.write(pending)
        if self._eof:
            tunnel.client_ended()

    def _tunnel_over(self, exchange: Forwarding, received_bytes: int, sent_bytes: int) -> None:
        exchange.received_bytes += received_bytes
        exchange.sent_bytes += sent_bytes
        exchange.body_sent_bytes += sent_bytes
        self._tunnel = None
        self._exchange = None
        exchange.tunnel_over()
        self.connection_lost(None)

    def pause_request(self) -> None:
        if self._body is not None and not self._request_paused:
            self._request_paused = True
            self._deadline.at_s = math.inf
            self._pause_reading()

    def resume_request(self) -> None:
        if self._body is None:
            return
        if self._continue_due:
            self._continue_due = False
            self._write(_CONTINUE)
        self._request_paused = False
        self._deadline.after(self._times.body_s)
        self._resume_reading()

    # The socket.

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _on_due(self) -> None:
        if self._is_closing:
            return
        exchange = self._exchange
        if exchange is not None:
            self._keeps_alive = False
            exchange.request_cut()
        elif self._partial:
            self._refuse(Refused(408, "the head took too long"))
        elif not self._writing_paused:  # who still takes an answer is not idle, and SendWatch's
            self._close()
