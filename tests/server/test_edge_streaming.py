"""Large bodies in both directions in bounded memory, and peers that do not read."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.edge import OK, PATIENCE_S, Wire, asked, eventually, get, proxy, run

pytestmark = pytest.mark.usefixtures("each_edge")

MIB = 1024 * 1024
BODY_BYTES = 256 * MIB
PIECE = bytes(MIB)
# The limit of the issue is 64 MB for the worker; here client and upstream live in the same process.
GROWTH_BYTES = 64 * MIB


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Watch:
    """How far the process grew beyond what it had at first."""

    def __init__(self) -> None:
        self._first = self._most = _resident_bytes()

    def look(self) -> None:
        self._most = max(self._most, _resident_bytes())

    @property
    def growth_bytes(self) -> int:
        return self._most - self._first


async def _send_all(wire: Wire, count: int) -> None:
    for _ in range(count // len(PIECE)):
        wire.send(PIECE)
        await asyncio.wait_for(wire.writer.drain(), PATIENCE_S)


async def _receive_all(wire: Wire, count: int, look: Callable[[], None]) -> int:
    received = 0
    while received < count and (piece := await asyncio.wait_for(wire.reader.read(MIB), PATIENCE_S)):
        received += len(piece)
        look()
    return received


def test_download_in_bounded_memory() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            watch = Watch()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
            sending = asyncio.create_task(_send_all(wire, BODY_BYTES))
            await client.head()
            assert await _receive_all(client, BODY_BYTES, watch.look) == BODY_BYTES
            await sending
            assert watch.growth_bytes < GROWTH_BYTES

    run(main())


def test_upload_in_bounded_memory() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            watch = Watch()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES)
            sending = asyncio.create_task(_send_all(client, BODY_BYTES))
            wire = await upstream.accept()
            await wire.head()
            assert await _receive_all(wire, BODY_BYTES, watch.look) == BODY_BYTES
            await sending
            wire.send(OK)
            assert (await client.answer()).body == b"ok"
            assert watch.growth_bytes < GROWTH_BYTES

    run(main())


async def _stalls(wire: Wire) -> None:
    """Return when the other side has stopped taking bytes: `drain` waits although we go on offering."""
    while True:
        wire.send(PIECE)
        try:
            await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(wire.writer.drain())), 0.5)
        except TimeoutError:
            return


def test_a_client_that_does_not_read_stops_the_upstream_and_holds_nobody_else() -> None:
    async def main() -> None:
        async with proxy(timeout={"connect": 60, "send": 60, "read": 0.4}) as (running, upstream):
            client = await running.connect()
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(get())
            wire = await upstream.accept()
            await wire.head()
            watch = Watch()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1024 * MIB))
            await _stalls(wire)
            watch.look()
            assert watch.growth_bytes < GROWTH_BYTES
            # The read time does not run while it is us who do not read.
            assert "connections=1 " in repr(running.upstreams)
            other = await running.connect()
            other.send(get())
            second = await upstream.accept()
            await second.head()
            second.send(OK)
            assert (await other.answer()).body == b"ok"
            client.abort()
            await eventually(lambda: "connections=1 " in repr(running.upstreams))

    run(main())


def test_an_upstream_that_does_not_read_stops_the_client() -> None:
    """While the client's socket is paused nobody sees that it left: then the time to send is what ends the request."""

    async def main() -> None:
        async with proxy(timeout={"connect": 60, "send": 1, "read": 60}) as (running, upstream):
            client = await running.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1024 * MIB))
            wire = await upstream.accept()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            watch = Watch()
            await _stalls(client)
            watch.look()
            assert watch.growth_bytes < GROWTH_BYTES
            client.abort()
            await eventually(lambda: "connections=0 " in repr(running.upstreams))

    run(main())
