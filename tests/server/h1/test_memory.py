"""Whatever an exchange, a tunnel or a plugin went through, nothing of it is left for the collector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gw.pipeline.context import Context
from gw.pipeline.phases import Phases, Step
from tests.support.edge import (
    OK,
    TIMES,
    Edge,
    Wire,
    compiled,
    edge,
    eventually,
    get,
    run,
    scripted_upstream,
    upstream_dict,
)
from tests.support.garbage import garbage_kept, ours_in_the_garbage

CONNECTIONS = 10
SHORT_S = 0.1
ASK = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"


async def upstream_script(wire: Wire) -> None:
    while True:
        head = await wire.head()
        if b"/ws" in head:
            wire.send(SWITCHED + b"hello")
            await wire.rest()
            wire.close()
            return
        if b"/cut" in head:
            wire.send(CHUNKED)
            wire.close()
            return
        if b"/gone" in head:
            wire.reset()
            return
        if b"/silent" in head:
            await wire.rest()
            return
        wire.send(OK)


async def tunnels(client: Wire) -> None:
    client.send(get("/ws", headers=ASK) + b"early")
    await client.head()
    await client.exactly(5)
    client.send(b"x" * 10)


async def tunnels_and_says_all(client: Wire) -> None:
    await tunnels(client)
    client.writer.write_eof()
    await client.rest()


async def tunnels_and_resets(client: Wire) -> None:
    await tunnels(client)
    client.reset()


async def tunnels_until_the_time_is_over(client: Wire) -> None:
    await tunnels(client)
    await client.rest()


def asks(path: str, status: int) -> Callable[[Wire], Awaitable[None]]:
    async def ask(client: Wire) -> None:
        client.send(get(path))
        assert (await client.answer()).status == status

    return ask


async def is_cut(client: Wire) -> None:
    client.send(get("/cut"))
    assert not (await client.answer()).complete


async def is_cut_by_a_filter(client: Wire) -> None:
    client.send(get("/filter-fails"))
    assert not (await client.answer()).complete


async def leaves_while_it_is_waited(client: Wire) -> None:
    client.send(get("/silent"))
    await asyncio.sleep(0.01)
    client.reset()


async def leaves_while_a_plugin_waits(client: Wire) -> None:
    client.send(get("/waits"))
    await asyncio.sleep(0.01)
    client.reset()


async def sends_a_body_that_stops(client: Wire) -> None:
    client.send(b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    assert (await client.answer()).status == 408
    client.reset()


async def sends_a_body_that_is_read(client: Wire) -> None:
    client.send(b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab")
    await asyncio.sleep(0.01)
    client.send(b"c")
    assert (await client.answer()).status == 200


async def sends_a_malformed_body(client: Wire) -> None:
    client.send(b"POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n")
    assert (await client.answer()).status == 400


async def pipelines(client: Wire) -> None:
    client.send(get() * 5 + get("/nowhere/else") + b"\0\r\n\r\n")
    for _ in range(6):
        await client.answer()
    assert (await client.answer()).status == 400


async def ends_its_side(client: Wire) -> None:
    client.send(get() * 2)
    client.writer.write_eof()
    assert b"ok" in await client.rest()


async def is_refused_slowly(client: Wire) -> None:
    client.send(b"GET / HT")
    assert (await client.answer()).status == 408


def _routes(port: int) -> dict[str, Any]:
    async def waits(_: Context) -> None:
        await asyncio.Event().wait()

    async def passes(_: Context) -> None:
        await asyncio.sleep(0)

    async def reads(ctx: Context) -> None:
        await ctx.read_body(1000)

    async def raises(_: Context) -> None:
        await asyncio.sleep(0)
        raise ValueError

    def filters(_: Context, piece: bytes, is_last: bool) -> bytes:
        return piece

    async def filters_later(_: Context, piece: bytes, is_last: bool) -> bytes:
        await asyncio.sleep(0)
        return piece

    def fails(_: Context, piece: bytes, is_last: bool) -> bytes:
        raise ValueError

    def step(method: Any) -> tuple[Step, ...]:
        return (Step(method, "test", "route", asyncio.iscoroutinefunction(method)),)

    timeout = {"connect": 5, "send": 5, "read": SHORT_S}
    one = upstream_dict(port, timeout=timeout)
    dead = {"host": "127.0.0.1", "port": 1, "weight": 1, "priority": 1}
    two = upstream_dict(port, timeout=timeout, nodes=[dead, {"host": "127.0.0.1", "port": port, "weight": 1}])
    return {
        "/": compiled("1", one, enable_websocket=True),
        "/retried": compiled("2", two),
        "/dead": compiled("3", upstream_dict(1)),
        "/waits": compiled("4", one, Phases(request=step(waits))),
        "/passes": compiled("5", one, Phases(request=step(passes), before_proxy=step(passes), log=())),
        "/reads": compiled("6", one, Phases(request=step(reads))),
        "/raises": compiled("7", one, Phases(request=step(raises))),
        "/filtered": compiled("8", one, Phases(body_filter=step(filters), changes_body=True)),
        "/filtered-later": compiled(
            "9", one, Phases(body_filter=step(filters_later), filters_await=True, changes_body=True)
        ),
        "/filter-fails": compiled("10", one, Phases(body_filter=step(fails), changes_body=True)),
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    "behave",
    [
        *(tunnels, tunnels_and_says_all, tunnels_and_resets, tunnels_until_the_time_is_over),
        *(is_cut, is_cut_by_a_filter, leaves_while_it_is_waited, leaves_while_a_plugin_waits, pipelines, ends_its_side),
        *(sends_a_body_that_stops, sends_a_body_that_is_read, sends_a_malformed_body, is_refused_slowly),
        pytest.param(asks("/gone", 502), id="gone"),
        pytest.param(asks("/silent", 504), id="silent"),
        pytest.param(asks("/dead", 502), id="dead"),
        pytest.param(asks("/retried", 200), id="retried"),
        pytest.param(asks("/passes", 200), id="plugin passes"),
        pytest.param(asks("/raises", 500), id="plugin raises"),
        pytest.param(asks("/filtered", 200), id="filtered"),
        pytest.param(asks("/filtered-later", 200), id="filtered later"),
    ],
)
def test_nothing_is_left_for_the_collector(behave: Callable[[Wire], Awaitable[None]]) -> None:
    async def many(running: Edge, count: int) -> None:
        for _ in range(count):
            client = await running.connect()
            await behave(client)
            client.close()
        running._wires.clear()
        await eventually(lambda: len(running.connections) == 0)
        for _ in range(5):
            await asyncio.sleep(0.005)  # the end of the last task is nobody's event

    async def main() -> None:
        times = TIMES._replace(body_s=SHORT_S, header_s=SHORT_S)
        async with scripted_upstream(upstream_script) as upstream, edge(_routes(upstream.port), times=times) as running:
            await many(running, 2)
            with garbage_kept():
                await many(running, CONNECTIONS)
                assert not ours_in_the_garbage()

    run(main())


def test_idle_connections_hold_nothing_of_their_last_request() -> None:
    async def main() -> None:
        async with scripted_upstream(upstream_script) as upstream, edge(_routes(upstream.port)) as running:
            client = await running.connect()
            await asks("/", 200)(client)
            (near,), (far,) = running.connections._live, running.upstreams._connections
            assert near._head.headers == []
            assert far._piece == b""

    run(main())
