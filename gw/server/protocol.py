"""One client connection, spoken by gunicorn's own protocol.

Added to gunicorn's: the application goes by the listener's role; a client that does not finish the head of its first
request, or takes nothing of an answer, is cut off (gunicorn waits for ever); one that is answered before its body is
complete can read the answer; and each connection is known (gw.server.draining), so that there is a limit to them and a
worker that stops waits for requests and loses none. Everything of gunicorn's that is relied on is pinned by
tests/server/test_worker_upstream.py.

Loaded after the fork, as all that serves.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gw.server.asgi_types import Application
from gw.server.client_pace import ClientTimes, Lingering, SendWatch
from gw.server.draining import Connections
from gw.server.http1_protocol import Http1Protocol


class GatewayProtocol(Http1Protocol):
    """The protocol for one role."""

    def __init__(self, worker: Any, app: Application, connections: Connections, times: ClientTimes) -> None:
        super().__init__(worker, times)
        self.app = app
        self._connections = connections
        self._send_watch: SendWatch | None = None  # made when the client first falls behind

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost by closing: no request is being read or answered."""
        parser = self._callback_parser
        return self._task is None and (parser is None or not parser.has_partial_head)

    def connection_made(self, transport: asyncio.Transport) -> None:
        if not self._connections.add(self):
            # Known to nobody yet: connection_lost has nothing of this connection to undo.
            self._conn_lost_handled = True
            transport.abort()
            return
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._send_watch is not None:
            self._send_watch.stop()
        self._connections.discard(self)
        if self._task is None or self._task.done():
            self._end_cycle()
        else:
            self._task.add_done_callback(self._end_cycle)

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
        self._close_transport()

    def abort(self) -> None:
        """Cut off: what is still to be sent is not."""
        if self.transport is not None:
            self.transport.abort()
