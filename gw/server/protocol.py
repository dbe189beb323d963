"""One client connection, spoken by gunicorn's own protocol.

Added to gunicorn's: the application goes by the listener's role; a client that does not finish the head of its first
request, or takes nothing of an answer, is cut off (gunicorn waits for ever); one that is answered before its body is
complete can read the answer; and each connection is known (gw.server.draining), so that there is a limit to them and a
worker that stops waits for requests and loses none. Everything of gunicorn's that is relied on is pinned by
tests/server/test_worker_upstream.py.

Thin, because the gunicorn master imports it with the worker class.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gw.server.asgi_types import Application
from gw.server.client_pace import ClientTimes, Lingering, SendWatch
from gw.server.draining import Connections
from gw.server.strict import StrictProtocol


class GatewayProtocol(StrictProtocol):
    """gunicorn's HTTP/1.1 protocol for one role.

    Later heads are bounded by gunicorn's keep-alive timer, which runs from the answer before to the end of the head.
    """

    _closed: bool

    def __init__(self, worker: Any, app: Application, connections: Connections, times: ClientTimes) -> None:
        super().__init__(worker)
        self.app = app
        self._connections = connections
        self._times = times
        self._header_timer: asyncio.TimerHandle | None = None
        self._send_watch: SendWatch | None = None  # made when the client first falls behind

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost by closing: no request is being read or answered."""
        return (
            self._awaiting_request
            and not self._request_ready.is_set()
            and not self._finishing_calls
            and not self._has_partial_head
        )

    @property
    def _has_partial_head(self) -> bool:
        # The Python parser holds what it cannot use yet in its buffer, and says "headers" once it has the request line.
        parser = self._callback_parser
        return parser is not None and (bool(parser._buffer) or parser._state != "request_line")

    def connection_made(self, transport: asyncio.Transport) -> None:
        if not self._connections.add(self):
            # Known to nobody yet: connection_lost has nothing of this connection to undo.
            self._conn_lost_handled = True
            transport.abort()
            return
        super().connection_made(transport)
        self._header_timer = self.worker.loop.call_later(self._times.header_s, self._on_header_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_header_timer()
        if self._send_watch is not None:
            self._send_watch.stop()
        self._connections.discard(self)
        if self._task is None or self._task.done():
            self._end_cycle()
        else:
            self._task.add_done_callback(self._end_cycle)

    def _end_cycle(self, _: object = None) -> None:
        """Let go of what calls us back: without cycles a connection is freed when it ends, and not by the collector,
        which does not look at what was there when a rebuild froze the heap.
        """
        self._callback_parser: Any = None
        self._body_receiver: Any = None

    def _on_headers_complete(self) -> bool:
        self._cancel_header_timer()
        skip_body: bool = super()._on_headers_complete()
        return skip_body

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        super().resume_writing()
        # While it closes, the rest is still to be sent.
        if self._send_watch is not None and not self._closed:
            self._send_watch.stop()

    def _watch_sending(self) -> None:
        if self._send_watch is None:
            self._send_watch = SendWatch(self.worker.loop, self.transport, self._times.send_s)
        self._send_watch.start()

    def _close_transport(self) -> None:
        """Close once everything is sent, and has a chance to be read."""
        transport = self.transport
        if transport is None or self._closed or transport.is_closing():
            super()._close_transport()
            return
        if self._is_answered_early() or self._is_last_answered:
            self._closed = True
            self._resume_reading()
            Lingering(self.worker.loop, transport, self)
        else:
            super()._close_transport()
        if transport.get_write_buffer_size():
            self._watch_sending()

    def _is_answered_early(self) -> bool:
        """Whether the connection's own task has done with a request whose body is still coming."""
        receiver = self._body_receiver
        return receiver is not None and not receiver._complete and asyncio.current_task() is self._task

    def close_idle(self) -> None:
        """Close as when the keep-alive time is over."""
        self._keepalive_timeout()

    def abort(self) -> None:
        """Cut off: what is still to be sent is not."""
        if self.transport is not None:
            self.transport.abort()

    def _on_header_timeout(self) -> None:
        self._header_timer = None
        if self._has_partial_head:
            self._send_error_response(408, "Request Timeout")
        self.close_idle()

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
