"""gunicorn's protocol with HTTP/1.1 in callbacks: a task for each request, and none while a connection is idle.

gunicorn's own has a task for each connection, which waits on an event for the next head and runs each request in one
more task, so that an application may go on after its answer. None of ours does. What is taken from gunicorn's here: how
a connection begins (HTTP/2 or this), how its parser is fed and a refusal answered, the receiver of bodies, flow
control, WebSocket handshakes, and the end of a connection, which cancels the present task.

Heads that come again in the same bytes but for method, target and query are not read (gw.server.h1.repetition): the
application that proxies settles in `ConnectionNotes` what their fields mean.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gunicorn.asgi.parser import CallbackRequest
from gunicorn.asgi.protocol import BodyReceiver, _normalize_sockaddr

from gw.pipeline.repeated import Repeated
from gw.server.asgi_call import Call, KnownHead
from gw.server.asgi_types import CONNECTION_NOTES, ConnectionNotes, Message, Scope
from gw.server.client_pace import ClientTimes, reset
from gw.server.h1.repetition import METHODS, Repetition, request_line
from gw.server.h1.request_head import RequestHead
from gw.server.strict import StrictProtocol
from gw.upstream.deadline import Deadline

_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_HTTP_1_0: Final = b" HTTP/1.0"


class Http1Protocol(StrictProtocol):
    """See the module's rules. `known_head`: the response head that was written last.

    One timer guards the first head and the time from an answer to the end of the next head; it is moved when it fires,
    not for each request.
    """

    known_head: KnownHead | None = None
    _closed: bool

    def __init__(self, worker: Any, times: ClientTimes) -> None:
        super().__init__(worker)
        self._times = times
        self._keepalive = times.idle_s
        self._repetition: Repetition | None = None
        self._deadline = Deadline(worker.loop, self._on_due)

    # How a connection begins and ends.

    def _start_http1(self, buffered: bytes = b"") -> None:
        self._setup_callback_parser()
        self._repetition = Repetition(self._callback_parser.limits)
        self._deadline.after(self._times.header_s)
        self._notes = ConnectionNotes()
        self._extensions = {CONNECTION_NOTES: self._notes}
        self._peer = self.transport.get_extra_info("peername")
        self._here = self.transport.get_extra_info("sockname")
        self._client, self._server = _normalize_sockaddr(self._peer), _normalize_sockaddr(self._here)
        if buffered:
            self._feed_callback_parser(buffered)

    def _end_cycle(self, _: object = None) -> None:
        """Let go of what calls us back: without cycles a connection is freed when it ends, and not by the collector,
        which does not look at what was there when a rebuild froze the heap.
        """
        parser, self._callback_parser = self._callback_parser, None
        if parser is not None:
            parser.close()
        if self._repetition is not None:
            self._repetition.forget()
        self._deadline.stop()
        self._body_receiver = None
        self._call = None
        self._task = None

    def _on_due(self) -> None:
        if self._closed:
            return
        if self._callback_parser.has_partial_head:
            self._send_error_response(408, "Request Timeout")
        self._close_transport()

    # A request.

    def data_received(self, data: bytes) -> None:
        repetition = self._repetition
        if self._task is None and repetition is not None and not self._closed:
            repeated = repetition.known
            if (
                repeated is not None
                and data.endswith(repeated.tail)
                and len(data) <= repeated.longest_bytes
                and not self._callback_parser.has_partial_head
            ):
                line = request_line(data, 0, len(data) - len(repeated.tail))
                if line is not None:
                    self._take_repeated(repeated, line)
                    return
        super().data_received(data)

    def _take_repeated(self, repeated: Repeated, line: re.Match[bytes]) -> None:
        self._callback_parser.hold()
        self._deadline.at_s = math.inf
        self._notes.repeated = repeated
        method, target, query = line.groups(b"")
        version = "1.0" if repeated.tail.startswith(_HTTP_1_0) else "1.1"
        self._begin(METHODS[method], version, target, query, repeated.headers, keeps_alive=repeated.keeps_alive)

    def _on_bare_head(self, head: RequestHead) -> None:
        self._deadline.at_s = math.inf
        notes, parser = self._notes, self._callback_parser
        notes.repeated = None
        if parser.head and self._repetition is not None:
            self._repetition.note(parser.head, notes, 0, is_bare=True, keeps_alive=head.keeps_alive)
        target, _, query = head.target.partition(b"?")
        self._begin(head.method, head.version, target, query, head.headers, keeps_alive=head.keeps_alive)

    def _on_headers_complete(self) -> bool:
        super()._on_headers_complete()
        self._deadline.at_s = math.inf
        self._notes.repeated = None
        request = self._current_request
        if request.may_upgrade() and self._is_websocket_upgrade(request):
            self._task = self.worker.loop.create_task(self._serve_websocket(request))
            return False
        version = "1.0" if request.version == (1, 0) else "1.1"
        self._begin(
            request.method,
            version,
            request.raw_path,
            request.query.encode("latin-1"),
            request.headers_bytes,
            keeps_alive=not request.should_close(),
        )
        return False

    def _begin(
        self, method: str, version: str, target: bytes, query: bytes, headers: Any, *, keeps_alive: bool
    ) -> None:
        path = unquote_to_bytes(target) if b"%" in target else target
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": "https" if self._is_ssl else "http",
            "path": path.decode("utf-8", "replace"),
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "server": self._server,
            "client": self._client,
            "extensions": self._extensions,
        }
        call = self._call = Call(self, method, version, keeps_alive=keeps_alive)
        self._task = self.worker.loop.create_task(self._serve(scope, call))

    async def _serve(self, scope: Scope, call: Call) -> None:
        if self._closed:  # what came behind the head was refused
            self._task = None
            return
        goes_on = False
        try:
            await self.app(scope, self._receive, call.send)
            if self._notes.repeated is not None and self._repetition is not None:
                self._repetition.settle()
            goes_on = self._is_answered(call)
        except asyncio.CancelledError:
            self.log.debug("a client left before it was answered")
        except Exception:
            self.log.exception("Error in ASGI application")
            self._fail(call)
        worker = self.worker
        worker.nr += 1
        if worker.nr >= worker.max_requests:
            self.log.info("Autorestarting worker after current request.")
            worker.alive = False
        receiver = self._body_receiver
        if goes_on and (receiver is None or receiver._complete):
            self._task = None
            self._go_on()
        else:
            self._close_transport()
            self._task = None

    def _is_answered(self, call: Call) -> bool:
        """Whether the application has sent a whole response, after which another request may come."""
        if self._closed:
            return False
        if not call.is_whole():
            self.log.error("ASGI application returned without completing the response; closing the connection")
            self._fail(call)
            return False
        return call.keeps_alive and self.worker.alive

    def _fail(self, call: Call) -> None:
        """Answer 500 where no answer has begun, and let none that has look whole."""
        if self._closed:
            return
        if not call.has_begun:
            self._send_error_response(500, "Internal Server Error")
        elif call.ends_with_connection and not call.is_complete:
            # Its end would look like the body's: only a reset tells.
            reset(self.transport)
            self._closed = True

    def _go_on(self) -> None:
        """Take the next request, if it is here already."""
        self._call = self._current_request = self._body_receiver = None
        self._resume_reading()
        behind = self._callback_parser.release()
        if behind:
            self._feed_callback_parser(behind)
        if self._task is None and not self._closed:
            deadline, at_s = self._deadline, self.worker.loop.time() + self._times.idle_s
            deadline.at_s = at_s
            if deadline.fires_at_s > at_s:
                deadline.set_timer(at_s)

    async def _serve_websocket(self, request: CallbackRequest) -> None:
        try:
            await self._handle_websocket(request, self._here, self._peer)
        except asyncio.CancelledError:
            self.log.debug("a client left its WebSocket handshake")
        except Exception:
            self.log.exception("Error in ASGI application")
        self._close_transport()
        self._task = None

    async def _receive(self) -> Message:
        receiver = self._body_receiver
        if receiver is None:
            # A bare head's request has none: its body is empty, and what may follow is that the client leaves.
            receiver = self._body_receiver = BodyReceiver(CallbackRequest(), self)
            receiver.set_complete()
        message: Message = await receiver.receive()
        return message
