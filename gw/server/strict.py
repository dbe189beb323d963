"""gunicorn's HTTP/1.1 protocol with our parser, and with exactly one answer to each request.

What is changed: a malformed request is answered in our words, which quote nothing of it; never within a response that
has begun (the rest of a body may turn out malformed long after its answer was started), where it would read as part of
that response; and an application may end the connection by `connection: close` in its answer, as ASGI servers let it.

Thin, as gw.server.protocol is.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from gunicorn.asgi.protocol import ASGIProtocol

from gw import __version__
from gw.server.parser import RequestParser

_CLOSE: Final = (b"connection", b"close")


class StrictProtocol(ASGIProtocol):
    """See the module's rules."""

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._answered_request: Any = None

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

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        self._answered_request = request
        if not close and _CLOSE in headers:
            request.must_close = True
            # Whoever has read these may have changed them, so gunicorn decides anew whether it closes.
            _ = request.headers
        super()._send_response_start(status, headers, request, close)

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        if self._current_request is not None and self._answered_request is self._current_request:
            self.log.info("closing a connection within its response: %s", ascii(message))
            return
        self.log.debug("answered %d: %s", status, ascii(message))
        body = b'{"error_msg":"%d %b"}\n' % (status, HTTPStatus(status).phrase.encode("ascii"))
        extra = "".join(f"{name}: {value}\r\n" for name, value in extra_headers)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"server: Jitterway/{__version__}\r\n"
            f"{extra}"
            "connection: close\r\n\r\n"
        )
        self._safe_write(head.encode("ascii") + body)
