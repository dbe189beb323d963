"""gunicorn's HTTP/1.1 protocol with our parser, and with exactly one answer to each request.

What is changed: a malformed request is answered in our words, which quote nothing of it; never within a response that
has begun (the rest of a body may turn out malformed long after its answer was started), where it would read as part of
that response; an application may end the connection by `connection: close` in its answer, as ASGI servers let it; a
client of HTTP/1.0 whose connection is kept is told so (RFC 9112 section 9.3), or it would wait for the end of it; every
registered status has its phrase; and a connection that drains (gw.server.draining) says in its next response that it is
the last one. gunicorn's own way, `worker.alive`, also ends connections whose response promised to be followed by more.

Thin, as gw.server.protocol is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from gunicorn.asgi.protocol import (
    _REASON_PHRASES,
    ASGIProtocol,
    _get_cached_date_header,
    _get_cached_status_line,
)

from gw import __version__
from gw.pipeline.reply import error_reply
from gw.server.parser import RequestParser

_CLOSE: Final = (b"connection", b"close")
_KEEP_ALIVE: Final = (b"connection", b"keep-alive")
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus if status.value not in _REASON_PHRASES}


class StrictProtocol(ASGIProtocol):
    """See the module's rules."""

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._answered_request: Any = None
        self._is_draining = False
        self._is_last_answered = False
        # gunicorn's own logs each path decoded, line feeds and all, at level debug.
        self._pre_request = None

    def _setup_callback_parser(self) -> None:
        cfg = self.cfg
        self._callback_parser = RequestParser(
            on_headers_complete=self._on_headers_complete,
            on_body=self._on_body,
            on_message_complete=self._on_message_complete,
            limit_request_line=cfg.limit_request_line,
            limit_request_fields=cfg.limit_request_fields,
            limit_request_field_size=cfg.limit_request_field_size,
        )

    def _http1_buffered(self) -> int:
        # gunicorn's asks for its own class by name, and would let pipelined requests pile up in ours.
        receiver, parser = self._body_receiver, self._callback_parser
        held: int = receiver.buffered if receiver is not None else 0
        if parser is not None and parser.is_complete:
            held += len(parser._buffer)
        return held

    def drain(self) -> None:
        """Let the next response be the last one; see gw.server.draining."""
        self._is_draining = True

    @property
    def _has_next_request(self) -> bool:
        """Whether bytes of another request have come behind the one that is answered."""
        parser = self._callback_parser
        return parser is not None and parser.is_complete and bool(parser._buffer)

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        self._answered_request = request
        if not close and self._is_draining and not self._has_next_request:
            self._is_last_answered = close = True
            _end_after(request)
        elif not close and _CLOSE in headers:
            _end_after(request)
        elif not close and request.version == (1, 0):
            headers = [*headers, _KEEP_ALIVE]
        if status in _PHRASES:
            # The line stays in gunicorn's cache.
            _get_cached_status_line(request.version, status, _PHRASES[status])
        super()._send_response_start(status, headers, request, close)

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        if self._current_request is not None and self._answered_request is self._current_request:
            self.log.info("closing a connection within its response: %s", ascii(message))
            return
        self.log.debug("answered %d: %s", status, ascii(message))
        body = error_reply(status).body
        extra = "".join(f"{name}: {value}\r\n" for name, value in extra_headers)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"server: Jitterway/{__version__}\r\n"
            f"{extra}"
            "connection: close\r\n"
        )
        date: bytes = _get_cached_date_header()  # with its line end
        self._safe_write(head.encode("ascii") + date + b"\r\n" + body)


def _end_after(request: Any) -> None:
    """Make gunicorn close the connection when this request is answered."""
    request.must_close = True
    # Whoever has read these may have changed them, so gunicorn decides anew whether it closes.
    _ = request.headers
