"""WebSocket through a route with `enable_websocket`: a tunnel of bytes, whatever is said in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from tests.support.edge import (
    OK,
    PATIENCE_S,
    Edge,
    Wire,
    asked,
    compiled,
    edge,
    eventually,
    fields_of,
    get,
    proxy,
    replying,
    run,
    upstream_dict,
)

MIB = 1 << 20
WEBSOCKETS: dict[str, Any] = {"enable_websocket": True}
ASK = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Accept: a\r\n\r\n"


async def tunnel(running: Edge, upstream: Any) -> tuple[Wire, Wire]:
    """Both ends of a tunnel that stands."""
    client = await running.connect()
    client.send(get("/ws", headers=ASK))
    wire = await upstream.accept()
    head = await wire.head()
    assert ("upgrade", "websocket") in fields_of(head)
    assert ("connection", "Upgrade") in fields_of(head)
    wire.send(SWITCHED)
    answer = await client.head()
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert sorted(fields_of(answer))[:1] == [("connection", "upgrade")]
    assert ("x-accept", "a") in fields_of(answer)
    assert ("upgrade", "websocket") in fields_of(answer)
    assert b"content-length" not in answer
    return client, wire


def test_a_websocket_library_at_both_ends() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with serve(echo, "127.0.0.1", 0, max_size=None, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            async with edge({"/": compiled("1", upstream_dict(port), **WEBSOCKETS)}) as running:
                uri = f"ws://127.0.0.1:{running.port}/chat?x=1"
                async with connect(uri, max_size=None, compression=None, proxy=None) as client:
                    for message in ("hello", b"\0\1", "x" * (3 * MIB), ""):
                        await client.send(message)
                        assert await client.recv() == message
                    await (await client.ping())
                assert client.close_code == 1000
                await eventually(lambda: len(running.connections) == 0)

    run(main())


def test_bytes_that_come_with_the_handshake() -> None:
    async def main() -> None:
        async with proxy(route=WEBSOCKETS) as (running, upstream):
            client, wire = await asked(running, upstream, get("/ws", headers=ASK) + b"early\0bird")
            wire.send(SWITCHED + b"HTTP/1.1 200 no more HTTP")
            await client.head()
            assert await client.exactly(25) == b"HTTP/1.1 200 no more HTTP"
            assert await wire.exactly(10) == b"early\0bird"
            client.send(b"GET / HTTP/1.1\r\n\r\n")
            assert await wire.exactly(18) == b"GET / HTTP/1.1\r\n\r\n"

    run(main())


def test_either_end_may_say_all_it_has_and_still_listen() -> None:
    async def main() -> None:
        async with proxy(route=WEBSOCKETS) as (running, upstream):
            for first_is_client in (True, False):
                client, wire = await tunnel(running, upstream)
                one, other = (client, wire) if first_is_client else (wire, client)
                one.send(b"last words")
                one.writer.write_eof()
                assert await other.rest() == b"last words"
                other.send(b"answer")
                assert await one.exactly(6) == b"answer"
                other.writer.write_eof()
                assert await one.rest() == b""
                await eventually(lambda: len(running.connections) == 0)

    run(main())


def test_a_client_that_ends_its_side_with_the_handshake_is_still_answered() -> None:
    async def main() -> None:
        async with proxy(route=WEBSOCKETS) as (running, upstream):
            client = await running.connect()
            client.send(get("/ws", headers=ASK))
            client.writer.write_eof()
            wire = await upstream.accept()
            await wire.head()
            wire.send(SWITCHED + b"hello")
            assert await wire.rest() == b""
            wire.close()
            assert (await client.rest()).endswith(b"hello")

    run(main())


@pytest.mark.parametrize("who", ["client", "upstream"])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_end_that_goes_takes_the_other_with_it(who: str, how: str) -> None:
    async def main() -> None:
        async with proxy(route=WEBSOCKETS) as (running, upstream):
            client, wire = await tunnel(running, upstream)
            one, other = (client, wire) if who == "client" else (wire, client)
            one.send(b"bye")
            if how == "close":
                one.close()
                assert await other.rest() == b"bye"
                other.close()
            else:
                assert await other.exactly(3) == b"bye"
                one.reset()
                assert await other.rest() == b""
            await eventually(lambda: len(running.connections) == 0)

    run(main())


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("with_the_handshake", [False, True])
@pytest.mark.parametrize("who", ["client", "upstream"])
def test_a_slow_reader_holds_the_sender_back(who: str, with_the_handshake: bool) -> None:
    """100 MB one way. Nothing is read until the sender has come to a stand."""
    piece, count = bytes(MIB), 100

    async def main() -> None:
        async with proxy(route=WEBSOCKETS) as (running, upstream):
            if with_the_handshake:
                early = bytes(MIB) if who == "client" else b""
                client, wire = await asked(running, upstream, get("/ws", headers=ASK) + early)
                wire.writer.transport.pause_reading()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                wire.send(SWITCHED + (bytes(MIB) if who == "upstream" else b""))
            else:
                client, wire = await tunnel(running, upstream)
            one, other = (client, wire) if who == "client" else (wire, client)
            other.writer.transport.pause_reading()  # type: ignore[attr-defined]
            before, sent = _resident_bytes(), 0
            while sent < count:
                one.send(piece)
                sent += 1
                drained = asyncio.ensure_future(one.writer.drain())
                done, _ = await asyncio.wait([drained], timeout=0.5)
                if not done:
                    break
            assert sent < 40, "it was never held back"
            assert _resident_bytes() - before < 40 * MIB
            one.send(bytes((count - sent) * MIB))
            one.writer.write_eof()
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            wire.writer.transport.resume_reading()
            if with_the_handshake and other is client:
                await client.head()
            received = 0
            while data := await asyncio.wait_for(other.reader.read(MIB), PATIENCE_S):
                received += len(data)
            assert received == (count + with_the_handshake) * MIB

    run(main())


def test_a_tunnel_in_which_nothing_moves_is_cut_off() -> None:
    async def main() -> None:
        timeout = {"connect": 60, "send": 60, "read": 0.3}
        async with proxy(route=WEBSOCKETS, timeout=timeout) as (running, upstream):
            client, wire = await tunnel(running, upstream)
            for _ in range(4):
                await asyncio.sleep(0.1)
                client.send(b"x")
                assert await wire.exactly(1) == b"x"
            assert await client.rest() == b""
            assert await wire.rest() == b""
            await eventually(lambda: len(running.connections) == 0)

    run(main())


def test_what_the_last_end_does_not_take_is_not_kept_for_ever() -> None:
    async def main() -> None:
        timeout = {"connect": 60, "send": 60, "read": 0.3}
        async with proxy(route=WEBSOCKETS, timeout=timeout) as (running, upstream):
            client, wire = await tunnel(running, upstream)
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            wire.send(bytes(64 * MIB))
            await asyncio.sleep(0.2)
            wire.reset()
            await eventually(lambda: len(running.connections) == 0)
            client.reset()

    run(main())


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"426 Upgrade Required"])
def test_an_upstream_that_declines_leaves_http_as_it_was(status: bytes) -> None:
    raw = b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % status

    async def main() -> None:
        async with proxy(replying(raw), route=WEBSOCKETS) as (running, upstream):
            client = await running.connect()
            client.send(get("/ws", headers=ASK) + get("/next"))
            for _ in range(2):
                answer = await client.answer()
                assert (answer.status, answer.body) == (int(status[:3]), b"no")
            assert upstream.connections == 1

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n" + OK,
        b"HTTP/1.0 101 Switching Protocols\r\n\r\n",
    ],
)
def test_a_101_that_names_no_protocol_is_none(raw: bytes) -> None:
    async def main() -> None:
        async with proxy(replying(raw), route=WEBSOCKETS) as (running, _):
            client = await running.connect()
            client.send(get("/ws", headers=ASK))
            assert (await client.answer()).status == 502
            await eventually(lambda: "connections=0 " in repr(running.upstreams))

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "route"),
    [
        (get("/ws", headers=ASK), {}),
        (get("/ws", headers=ASK.replace("websocket", "h2c")), WEBSOCKETS),
        (get("/ws", headers=ASK.replace("websocket", "websocket, h2c")), WEBSOCKETS),
        (get("/ws", headers=ASK.replace("Upgrade: websocket", "Upgrade: web\r\nUpgrade: socket")), WEBSOCKETS),
        (get("/ws", headers=ASK.replace("Connection: Upgrade", "Connection: x")), WEBSOCKETS),
        (get("/ws", headers=ASK, version="1.0"), WEBSOCKETS),
        (get("/ws", headers=ASK, method="HEAD"), WEBSOCKETS),
        (get("/ws", headers=ASK + "Content-Length: 3\r\n") + b"abc", WEBSOCKETS),
        (get("/ws", headers=ASK + "Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", WEBSOCKETS),
    ],
)
def test_what_is_no_handshake_asks_the_upstream_for_nothing(request_bytes: bytes, route: dict[str, Any]) -> None:
    """And a 101 to it is refused: nobody asked."""

    async def main() -> None:
        async with proxy(route=route) as (running, upstream):
            client = await running.connect()
            client.send(request_bytes)
            wire = await upstream.accept()
            names = [name for name, _ in fields_of(await wire.head())]
            assert "upgrade" not in names
            assert "connection" not in names
            wire.send(SWITCHED)
            assert (await client.answer(to_head=request_bytes.startswith(b"HEAD"))).status == 502

    run(main())


def test_a_drain_waits_for_a_tunnel_and_an_abort_ends_it() -> None:
    async def main() -> None:
        async with proxy(route=WEBSOCKETS) as (running, upstream):
            client, wire = await tunnel(running, upstream)
            draining = asyncio.create_task(running.connections.drain(0))
            for _ in range(3):
                await asyncio.sleep(0.3)
                client.send(b"x")
                assert await wire.exactly(1) == b"x"
            assert not draining.done()
            assert running.connections.abort() == 1
            await asyncio.wait_for(draining, PATIENCE_S)
            assert await client.rest() == b""
            assert await wire.rest() == b""

    run(main())
