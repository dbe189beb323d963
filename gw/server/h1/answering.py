"""The answering half of a client connection: writes responses as the exchange gives them, and ends the connection.

What is read, and when the next request may be, is `gw.server.h1.connection`'s.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from gw.pipeline.exchange import Exchange
from gw.pipeline.fields import Headers, field_line
from gw.pipeline.gateway import Gateway
from gw.server.client_pace import ClientTimes, Lingering, SendWatch, reset
from gw.server.h1.request_body import ChunkedBody, LengthBody
from gw.server.h1.response_head import Framing, WrittenHead, interim_head, response_head
from gw.upstream.deadline import Deadline
from gw.upstream.response import ResponseHead


class Answering(asyncio.Protocol):
    """The part of gw.pipeline.client.Client that is about responses."""

    __slots__ = (
        "_body",
        "_deadline",
        "_eof",
        "_exchange",
        "_framing",
        "_gateway",
        "_held_head",
        "_is_closing",
        "_is_draining",
        "_is_ready",
        "_is_usual",
        "_keeps_alive",
        "_loop",
        "_pending",
        "_reading_paused",
        "_send_watch",
        "_times",
        "_transport",
        "_writing_paused",
    )

    _transport: asyncio.Transport

    def __init__(self, gateway: Gateway, times: ClientTimes) -> None:
        self._gateway = gateway
        self._loop = gateway.loop
        self._times = times
        self._exchange: Exchange | None = None
        self._body: LengthBody | ChunkedBody | None = None  # what is still to come of the present request
        self._pending = b""  # behind the present request
        self._held_head = b""  # of a response whose body is not here yet
        self._framing = Framing.NONE
        self._keeps_alive = True
        self._reading_paused = False
        self._writing_paused = False
        self._eof = False
        self._is_closing = False
        self._is_draining = False
        # PERF: nothing is under way, held or paused, so that what comes next is a head. May be False all the same.
        self._is_ready = False
        # The present request's response goes out as most do: with its body, over HTTP/1.1, to a client that stays.
        self._is_usual = False
        self._send_watch: SendWatch | None = None
        self._deadline = Deadline(gateway.loop, self._on_due)

    @abstractmethod
    def _go_on(self) -> None:
        """Take the next request, if it is here already."""

    @abstractmethod
    def _on_due(self) -> None:
        """The client has taken too long."""

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._is_ready = False
        if self._exchange is not None:
            self._exchange.pause_response()
        if self._send_watch is None:
            self._send_watch = SendWatch(self._loop, self._transport, self._times.send_s)
        self._send_watch.start()

    def response_interim(self, status: int, headers: Headers) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.request.http_version == "1.1":
            self._write(interim_head(status, headers))

    def response_head(self, status: int, reason: bytes, headers: Headers) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        written = self._head_of(exchange, status, reason, headers)
        self._held_head, self._framing, self._keeps_alive = written.data, written.framing, written.keeps_alive

    def _head_of(self, exchange: Exchange, status: int, reason: bytes, headers: Headers) -> WrittenHead:
        request = exchange.request
        is_last = self._is_draining and not self._pending
        return response_head(
            status,
            reason,
            headers,
            is_head=request.method == "HEAD",
            is_http_1_0=request.http_version == "1.0",
            keeps_alive=self._keeps_alive and self._body is None and not is_last and self._times.idle_s > 0,
        )

    def response(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        self._exchange = None
        if head.rendered is not None and self._is_usual and not self._is_draining:
            data = head.rendered + body
            exchange.body_sent_bytes = len(body)
        else:
            data = self._response(exchange, head, body)
        exchange.sent_bytes += len(data)
        self._transport.write(data)
        self._over(now_s)

    def _response(self, exchange: Exchange, head: ResponseHead, body: bytes) -> bytes:
        written = self._head_of(exchange, head.status, head.reason, head.headers)
        self._keeps_alive = written.keeps_alive
        framing, data = written.framing, written.data
        if framing is Framing.NONE:
            return data
        exchange.body_sent_bytes = len(body)
        if framing is Framing.CHUNKED:
            return b"%b%x\r\n%b\r\n0\r\n\r\n" % (data, len(body), body) if body else data + b"0\r\n\r\n"
        if self._is_usual and written.keeps_alive and not written.ages and framing is Framing.LENGTH:
            head.rendered = data
        return data + body

    def response_body(self, piece: bytes) -> None:
        exchange = self._exchange
        if exchange is None or self._framing is Framing.NONE:
            return
        exchange.body_sent_bytes += len(piece)
        if self._framing is Framing.CHUNKED:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        if self._held_head:
            piece, self._held_head = self._held_head + piece, b""
        exchange.sent_bytes += len(piece)
        self._transport.write(piece)

    def response_flush(self) -> None:
        if self._held_head:
            head, self._held_head = self._held_head, b""
            self._write(head)

    def response_end(self, trailers: Headers) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        last = self._held_head
        self._held_head = b""
        if self._framing is Framing.CHUNKED:
            last += b"0\r\n%b\r\n" % b"".join([field_line(pair) + b"\r\n" for pair in trailers])
        if last:
            exchange.sent_bytes += len(last)
            self._transport.write(last)
        self._over(self._loop.time())

    def _over(self, now_s: float) -> None:
        """A response is written: close, or wait for the next request."""
        if not self._keeps_alive:
            if self._body is not None or self._pending:
                self._linger()
            else:
                self._close()
        elif self._pending or self._eof:
            self._loop.call_soon(self._go_on)
        else:
            deadline, at_s = self._deadline, now_s + self._times.idle_s
            deadline.at_s = at_s
            if deadline.fires_at_s > at_s:
                deadline.set_timer(at_s)
            self._is_ready = not self._writing_paused and not self._is_closing

    def response_cut(self) -> None:
        self._exchange = None
        self.response_flush()
        if self._framing is Framing.CLOSE:
            # Its end would look like the body's: only a reset tells.
            self._is_closing = True
            self._is_ready = False
            self._deadline.stop()
            reset(self._transport)
        else:
            self._close()

    # The socket.

    def _write(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.sent_bytes += len(data)
        self._transport.write(data)

    def _close(self) -> None:
        """Close once everything is sent."""
        self._is_ready = False
        if not self._is_closing:
            self._is_closing = True
            self._deadline.stop()
            self._transport.close()
            self._watch_last_bytes()

    def _linger(self) -> None:
        """Close, though the client may still be sending what nobody will read."""
        self._is_ready = False
        if self._is_closing:
            return
        self._is_closing = True
        self._deadline.stop()
        if self._transport.is_closing():
            return
        self._reading_paused = False
        self._transport.resume_reading()
        Lingering(self._loop, self._transport, self)
        self._watch_last_bytes()

    def _watch_last_bytes(self) -> None:
        if self._transport.get_write_buffer_size():
            if self._send_watch is None:
                self._send_watch = SendWatch(self._loop, self._transport, self._times.send_s)
            self._send_watch.start()
