"""Clients that never stop asking, each on connections as real ones keep them, and judge every answer strictly.

A request counts as failed when its connection broke or ended before the answer was complete, or the answer is another
than 200. After `Connection: close` the server must end the connection in order (no reset); the client opens another.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

TIMEOUT_S = 60.0
# Between two rounds of one client, so that two cores are not all theirs.
PAUSE_S = 0.005


class Failed(Exception):
    """What went wrong with one request."""


@dataclass(frozen=True)
class Answer:
    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None

    @property
    def is_last(self) -> bool:
        return (self.header("connection") or "").lower() == "close"


class Wire:
    """One connection to the gateway, blocking."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def answer(self) -> Answer:
        """Read one answer with a Content-Length."""
        while b"\r\n\r\n" not in self._received:
            self._read_more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        answer = Answer(head.decode("latin-1"), b"")
        length = int(answer.header("content-length") or 0)
        while len(self._received) < length:
            self._read_more()
        body, self._received = self._received[:length], self._received[length:]
        status = head.split(b" ", 2)[1]
        if status != b"200":
            raise Failed(f"status {status.decode()}: {body[:200]!r}")
        return Answer(answer.head, body)

    def expect_end(self) -> None:
        """The server ends the connection in order, and sends nothing more."""
        if self._received or self._sock.recv(1):
            raise Failed("bytes after the last answer")

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_more(self) -> None:
        piece = self._sock.recv(65536)
        if not piece:
            raise Failed(f"the connection ended within an answer ({len(self._received)} bytes of it)")
        self._received += piece


def request(path: str, body: bytes = b"", *, close: bool = False) -> bytes:
    method = "POST" if body else "GET"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    last = "Connection: close\r\n" if close else ""
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{length}{last}\r\n".encode() + body


@dataclass
class Tally:
    """What all clients saw. `last` counts the answers that said Connection: close without being asked to."""

    answers: int = 0
    last: int = 0
    servers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, answer: Answer, *, counts_last: bool) -> None:
        with self._lock:
            self.answers += 1
            self.last += answer.is_last and counts_last
            self.servers[answer.header("server") or ""] += 1

    def fail(self, who: str, error: Exception) -> None:
        with self._lock:
            self.failures.append(f"{time.monotonic():.3f} {who}: {error!r}")


def _keep_alive(wire: Wire, path: str) -> Iterator[Answer]:
    wire.send(request(path))
    yield wire.answer()


def _with_body(wire: Wire, path: str) -> Iterator[Answer]:
    """A head, and a body in two pieces: a server that stops between them still owes the answer."""
    whole = request(path, b"x" * 20_000)
    wire.send(whole[:10_000])
    time.sleep(PAUSE_S)  # not waiting for anything: this is a client with a slow line
    wire.send(whole[10_000:])
    answer = wire.answer()
    if answer.body.count(b"x" * 20_000) != 1:
        raise Failed("not the whole body reached the upstream")
    yield answer


def _pipelined(wire: Wire, path: str) -> Iterator[Answer]:
    """Three requests in one piece: all are answered, and only the last answer may end the connection."""
    wire.send(request(path) * 3)
    for number in range(3):
        answer = wire.answer()
        yield answer
        if answer.is_last and number < 2:
            raise Failed(f"answer {number + 1} of 3 pipelined requests was the last one")


def _new_each_time(wire: Wire, path: str) -> Iterator[Answer]:
    wire.send(request(path, close=True))
    yield wire.answer()


KINDS: dict[str, Callable[[Wire, str], Iterator[Answer]]] = {
    "keep-alive": _keep_alive,
    "body": _with_body,
    "pipelined": _pipelined,
    "new connection": _new_each_time,
}


@contextlib.contextmanager
def steady_clients(port: int, path: str, each: int = 2) -> Iterator[Tally]:
    """`each` clients of every kind, in threads, until the block ends."""
    tally, enough = Tally(), threading.Event()

    def ask(kind: str) -> None:
        wire: Wire | None = None
        while not enough.is_set():
            try:
                wire = wire or Wire(port)
                is_last = False
                for answer in KINDS[kind](wire, path):
                    tally.add(answer, counts_last=kind != "new connection")
                    is_last = answer.is_last
                if is_last or kind == "new connection":
                    wire.expect_end()
                    wire.close()
                    wire = None
            except (OSError, Failed) as error:
                tally.fail(kind, error)
                if wire is not None:
                    wire.close()
                wire = None
            enough.wait(PAUSE_S)
        if wire is not None:
            wire.close()

    threads = [
        threading.Thread(target=ask, args=(kind,), name=f"{kind} {number}")
        for kind, number in itertools.product(KINDS, range(each))
    ]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        enough.set()
        for thread in threads:
            thread.join()
