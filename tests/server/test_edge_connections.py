"""Upstream connections over either edge: how long they are kept, whose answer they bring, and clients that leave."""

import asyncio
import gc
from typing import Any

import pytest

from tests.support.edge import (
    OK,
    Wire,
    asked,
    compiled,
    edge,
    eventually,
    full_backlog,
    get,
    proxy,
    replying,
    run,
    upstream_dict,
)

pytestmark = pytest.mark.usefixtures("each_edge")


# How often, how many, how long.


def test_a_connection_serves_so_many_requests_and_no_more() -> None:
    async def main() -> None:
        pool = {"size": 320, "idle_timeout": 60, "requests": 2}
        async with proxy(replying(OK), keepalive_pool=pool) as (running, upstream):
            for _ in range(6):
                assert (await running.ask(get())).status == 200
            assert upstream.connections == 3

    run(main())


def test_idle_connections_are_limited_in_number_and_time() -> None:
    async def main() -> None:
        async with proxy(keepalive_pool={"size": 1, "idle_timeout": 0.1, "requests": 1000}) as (running, upstream):
            clients = [await running.connect() for _ in range(3)]
            wires = []
            for client in clients:
                client.send(get())
                wires.append(await upstream.accept())
            for wire, client in zip(wires, clients, strict=True):
                await wire.head()
                wire.send(OK)
                await client.answer()
            await eventually(lambda: "connections=1 " in repr(running.upstreams))
            await eventually(lambda: "connections=0 " in repr(running.upstreams))
            assert [await wire.rest() for wire in wires] == [b"", b"", b""]

    run(main())


# Clients that leave.


def test_a_client_that_leaves_ends_the_request_at_the_upstream() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            client.reset()
            assert await wire.rest() == b""
            assert "connections=0 " in repr(running.upstreams)

    run(main())


def test_a_client_that_leaves_within_its_body_ends_the_request_at_the_upstream() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            upload = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
            client, wire = await asked(running, upstream, upload)
            client.reset()
            assert await wire.rest() == b"3\r\nabc\r\n", "cut off, and not ended as if it were whole"

    run(main())


def test_a_client_that_leaves_within_the_answer_ends_the_request_at_the_upstream() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
            await client.head()
            client.reset()
            assert await wire.rest() == b""

    run(main())


def test_a_client_that_leaves_while_the_connection_is_opened() -> None:
    async def main() -> None:
        with full_backlog() as port:
            async with edge({"/": compiled("1", upstream_dict(port))}) as running:
                client = await running.connect()
                client.send(get())
                await eventually(lambda: "opening=1" in repr(running.upstreams))
                client.reset()
                await eventually(lambda: "opening=0" in repr(running.upstreams))

    run(main())


def test_a_request_leaves_no_cycle_for_the_collector() -> None:
    """Of ours: what the collector finds in gw modules after many requests, answered and failed, is nothing."""

    async def main() -> None:
        async with proxy(replying(OK, close=True)) as (running, _):
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(5):
                    await running.ask(get())
                    await running.ask(get("/a%00"))
                    await running.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
                gc.collect()
                assert [each for each in gc.garbage if type(each).__module__.startswith(("gw.", "httptools"))] == []
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()

    run(main())


def test_crossed_answers_never() -> None:
    """Many clients over few connections, each with its own question: everyone gets their own answer."""

    async def play(wire: Wire) -> None:
        while True:
            path = (await wire.head()).split(b" ")[1]
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async def ask(running: Any, user: int) -> None:
        client = await running.connect()
        for turn in range(40):
            client.send(get(f"/{user}/{turn}"))
            assert (await client.answer()).body == f"/{user}/{turn}".encode()

    async def main() -> None:
        async with proxy(play, keepalive_pool={"size": 2, "idle_timeout": 60, "requests": 7}) as (running, _):
            await asyncio.gather(*(ask(running, user) for user in range(10)))

    run(main())
