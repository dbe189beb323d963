"""The loop of the load generator: requests leave when they are due, whatever became of those before them.

A request is due at start + number / rate, and its latency counts from there, so a stall counts for each request that it
delays, and not only for the one that met it. A connection carries one request at a time; when all are busy another one
is opened, up to a bound, and beyond it requests wait for a connection (their latency goes on counting).

One thread on epoll, without asyncio: libuv's timers have a resolution of 1 ms, which is as long as what is measured.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import random
import select
import socket
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.answers import AnswerScanner

_NS_PER_S: Final = 1_000_000_000
# Time between the order and the first request, so that the first is not late for being first.
_RUN_UP_NS: Final = 20_000_000
# Requests sent between two looks at what came in, when many are due at once; and answers taken between two looks at
# what is due, when a server that stood still answers all at once: that must not make the generator late.
_SENDS_AT_ONCE: Final = 8
_ANSWERS_AT_ONCE: Final = 8
# A generator so far behind measures itself: the block is broken off.
_HOPELESS_NS: Final = _NS_PER_S // 2
_PR_SET_TIMERSLACK: Final = 29
_READ_BYTES: Final = 65536
# Of one request, in `Recorded.outcomes`.
UNSENT, ANSWERED, TIMED_OUT, FAILED = range(4)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections there are at first and at most, and how long an answer is waited for.

    What is opened while a server stands still has to fit its backlog (511 of nginx): a connection that does not is
    tried again by the kernel after 1 s, which no request that waits for a free one would see.
    """

    connections: int = 64
    most_connections: int = 512
    timeout_s: float = 10.0


@dataclass(slots=True)
class Recorded:
    """What became of the requests of one block, by number. Times of CLOCK_MONOTONIC.

    `late_ns` is how late the generator itself took up a request; `ended_ns` when its answer was whole, or when it
    failed. `given_up`: the generator fell behind so far that it stopped.
    """

    start_ns: int
    interval_ns: float
    late_ns: array[int]
    ended_ns: array[int]
    outcomes: bytearray
    errors: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    waited: int = 0
    cpu_s: float = 0.0
    given_up: bool = False


class _Connection:
    __slots__ = ("is_open", "number", "scanner", "sent_ns", "socket", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.scanner = AnswerScanner()
        self.number = -1  # of the request under way
        self.sent_ns = 0
        self.unsent = b""
        self.is_open = True


class Generator:
    """Sends `requests` in a random order, over and over, to a port of this host."""

    def __init__(self, port: int, requests: Sequence[bytes], limits: Limits) -> None:
        self._port = port
        self._requests = requests
        self._limits = limits
        self._order = list(range(len(requests)))
        random.Random(1).shuffle(self._order)
        self._position = 0
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()
        self._recorded = Recorded(0, 0.0, array("q"), array("q"), bytearray())
        self._open_requests = 0
        self._on_end: Callable[[], None] = lambda: None
        _be_punctual()

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._epoll.close()

    def warm_up(self, in_flight: int = 16) -> Counter[str]:
        """Each request once, as fast as answers come; how many ended in which way (`200`, `404`, `reset`, ...).

        What is done at the first use of a route or a connection is not what is measured, and a request that no route
        answers would go unnoticed in a percentile.
        """
        count = len(self._requests)
        self._settle_connections()
        self._begin(count, 0.0)
        sent = 0
        while sent < count or self._open_requests:
            while sent < count and self._open_requests < in_flight:
                self._send(sent)
                sent += 1
            self._take_answers(0.1)
            self._give_up_late()
        ended = self._recorded.errors
        ended["200"] = count - ended.total()
        return ended

    def run(self, rate_per_s: float, seconds: float) -> Recorded:
        """One block at a constant rate."""
        count = int(rate_per_s * seconds)
        self._settle_connections()
        gc.collect()
        gc.freeze()
        gc.disable()
        recorded = self._begin(count, _NS_PER_S / rate_per_s)
        began_cpu_s = time.process_time()
        try:
            self._run(count, recorded)
        finally:
            gc.enable()
        recorded.cpu_s = time.process_time() - began_cpu_s
        return recorded

    def _run(self, count: int, recorded: Recorded) -> None:
        start_ns, interval_ns, late_ns = recorded.start_ns, recorded.interval_ns, recorded.late_ns
        number, in_burst, checked_ns = 0, 0, start_ns
        while number < count or self._open_requests:
            now_ns = time.monotonic_ns()
            wait_s = 0.1
            if number < count:
                late = now_ns - start_ns - int(number * interval_ns)
                if late > _HOPELESS_NS:
                    recorded.given_up = True
                    count = number
                    continue
                if late >= 0 and in_burst < _SENDS_AT_ONCE:
                    late_ns[number] = late
                    self._send(number)
                    number += 1
                    in_burst += 1
                    continue
                wait_s = max(0.0, -late / 1e9)
            in_burst = 0
            self._take_answers(min(wait_s, 0.1))
            if now_ns - checked_ns > _NS_PER_S // 10:
                checked_ns = now_ns
                self._give_up_late()

    def _begin(self, count: int, interval_ns: float) -> Recorded:
        zeros = bytes(8 * count)
        self._recorded = Recorded(
            start_ns=time.monotonic_ns() + _RUN_UP_NS,
            interval_ns=interval_ns,
            late_ns=array("q", zeros),
            ended_ns=array("q", zeros),
            outcomes=bytearray(count),
        )
        return self._recorded

    # Connections.

    def _settle_connections(self) -> None:
        """As many connections as at first, all used once: blocks must not differ in how many they begin with."""
        while self._take_answers(0):
            pass  # what the server closed while nothing was sent
        self._idle = deque(connection for connection in self._idle if connection.is_open)
        while len(self._idle) > self._limits.connections:
            self._drop(self._idle.pop())
        fresh = [self._open() for _ in range(self._limits.connections - len(self._idle))]
        if not fresh:
            return
        self._begin(len(fresh), 0.0)
        self._idle.extendleft(fresh)
        for number in range(len(fresh)):
            self._send(number)
        while self._open_requests:
            self._take_answers(0.1)
            self._give_up_late()

    def _open(self) -> _Connection:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.connect_ex(("127.0.0.1", self._port))
        connection = _Connection(sock)
        self._connections[sock.fileno()] = connection
        self._epoll.register(sock, select.EPOLLIN)
        self._recorded.opened += 1
        return connection

    def _drop(self, connection: _Connection) -> None:
        if connection.is_open:
            connection.is_open = False
            del self._connections[connection.socket.fileno()]
            connection.socket.close()

    def _free_connection(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.popleft()
            if connection.is_open:
                return connection
        return self._open() if len(self._connections) < self._limits.most_connections else None

    # Requests.

    def _send(self, number: int) -> None:
        self._open_requests += 1
        connection = self._free_connection()
        if connection is None:
            self._recorded.waited += 1
            self._waiting.append(number)
        else:
            self._send_on(connection, number)

    def _send_on(self, connection: _Connection, number: int) -> None:
        connection.number = number
        connection.sent_ns = time.monotonic_ns()
        order = self._order
        self._position = (self._position + 1) % len(order)
        request = self._requests[order[self._position]]
        try:
            sent = connection.socket.send(request)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self._fail(connection, _name(error))
                return
            sent = 0
        if sent < len(request):
            connection.unsent = request[sent:]
            self._epoll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def _take_answers(self, wait_s: float) -> int:
        """Wait for something to come in, and take some of it; how many connections that was of."""
        # epoll waits whole milliseconds; select on the epoll descriptor waits microseconds.
        if wait_s > 0:
            select.select([self._epoll], (), (), wait_s)
        ready = self._epoll.poll(0, _ANSWERS_AT_ONCE)
        for descriptor, events in ready:
            connection = self._connections.get(descriptor)
            if connection is None:
                continue
            if events & select.EPOLLOUT and connection.unsent:
                self._send_rest(connection)
            if events & ~select.EPOLLOUT and connection.is_open:
                self._read(connection)
        return len(ready)

    def _send_rest(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(connection, _name(error))
            return
        connection.unsent = connection.unsent[sent:]
        if not connection.unsent:
            self._epoll.modify(connection.socket, select.EPOLLIN)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(connection, _name(error))
            return
        if not data:
            self._fail(connection, "closed")
            return
        number, scanner = connection.number, connection.scanner
        if number < 0:
            self._drop(connection)  # it spoke without being asked (408)
            return
        if not scanner.feed(data):
            return
        now_ns = time.monotonic_ns()
        recorded = self._recorded
        recorded.ended_ns[number] = now_ns
        recorded.outcomes[number] = ANSWERED
        if scanner.status != 200:
            recorded.errors[str(scanner.status)] += 1
        connection.number = -1
        self._open_requests -= 1
        if scanner.closes:
            self._drop(connection)
            self._serve_waiting()
        elif self._waiting:
            self._send_on(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _fail(self, connection: _Connection, name: str, outcome: int = FAILED) -> None:
        """End what is under way on a connection, and the connection."""
        number, connection.number = connection.number, -1
        self._drop(connection)
        if number >= 0:
            self._end_unanswered(number, name, outcome)
            self._serve_waiting()

    def _end_unanswered(self, number: int, name: str, outcome: int) -> None:
        self._recorded.ended_ns[number] = time.monotonic_ns()
        self._recorded.outcomes[number] = outcome
        self._recorded.errors[name] += 1
        self._open_requests -= 1

    def _serve_waiting(self) -> None:
        if self._waiting and (connection := self._free_connection()) is not None:
            self._send_on(connection, self._waiting.popleft())

    def _give_up_late(self) -> None:
        """End the requests that have waited for longer than anybody would."""
        recorded = self._recorded
        before_ns = time.monotonic_ns() - int(self._limits.timeout_s * _NS_PER_S)
        for connection in list(self._connections.values()):
            if connection.number >= 0 and connection.sent_ns < before_ns:
                self._fail(connection, "timeout", TIMED_OUT)
        while self._waiting and recorded.start_ns + self._waiting[0] * recorded.interval_ns < before_ns:
            self._end_unanswered(self._waiting.popleft(), "timeout", TIMED_OUT)


def _be_punctual() -> None:
    """Let waits end when they are due: the kernel rounds them up by 50 us to save wake-ups."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)


def _name(error: OSError) -> str:
    return {errno.ECONNRESET: "reset", errno.EPIPE: "reset", errno.ECONNREFUSED: "refused"}.get(
        error.errno or 0, os.strerror(error.errno or 0)
    )
