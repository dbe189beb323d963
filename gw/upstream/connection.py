"""One HTTP/1.1 connection to an upstream node: writes a request, parses its response, reports to a sink.

A response that comes in one read, as most of an API's do, is reported in one call; any other one piece by piece. One
whose head is, byte for byte, that of the response before on this connection (a polled resource, say) means the same:
it is not parsed again (PERF for both: bench/request_path.py).

Everything happens in protocol callbacks; there is no task and no future. A connection has one owner at a time, its
`sink`: from `begin` until it called `upstream_end` or `upstream_failed` exactly once (or `abort` was called, after
which it calls nothing). Without a sink it is idle, and whatever arrives then ends it: nobody asked for it.

What a response says is `gw.upstream.reading`'s. Here are its beginning and its end, also that of a body which only the
end of the connection ends or cuts, the time it may take, and pausing: a reader that is slow stops the socket, through
`pause_reading`.
"""

import asyncio
import math
import select
import time
from typing import Final, cast

import httptools

from gw.errors import UpstreamError
from gw.upstream.contract import Home, Sink
from gw.upstream.deadline import Deadline
from gw.upstream.errors import BadResponse, Closed, ReadTimedOut, SendTimedOut
from gw.upstream.reading import (
    MAX_HEAD_BYTES,
    ResponseReading,
    bad_response,
    ends_lines_with_lf,
    lenient_parser,
)
from gw.upstream.response import Headers, ResponseHead
from gw.upstream.target import KeepAlive, Target, Timeouts

# Bytes of a request that wait for the upstream's socket before the client is paused: one full socket buffer ahead.
WRITE_HIGH_WATER_BYTES: Final = 64 * 1024

_NO_TRAILERS: Final[Headers] = []


class UpstreamConnection(ResponseReading):
    """See the module's rules. `reused`: it served before; `response_started`: a byte came since `begin`.

    `address`: where a named target was found, `ip:port`; empty where the target is an address.
    """

    __slots__ = (
        "_deadline",
        "_home",
        "_keepalive",
        "_loop",
        "_may_be_known",
        "_poll",
        "_reading_paused",
        "_request_complete",
        "_requests",
        "_timeouts",
        "_transport",
        "_unsent_bytes",
        "_writing_paused",
        "address",
        "closed",
        "target",
    )

    _poll: select.poll
    _transport: asyncio.Transport
    _timeouts: Timeouts
    _keepalive: KeepAlive

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target, home: Home) -> None:
        super().__init__()
        self._loop = loop
        self._home = home
        self.target = target
        self.address = ""
        self.closed = False
        self._request_complete = True
        self._requests = 0
        self._deadline = Deadline(loop, self._on_due)
        self._unsent_bytes = 0
        self._reading_paused = False
        self._writing_paused = False
        self._may_be_known = False  # the next bytes may be the response that is remembered

    # What the owner calls.

    @property
    def reused(self) -> bool:
        """True when this is not the first request of the connection."""
        return self._requests > 1

    @property
    def is_spoilt(self) -> bool:
        """Whether an idle connection has something to be read that the loop has not come to yet.

        It is its end, or an answer to nothing, which would be taken for the answer to the next request. Behind TLS it
        could also be a key update or a late session ticket: too rare to be told apart. Nothing whole waits within TLS:
        the loop hands on at once what it decrypts, and reading goes on before a connection is idle.
        """
        return self._transport.is_closing() or bool(self._poll.poll(0))

    def begin(
        self,
        sink: Sink,
        answers_head: bool,
        timeouts: Timeouts,
        keepalive: KeepAlive,
        may_upgrade: bool = False,
    ) -> None:
        """Take an idle connection for one request. No time-out runs until something is written.

        `may_upgrade`: the request asks for another protocol, so 101 is an answer.
        """
        self._sink = sink
        self._requests += 1
        self._timeouts = timeouts
        self._keepalive = keepalive
        self._answers_head = answers_head
        self._may_upgrade = may_upgrade
        self._deadline.at_s = math.inf
        self._request_complete = False

    def ask(
        self, sink: Sink, head: bytes, answers_head: bool, timeouts: Timeouts, keepalive: KeepAlive, now_s: float
    ) -> None:
        """`begin`, `write` and `request_complete` at once, for a request that is all head. `now_s`: CLOCK_MONOTONIC.

        PERF: what most requests need, in one call.
        """
        self._sink = sink
        self._requests += 1
        self._timeouts = timeouts
        self._keepalive = keepalive
        self._answers_head = answers_head
        self._transport.write(head)
        if self._writing_paused:
            return
        self._may_be_known = not answers_head
        deadline, at_s = self._deadline, now_s + timeouts.read_s
        deadline.at_s = at_s
        if deadline.fires_at_s > at_s:
            deadline.set_timer(at_s)

    def write(self, data: bytes) -> None:
        """Send bytes of the request; `upstream_full` tells when to stop."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def request_complete(self) -> None:
        """All of the request is written: from now on the upstream has `read_s` for each piece of its answer."""
        self._request_complete = True
        if not self._writing_paused:
            # An answer that has begun goes on: what comes next is no head, whatever it looks like.
            self._may_be_known = not (self.response_started or self._answers_head or self._may_upgrade)
            self._wait_for_answer()

    def pause_reading(self) -> None:
        """The client is slow: leave the rest in the socket. The upstream's time stands still meanwhile."""
        if not self._reading_paused and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()
            self._deadline.at_s = math.inf

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
            if self._request_complete:
                self._wait_for_answer()

    def _wait_for_answer(self) -> None:
        """It has `read_s` from now on, unless it is us who do not read."""
        if not self._reading_paused:
            self._deadline.after(self._timeouts.read_s)

    def abort(self) -> None:
        """Give the connection up at once; nothing is reported any more."""
        self._sink = None
        self._close()

    def detach(self) -> asyncio.Transport:
        """Give the transport away: after `upstream_upgraded`. This connection is over."""
        transport = self._transport
        self.closed = True
        self._parser = None
        self._sink = None
        self._deadline.stop()
        self._home.connection_gone(self)
        return transport

    @property
    def read_timeout_s(self) -> float:
        """Of the request it serves: how long its upstream may be silent."""
        return self._timeouts.read_s

    def give_up(self) -> None:
        """For one that nobody was given: the loop may have opened it and closes it without telling us."""
        self.closed = True
        self._parser = None
        self._deadline.stop()

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._may_be_known:
            self._may_be_known = False
            sink = self._sink
            if len(data) == self._known_bytes and data.startswith(self._known_head) and sink is not None:
                self._sink = None
                now_s = time.monotonic()
                self._go_home(now_s)
                sink.upstream_answered(self._known, data[len(self._known_head) :], now_s)
                return
        if self._sink is None or self._parser is None:
            self._close()
            return
        begins = not self.response_started
        if begins:
            self._begin_response(data)
        self._fed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._complete:
                if begins and not self._parser_spent and ends_lines_with_lf(data):
                    self._parser = lenient_parser(self)
                    self._parser_spent = True  # the next response is read by another
                    self.response_started = False
                    self.data_received(data)
                    return
                if self._head_waits and self._piece:
                    # What came of the body before the nonsense is the client's.
                    self._pass_head()
                self._fail(bad_response(error))
                return
            self._extra_bytes = True
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgraded is not None:
                self._sink.upstream_upgraded(self._upgraded, data[upgrade.args[0] :])
                return
            self._extra_bytes = True
        if self._complete:
            self._finish(data if begins else b"")
            return
        if self._upgraded is not None:
            self._fail(BadResponse("101 that names no protocol"))
            return
        if self._head_waits:
            self._pass_head()
        if self._fed_bytes > MAX_HEAD_BYTES:
            self._fail(BadResponse("trailer or chunk extension too large" if self._head_done else "head too large"))
            return
        if self._request_complete and not self._reading_paused:
            self._deadline.at_s = self._loop.time() + self._timeouts.read_s
        if self._sink is not None:
            self._sink.upstream_flush()

    def eof_received(self) -> None:
        """Close our side too: an upstream that half-closes has said all it will say."""
        if self._transport.get_write_buffer_size():
            # It would be closed when the rest of the request is taken, which may be never.
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        sink, self._sink = self._sink, None
        head_done = self.response_started and self._head_done
        cut_short = exc is not None or not head_done or not self._head_reader.ends_with_connection(self._passed)
        self._close()
        if sink is None:
            return
        if not cut_short:
            sink.upstream_end([])
        elif self.response_started:
            sink.upstream_failed(Closed("connection closed within the response"))
        else:
            sink.upstream_failed(Closed("connection closed before a response"))

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._may_be_known = False
        if self._sink is not None:
            self._unsent_bytes = self._transport.get_write_buffer_size()
            self._deadline.after(self._timeouts.send_s)
            self._sink.upstream_full()

    def resume_writing(self) -> None:
        self._writing_paused = False
        if self._sink is not None:
            self._deadline.at_s = math.inf
            if self._request_complete:
                self._wait_for_answer()
            self._sink.upstream_drained()

    # Ends.

    def _finish(self, whole: bytes) -> None:
        """The response is complete: go home or close, then say so. `whole`: all of it, if it came in one read."""
        sink, self._sink = self._sink, None
        reader = self._head_reader
        trailers = reader.trailers() if reader.has_more else _NO_TRAILERS
        if trailers and self._head_waits and sink is not None:
            self._head_waits = False
            sink.upstream_head(self._status, self._reason, self._passed)
            if self._piece:  # nothing would be written as the chunk that ends a body
                sink.upstream_body(self._piece)
        now_s = time.monotonic()
        self.response_started = self._may_upgrade = False
        if self._keep_alive and self._request_complete and not self._extra_bytes and not self._writing_paused:
            if self._parser_spent:
                self._parser = httptools.HttpResponseParser(self)
                self._parser_spent = False
            if self._reading_paused:
                self._reading_paused = False
                self._transport.resume_reading()
            self._go_home(now_s)
        else:
            self._close()
        if sink is None:
            return
        if self._head_waits:
            self._head_waits = False
            head = ResponseHead(self._status, self._reason, self._passed)
            if whole and not (self.closed or self._answers_head or reader.is_chunked):
                self._remember(head, whole)
            piece, self._piece = self._piece, b""  # while we are idle, nobody needs it
            sink.upstream_answered(head, piece, now_s)
        else:
            sink.upstream_end(trailers)

    def _go_home(self, now_s: float) -> None:
        """Wait for the next request, or close where this was the last one that the connection was to serve."""
        max_idle, idle_timeout_s, max_requests = self._keepalive
        if self._requests >= max_requests or self._transport.is_closing():
            self._close()
            return
        deadline, at_s = self._deadline, now_s + idle_timeout_s
        deadline.at_s = at_s
        if deadline.fires_at_s > at_s:
            deadline.set_timer(at_s)
        self._home.connection_idle(self, max_idle)

    def _fail(self, error: UpstreamError) -> None:
        sink, self._sink = self._sink, None
        self._close()
        if sink is not None:
            sink.upstream_failed(error)

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._parser = None
        self._deadline.stop()
        self._home.connection_gone(self)
        self._transport.abort()

    def _on_due(self) -> None:
        if self._transport.is_closing():
            return
        if self._sink is None:
            self._close()
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent and unsent != self._unsent_bytes:
            # It reads, though slowly: the time counts between two writes, not for all of them.
            self._unsent_bytes = unsent
            self._deadline.after(self._timeouts.send_s)
        else:
            self._fail(SendTimedOut() if unsent else ReadTimedOut())
