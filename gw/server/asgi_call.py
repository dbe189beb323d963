"""One call of an ASGI application for a request over HTTP/1.1: what it sends becomes a response.

The head is that of our own protocol (gw.server.h1.response_head) and leaves together with the body's first piece, which
may be empty. A response that is not what its head says ends the connection: one that breaks off, or is shorter than its
Content-Length; what is longer is cut. One that begins before the request's body is complete says that it is the last
(RFC 9112 section 9.6). Interim responses and trailers are let pass unsaid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gunicorn.asgi.protocol import _validate_response_headers

from gw.server.asgi_types import Message
from gw.server.h1.response_head import Framing, WrittenHead, response_head

if TYPE_CHECKING:
    from gw.server.http1_protocol import Http1Protocol

# A body of as many bytes is not copied to be in one piece with what stands around it.
_NO_COPY_BYTES: Final = 64 * 1024


class KnownHead(NamedTuple):
    """A response head as it was written last, to be written again for the same fields. `length`: the body's."""

    status: int
    headers: list[tuple[bytes, bytes]]
    written: WrittenHead
    length: int


class Call:
    """`has_begun`: a response's head was sent. `is_complete`: so was the last piece of its body."""

    __slots__ = (
        "_framing",
        "_held_head",
        "_left_bytes",
        "_protocol",
        "has_begun",
        "is_complete",
        "is_head",
        "is_http_1_0",
        "keeps_alive",
    )

    def __init__(self, protocol: Http1Protocol, method: str, version: str, *, keeps_alive: bool) -> None:
        """`keeps_alive`: what the client asks for."""
        self._protocol = protocol
        self.is_head = method == "HEAD"
        self.is_http_1_0 = version == "1.0"
        self.keeps_alive = keeps_alive
        self.has_begun = False
        self.is_complete = False
        self._framing = Framing.LENGTH
        self._left_bytes = 0
        self._held_head = b""

    async def send(self, message: Message) -> None:
        """ASGI's."""
        protocol = self._protocol
        if protocol._closed:
            return
        kind = message["type"]
        if kind == "http.response.body":
            if not self.has_begun or self.is_complete:
                raise RuntimeError("a piece of a body without a response")
            self._send_body(message.get("body", b""), is_last=not message.get("more_body", False))
            if protocol._flow_control.write_paused:
                await protocol._flow_control.drain()
        elif kind == "http.response.start":
            if self.has_begun:
                raise RuntimeError("a second head of one response")
            self._send_head(message["status"], message.get("headers", []))

    def _send_head(self, status: int, headers: Any) -> None:
        protocol, receiver = self._protocol, self._protocol._body_receiver
        is_early = receiver is not None and not receiver._complete
        if is_early:
            receiver.expect_continue = False  # RFC 9110 section 15.2: no interim response follows a final one
        keeps_alive = self.keeps_alive and not is_early and protocol.may_go_on()
        is_usual = keeps_alive and not self.is_head and not self.is_http_1_0
        known = protocol.known_head
        if not is_usual or known is None or known.status != status or known.headers != headers:
            _validate_response_headers(headers)
            written = response_head(
                status, b"", headers, is_head=self.is_head, is_http_1_0=self.is_http_1_0, keeps_alive=keeps_alive
            )
            length = int(dict(headers)[b"content-length"]) if written.framing is Framing.LENGTH else 0
            known = KnownHead(status, list(headers), written, length)
            if is_usual and written.keeps_alive and not written.ages:
                protocol.known_head = known
        written = known.written
        self.has_begun = True
        self.keeps_alive = written.keeps_alive
        self._held_head = written.data
        self._framing = written.framing
        self._left_bytes = known.length

    def _send_body(self, body: bytes, *, is_last: bool) -> None:
        framing = self._framing
        head, self._held_head = self._held_head, b""
        tail = b""
        if framing is Framing.LENGTH:
            if len(body) > self._left_bytes:
                body = body[: self._left_bytes]
            self._left_bytes -= len(body)
        elif framing is Framing.NONE:
            body = b""
        elif framing is Framing.CHUNKED:
            if body:
                head += b"%x\r\n" % len(body)
                tail = b"\r\n"
            if is_last:
                tail += b"0\r\n\r\n"
        if len(body) >= _NO_COPY_BYTES:
            for part in filter(None, (head, body, tail)):
                self._protocol._safe_write(part)
        elif head or body or tail:
            self._protocol._safe_write(head + body + tail)
        self.is_complete = is_last

    @property
    def ends_with_connection(self) -> bool:
        """Whether nothing but the end of the connection tells where the body ends."""
        return self._framing is Framing.CLOSE

    def is_whole(self) -> bool:
        """Whether the application has sent all that it began."""
        return self.is_complete and (self._left_bytes == 0 or self._framing is not Framing.LENGTH)
