"""A server that takes logs: real HTTP on this host, down or slow when told to; what it took, in the order it came."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from tests.support.edge import Wire, fields_of


class LogServer:
    """`batches`: bodies it took, with a `status` below 400; `refused`: those it did not; `heads`: of all requests."""

    def __init__(self) -> None:
        self.port = 0
        self.status = 200
        self.batches: list[bytes] = []
        self.refused: list[bytes] = []
        self.heads: list[bytes] = []
        self.open = asyncio.Event()  # while it is not set, requests wait for their answer
        self.open.set()
        self._server: asyncio.Server | None = None
        self._wires: list[Wire] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/logs?key=secret"

    @property
    def entries(self) -> list[Any]:
        """All entries of JSON batches."""
        loaded = [json.loads(batch) for batch in self.batches]
        return [entry for batch in loaded for entry in (batch if isinstance(batch, list) else [batch])]

    async def up(self) -> None:
        """Listen, on the port it had before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Listen no more, and cut what is open."""
        assert self._server is not None
        self._server.close()
        for wire in self._wires:
            wire.abort()
        self._wires.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self._wires.append(wire)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(dict(fields_of(head))["content-length"]))
                await self.open.wait()
                self.heads.append(head)
                (self.batches if self.status < 400 else self.refused).append(body)
                wire.send(b"HTTP/1.1 %d X\r\nContent-Length: 6\r\n\r\necho: " % self.status)


@contextlib.asynccontextmanager
async def log_server() -> AsyncIterator[LogServer]:
    server = LogServer()
    await server.up()
    try:
        yield server
    finally:
        server.open.set()
        await server.down()
