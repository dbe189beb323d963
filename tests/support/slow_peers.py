"""Clients and nodes that move one byte per tick, or take one, and a client that is served as if they were not there.

    listener = socket.create_server(("127.0.0.1", 0))       # routes of PATHS lead to it
    seen = asyncio.run(run_slow_peers(gateway.port, listener, each=10, tick_s=0.1, run_s=3))

A side that is not slow offers OFFERED_BYTES to each of its peers: what the gateway took of it and could not pass on is
what it holds. A pace is what is tested here, hence the pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

# More than the kernel takes between two of them.
OFFERED_BYTES: Final = 32 << 20
PATHS: Final = ("/fine", "/down", "/drip", "/up", "/sink")
_PIECE: Final = bytes(65536)
# As little as the kernel gives, so that it is the gateway who has to hold back.
_SOCKET_BUFFER_BYTES: Final = 4096
_OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Seen:
    """`moved`: bytes by kind of slow peer; `cut`: peers whose connection ended, by kind; `fine`: answers of 200."""

    moved: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    fine: int = 0
    failed: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


async def run_slow_peers(port: int, listener: socket.socket, *, each: int, tick_s: float, run_s: float) -> Seen:
    """So many slow peers of each kind for so long, all on the gateway at `port`."""
    seen = Seen()
    run = _Run(port, tick_s, seen)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)  # those that it accepts have it, too
    upstream = await asyncio.start_server(run.serve, sock=listener, limit=1, backlog=1000)
    kinds: list[Callable[[], Coroutine[Any, Any, None]]] = [
        run.reads_slowly, run.sends_its_head_slowly, run.sends_its_body_slowly, run.meets_a_slow_answer,
        run.meets_a_slow_reader,
    ]  # fmt: skip
    tasks = [asyncio.create_task(_counted(kind, seen)) for kind in kinds for _ in range(each)]
    try:
        await run.is_served(time.monotonic() + run_s)
    finally:
        for task in (*tasks, *run.serving):
            task.cancel()
        await asyncio.gather(*tasks, *run.serving, return_exceptions=True)
        upstream.close()
    return seen


async def _counted(kind: Callable[[], Coroutine[Any, Any, None]], seen: Seen) -> None:
    with contextlib.suppress(ConnectionError):
        await kind()
    seen.cut[kind.__name__] += 1


class _Run:
    def __init__(self, port: int, tick_s: float, seen: Seen) -> None:
        self._port = port
        self._tick_s = tick_s
        self._seen = seen
        self.serving: set[asyncio.Task[None]] = set()

    # Clients.

    async def is_served(self, until_s: float) -> None:
        """One request after the other on one connection."""
        async with self._connected() as stream:
            while time.monotonic() < until_s:
                began_s = time.monotonic()
                await stream.send(_get("/fine"))
                answer = await stream.read_until(b"ok")
                self._seen.slowest_s = max(self._seen.slowest_s, time.monotonic() - began_s)
                if answer.startswith(b"HTTP/1.1 200 "):
                    self._seen.fine += 1
                else:
                    self._seen.failed.append(answer[:100].decode("latin-1"))
                    return
                await asyncio.sleep(self._tick_s / 10)

    async def reads_slowly(self) -> None:
        async with self._connected() as stream:
            await stream.send(_get("/down"))
            while await stream.read(1):
                await self._moved("reads_slowly")

    async def sends_its_head_slowly(self) -> None:
        async with self._connected() as stream:
            for byte in _get("/fine", "X-Long: " + "a" * 4000):
                await stream.send(bytes((byte,)))
                await self._moved("sends_its_head_slowly")

    async def sends_its_body_slowly(self) -> None:
        async with self._connected() as stream:
            await stream.send(_post("/sink"))
            while True:
                await stream.send(b"a")
                await self._moved("sends_its_body_slowly")

    async def meets_a_slow_answer(self) -> None:
        async with self._connected() as stream:
            await stream.send(_get("/drip"))
            while piece := await stream.read(100):
                self._seen.moved["meets_a_slow_answer"] += len(piece)

    async def meets_a_slow_reader(self) -> None:
        async with self._connected() as stream:
            await stream.send(_post("/up"))
            for _ in range(OFFERED_BYTES // len(_PIECE)):
                await stream.send(_PIECE)

    async def _moved(self, kind: str) -> None:
        self._seen.moved[kind] += 1
        await asyncio.sleep(self._tick_s)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Stream]:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SOCKET_BUFFER_BYTES)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
            yield _Stream(sock)

    # The node.

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.serving.add(task)
        # asyncio would log a connection whose task was cancelled.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answered(reader, writer):
                pass
        writer.close()

    async def _answered(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await reader.readexactly(1)
        path = head.split(b" ", 2)[1]
        if path == b"/fine":
            writer.write(_OK)
        elif path == b"/down":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % OFFERED_BYTES)
            for _ in range(OFFERED_BYTES // len(_PIECE)):
                writer.write(_PIECE)
                await writer.drain()
        elif path == b"/drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % OFFERED_BYTES)
            while not writer.is_closing():
                writer.write(b"a")
                await asyncio.sleep(self._tick_s)
        elif path == b"/up":
            while await reader.read(1):
                await self._moved("meets_a_slow_reader")
            return False
        else:
            while await reader.read(65536):
                pass
            return False
        await writer.drain()
        return True


class _Stream:
    """A socket without a buffer of its own: what is not read is not taken from the kernel."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def read(self, most: int) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._sock, most)

    async def read_until(self, end: bytes) -> bytes:
        """Empty where the connection ends before."""
        data = b""
        while not data.endswith(end):
            piece = await self.read(65536)
            if not piece:
                return b""
            data += piece
        return data


def _get(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: a", *fields, "", "")).encode()


def _post(path: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {OFFERED_BYTES}\r\n\r\n".encode()
