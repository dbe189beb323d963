"""gunicorn's protocol with our parser, and with at most one answer to each request.

What is changed: a malformed request is answered in our words, which quote nothing of it, and never within a response
that has begun (the rest of a body may turn out malformed long after its answer was started), where it would read as
part of that response; and a connection that drains (gw.server.draining) says in its next response that it is the last
one. gunicorn's own way, `worker.alive`, also ends connections whose response promised to be followed by more.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from http import HTTPStatus
from typing import Any

from gunicorn.asgi.protocol import ASGIProtocol, _get_cached_date_header

from gw import __version__
from gw.pipeline.reply import error_reply
from gw.server.asgi_call import Call
from gw.server.h1.request_head import RequestHead
from gw.server.quick_parser import QuickParser


class StrictProtocol(ASGIProtocol):
    """See the module's rules. `_call`: of the present request, from its head to the end of its answer."""

    _body_receiver: Any
    _callback_parser: Any
    _current_request: Any
    _task: asyncio.Task[None] | None

    def __init__(self, worker: Any) -> None:
        super().__init__(worker)
        self._call: Call | None = None
        self._is_draining = False
        self._is_last_answered = False
        # gunicorn's own logs each path decoded, line feeds and all, at level debug.
        self._pre_request = None

    def _setup_callback_parser(self) -> None:
        cfg = self.cfg
        self._callback_parser = QuickParser(
            on_bare_head=self._on_bare_head,
            drops_underscores=cfg.header_map == "drop",
            on_headers_complete=self._on_headers_complete,
            on_body=self._on_body,
            on_message_complete=self._on_message_complete,
            limit_request_line=cfg.limit_request_line,
            limit_request_fields=cfg.limit_request_fields,
            limit_request_field_size=cfg.limit_request_field_size,
        )

    @abstractmethod
    def _on_bare_head(self, head: RequestHead) -> None:
        """The parser has read a head that no body follows."""

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

    def may_go_on(self) -> bool:
        """Whether another request may follow the response whose head is written now; what is said there holds."""
        worker = self.worker
        if not (worker.alive and self._keepalive) or worker.nr + 1 >= worker.max_requests:
            return False
        if self._is_draining and not self._has_next_request:
            self._is_last_answered = True
            return False
        return True

    @property
    def _has_next_request(self) -> bool:
        """Whether bytes of another request have come behind the one that is answered."""
        parser = self._callback_parser
        return parser is not None and parser.is_complete and bool(parser._buffer)

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:
        if self._call is not None and self._call.has_begun:
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
