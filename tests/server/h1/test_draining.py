"""How connections of our own protocol end when their worker does: see gw.server.draining."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.edge import OK, PATIENCE_S, Edge, Wire, asked, get, proxy, replying, run

LONG_S = 60.0


async def draining(running: Edge, patience_s: float = LONG_S) -> asyncio.Task[None]:
    """A drain that has begun."""
    drained = asyncio.create_task(running.connections.drain(patience_s))
    await asyncio.sleep(0)
    return drained


async def over(task: asyncio.Task[None]) -> None:
    await asyncio.wait_for(task, PATIENCE_S)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_idle_connection_gets_one_more_answer_which_says_so(version: str) -> None:
    async def main() -> None:
        async with proxy(replying(OK)) as (running, _):
            client = await running.connect()
            ask = get(version=version, headers="Connection: keep-alive\r\n")
            client.send(ask)
            assert (await client.answer()).header("connection") in (None, "keep-alive")
            drained = await draining(running)
            client.send(ask)
            assert (await client.answer()).header("connection") == "close"
            assert await client.rest() == b""
            await over(drained)

    run(main())


def test_idle_ones_are_closed_when_their_time_is_over_and_a_begun_head_is_waited_for() -> None:
    async def main() -> None:
        async with proxy(replying(OK)) as (running, _):
            idle, begun = await running.connect(), await running.connect()
            for client in (idle, begun):
                client.send(get())
                await client.answer()
            begun.send(get("/late")[:-2])
            drained = await draining(running, 0)
            assert await idle.rest() == b""
            begun.send(b"\r\n")
            answer = await begun.answer()
            assert (answer.status, answer.header("connection")) == (200, "close")
            await over(drained)

    run(main())


def test_an_answer_that_has_begun_is_followed_by_one_that_says_so() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            assert b"connection" not in await client.head()
            drained = await draining(running)
            wire.send(b"cd")
            assert await client.exactly(4) == b"abcd"
            client.send(get())
            await wire.head()
            wire.send(OK)
            assert (await client.answer()).header("connection") == "close"
            await over(drained)

    run(main())


def test_of_pipelined_requests_all_are_answered_and_the_last_answer_says_so() -> None:
    async def play(wire: Wire) -> None:
        while True:
            await wire.head()
            await let_go.wait()
            wire.send(OK)

    let_go = asyncio.Event()

    async def main() -> None:
        async with proxy(play) as (running, _):
            client = await running.connect()
            client.send(get() * 3)
            while not running.routes.asked:
                await asyncio.sleep(0.001)
            drained = await draining(running)
            let_go.set()
            told = [(await client.answer()).header("connection") for _ in range(3)]
            assert told == [None, None, "close"]
            assert await client.rest() == b""
            await over(drained)

    run(main())


def test_what_comes_after_the_last_answer_does_not_take_it_away() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            drained = await draining(running)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
            assert b"connection: close" in await client.head()
            client.send(get("/not-processed") * 1000)
            wire.send(b"cd")
            assert await client.exactly(4) == b"abcd"
            assert await client.reader.read() == b""  # raises if it is reset
            await over(drained)
            assert [path for path, _, _ in running.routes.asked] == ["/"]

    run(main())


def test_a_connection_that_is_accepted_meanwhile_is_told_at_once() -> None:
    async def main() -> None:
        async with proxy(replying(OK)) as (running, _):
            first = await running.connect()
            first.send(get())
            await first.answer()
            drained = await draining(running)
            second = await running.connect()
            second.send(get())
            assert (await second.answer()).header("connection") == "close"
            first.send(get())
            assert (await first.answer()).header("connection") == "close"
            await over(drained)

    run(main())


def test_an_abort_cuts_what_is_under_way() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            drained = await draining(running)
            assert running.connections.abort() == 1
            await over(drained)
            assert await client.rest() == b""
            assert await wire.rest() == b""

    run(main())
