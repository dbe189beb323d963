"""An upstream that answers everything alike and at once, in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_END_OF_HEAD = b"\r\n\r\n"


@contextmanager
def running_backend() -> Iterator[int]:
    """Its port, on the loopback."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _run(there: Connection) -> None:
    uvloop.run(_serve(there))


async def _serve(there: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0, backlog=1024)
    there.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Answering(asyncio.Protocol):
    """For requests without a body: each head has its answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._rest = (self._rest + data).split(_END_OF_HEAD)
        self._transport.write(_ANSWER * len(heads))
