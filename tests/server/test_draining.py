"""How a set of connections ends: the rules on small stand-ins, and gunicorn's protocol with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from gw.server.draining import GRACE_S, Connections
from gw.server.protocol import ClientTimes, GatewayProtocol
from tests.support.edge import Wire, Worker, eventually, get, run


class Standing:
    """A connection that is as busy as the test says."""

    def __init__(self, connections: Connections, *, is_idle: bool) -> None:
        self.is_idle = is_idle
        self.told = 0
        self.closed = False
        self._connections = connections
        connections.add(self)

    def drain(self) -> None:
        self.told += 1

    def close_idle(self) -> None:
        self.closed = True
        self._connections.discard(self)

    abort = close_idle


def test_idle_ones_are_closed_when_their_time_is_over_and_busy_ones_are_waited_for() -> None:
    async def main() -> None:
        connections = Connections()
        idle, busy = Standing(connections, is_idle=True), Standing(connections, is_idle=False)
        draining = asyncio.create_task(connections.drain(GRACE_S))
        await asyncio.sleep(0)
        assert (idle.told, busy.told) == (1, 1)
        assert not idle.closed
        late = Standing(connections, is_idle=False)
        assert late.told == 1, "accepted before the listener was closed"
        await eventually(lambda: idle.closed)
        assert not busy.closed
        assert not draining.done()
        busy.close_idle()
        late.is_idle = True  # its answer did not say that it is the last
        await draining
        assert late.closed

    run(main())


def test_a_set_that_is_empty_has_drained_and_one_that_is_cut_off_too() -> None:
    async def main() -> None:
        await Connections().drain(60)
        connections = Connections()
        Standing(connections, is_idle=False)
        draining = asyncio.create_task(connections.drain(60))
        await asyncio.sleep(0)
        assert connections.abort() == 1
        await draining

    run(main())


class Application:
    """Answers with the path, its head before and its body after `go`; a request's body is read first."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.begun = 0

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        path = scope["raw_path"]  # type: ignore[index]
        while (await receive())["more_body"]:  # type: ignore[operator]
            pass
        head = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(path))]}
        await send(head)  # type: ignore[operator]
        await send({"type": "http.response.body", "body": path[:1], "more_body": True})  # type: ignore[operator]
        self.begun += 1
        await self.go.wait()
        await send({"type": "http.response.body", "body": path[1:]})  # type: ignore[operator]


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Application, Connections, int]]:
    loop, app, connections = asyncio.get_running_loop(), Application(), Connections()
    worker = Worker(app, loop)
    times = ClientTimes(header_s=60, body_s=60, idle_s=60, send_s=10)
    server = await loop.create_server(lambda: GatewayProtocol(worker, app, connections, times), "127.0.0.1", 0)
    try:
        yield app, connections, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        connections.abort()
        await eventually(lambda: len(connections) == 0)


async def connect(port: int) -> Wire:
    return Wire(*await asyncio.open_connection("127.0.0.1", port))


async def finished(draining: asyncio.Task[None], *wires: Wire) -> None:
    for wire in wires:
        assert await wire.rest() == b""
        wire.close()
    await draining


def test_idle_connections_get_one_more_answer_which_says_so() -> None:
    async def main() -> None:
        async with served() as (_, connections, port):
            used, fresh = await connect(port), await connect(port)
            used.send(get("/one"))
            assert (await used.answer()).header("connection") is None
            await eventually(lambda: len(connections) == 2)
            draining = asyncio.create_task(connections.drain(60))
            await asyncio.sleep(0)
            for wire in (used, fresh):
                wire.send(get("/two"))
                answer = await wire.answer()
                assert (answer.header("connection"), answer.body) == ("close", b"/two")
            await finished(draining, used, fresh)

    run(main())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_of_either_version_is_told_once(version: str) -> None:
    async def main() -> None:
        async with served() as (_, connections, port):
            wire = await connect(port)
            await eventually(lambda: len(connections) == 1)
            draining = asyncio.create_task(connections.drain(60))
            await asyncio.sleep(0)
            wire.send(get("/", version=version, headers="Connection: keep-alive\r\n"))
            assert (await wire.answer()).header("connection") == "close"
            await finished(draining, wire)

    run(main())


def test_an_answer_that_has_begun_without_saying_so_is_followed_by_one_that_does() -> None:
    async def main() -> None:
        async with served() as (app, connections, port):
            wire = await connect(port)
            app.go.clear()
            wire.send(get("/begun"))
            await eventually(lambda: app.begun == 1)
            draining = asyncio.create_task(connections.drain(60))
            await asyncio.sleep(0)
            app.go.set()
            answer = await wire.answer()
            assert (answer.header("connection"), answer.body) == (None, b"/begun")
            wire.send(get("/last"))
            assert (await wire.answer()).header("connection") == "close"
            await finished(draining, wire)

    run(main())


def test_of_pipelined_requests_all_are_answered_and_the_last_answer_says_so() -> None:
    async def main() -> None:
        async with served() as (app, connections, port):
            wire = await connect(port)
            app.go.clear()
            body = b"POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
            wire.send(get("/a") + get("/b") + body + get("/d"))
            await eventually(lambda: app.begun == 1)
            draining = asyncio.create_task(connections.drain(60))
            await asyncio.sleep(0)
            app.go.set()
            answers = [await wire.answer() for _ in range(4)]
            assert [answer.body for answer in answers] == [b"/a", b"/b", b"/c", b"/d"]
            assert [answer.header("connection") for answer in answers] == [None, None, None, "close"]
            await finished(draining, wire)

    run(main())


def test_what_comes_after_the_last_answer_does_not_take_it_away() -> None:
    """A client that pipelines may have sent more before it reads the last answer: no reset may overtake that."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with served() as (_, connections, port):
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", port))
                await eventually(lambda: len(connections) == 1)
                draining = asyncio.create_task(connections.drain(60))
                await asyncio.sleep(0)
                await loop.sock_sendall(client, get("/last"))
                received = b""
                while piece := await loop.sock_recv(client, 4096):
                    received += piece
                assert received.endswith(b"/last")
                for _ in range(10):  # a server that closes has closed by then
                    await asyncio.sleep(0)
                # A closed socket answers the first with a reset, which fails the second.
                for _ in range(2):
                    await loop.sock_sendall(client, get("/too-late"))
                assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            await draining

    run(main())
