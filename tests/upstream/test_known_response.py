"""The response that a connection to an upstream remembers: what is taken for it, and what only looks like it."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from gw.errors import UpstreamError
from gw.upstream.client import UpstreamClient
from gw.upstream.connection import UpstreamConnection
from gw.upstream.fetch import Fetcher
from gw.upstream.response import Headers, ResponseHead
from gw.upstream.target import KeepAlive, Timeouts
from tests.support import edge as edges
from tests.support.edge import (
    OK,
    PATIENCE_S,
    Edge,
    Wire,
    asked,
    compiled,
    connections_used_once,
    edge,
    eventually,
    get,
    proxy,
    replying,
    run,
    scripted_upstream,
    upstream_dict,
)
from tests.support.opened import opened

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
HANDSHAKE = get(headers="Connection: Upgrade\r\nUpgrade: websocket\r\n")
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
TIMEOUTS = Timeouts(30, 30, 30)
KEEPALIVE = KeepAlive(10, 30, 1000)


@pytest.fixture(autouse=True)
def _own_edge() -> Iterator[None]:
    token = edges.chosen.set("h1")
    yield
    edges.chosen.reset(token)


def only_connection(running: Edge) -> UpstreamConnection:
    (connection,) = running.upstreams._connections
    return connection


async def send_in_two_reads(running: Edge, wire: Wire, first: bytes, second: bytes) -> None:
    wire.send(first)
    await eventually(lambda: only_connection(running).response_started)
    wire.send(second)


def test_a_response_that_goes_on_is_not_taken_for_the_one_before() -> None:
    """An answer begins before its request is complete, and then looks like the answer before: its body is the client's
    own to choose where an upstream echoes it.
    """

    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await connections_used_once(running, upstream)
            client.send(POST + b"a")
            await wire.head()
            assert await wire.exactly(1) == b"a"
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(OK))
            await client.head()
            client.send(b"b")
            assert await wire.exactly(1) == b"b"
            wire.send(OK)
            assert await client.exactly(len(OK)) == OK
            client = await running.connect()  # the answer said that it is the last: it began within the request
            client.send(get("/next"))
            assert (await wire.head()).startswith(b"GET /next ")
            wire.send(OK)
            assert (await client.answer()).body == b"ok"

    run(main())


@pytest.mark.parametrize(
    ("first", "second", "then", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-L", b"ength: 2\r\n\r\nok", b"ength: 2\r\n\r\nok", 502),
        (b"HTTP/1.1 200 OK\r\nX-First: ", OK, OK, 200),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", OK, OK, 200),
    ],
    ids=["half a name", "a whole head, as a value", "behind an interim one"],
)
def test_the_second_half_of_a_response_is_none(first: bytes, second: bytes, then: bytes, status: int) -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream)
            await send_in_two_reads(running, wire, first, second)
            assert (await client.answer()).body == b"ok"
            client.send(get())
            await wire.head()
            wire.send(then)
            answer = await client.answer()
            assert answer.status == status
            assert answer.header("x-first") is None

    run(main())


def test_it_may_come_in_any_two_pieces() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await connections_used_once(running, upstream)
            for at in range(1, len(OK)):
                for is_whole in (False, True):
                    client.send(get(f"/{at}"))
                    assert (await wire.head()).startswith(b"GET /%d " % at)
                    if is_whole:
                        wire.send(OK)
                    else:
                        await send_in_two_reads(running, wire, OK[:at], OK[at:])
                    answer = await client.answer()
                    assert (answer.status, answer.body) == (200, b"ok")
            assert upstream.connections == 1

    run(main())


def test_a_handshake_that_it_declines_lets_no_later_answer_switch() -> None:
    async def main() -> None:
        async with scripted_upstream() as upstream:
            route = compiled("1", upstream_dict(upstream.port), enable_websocket=True)
            async with edge({"/": route}) as running:
                client, wire = await connections_used_once(running, upstream)
                client.send(HANDSHAKE)
                await wire.head()
                wire.send(OK)
                assert (await client.answer()).status == 200
                client.send(get())
                await wire.head()
                wire.send(SWITCHED)
                assert (await client.answer()).status == 502

    run(main())


def test_who_fetches_gets_what_the_upstream_said_as_its_own() -> None:
    """Plugins and proxied requests use the same connections."""

    async def main() -> None:
        async with proxy(replying(OK)) as (running, upstream):
            url = f"http://127.0.0.1:{upstream.port}/"
            for _ in range(3):
                assert (await running.ask(get())).header("server") == "Jitterway/0.1.0"
                fetched = await Fetcher(running.upstreams).fetch("GET", url, timeout_s=PATIENCE_S)
                assert fetched.headers == [(b"content-length", b"2")]
                fetched.headers.clear()
            assert upstream.connections == 1

    run(main())


class Heard:
    """A sink that writes down what it is told last."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def upstream_interim(self, status: int, headers: Headers) -> None: ...
    def upstream_head(self, status: int, reason: bytes, headers: Headers) -> None: ...
    def upstream_body(self, piece: bytes) -> None: ...
    def upstream_flush(self) -> None: ...
    def upstream_full(self) -> None: ...
    def upstream_drained(self) -> None: ...
    def upstream_upgraded(self, headers: Headers, rest: bytes) -> None: ...

    def upstream_answered(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        self.said.append(body)

    def upstream_end(self, trailers: Headers) -> None:
        self.said.append(None)

    def upstream_failed(self, error: UpstreamError) -> None:
        self.said.append(error)


@asynccontextmanager
async def used_once() -> AsyncIterator[tuple[UpstreamConnection, socket.socket]]:
    """A connection that remembers OK, and the node's end of it."""
    async with opened(UpstreamClient(asyncio.get_running_loop())) as (connection, peer):
        first = Heard()
        connection.begin(first, False, TIMEOUTS, KEEPALIVE)
        connection.request_complete()
        peer.sendall(OK)
        await eventually(lambda: first.said == [b"ok"])
        yield connection, peer


def test_a_node_that_answers_without_taking_the_request_gets_no_other_one() -> None:
    """As with an answer that is not remembered: the rest of the request would be in the next one's way."""

    async def main() -> None:
        async with used_once() as (connection, peer):
            heard = Heard()
            connection.begin(heard, False, TIMEOUTS, KEEPALIVE)
            connection.request_complete()
            connection.pause_writing()  # as the transport does when it comes to write what it was given
            peer.sendall(OK)
            await eventually(lambda: heard.said == [b"ok"])
            assert connection.closed

    run(main())


def test_while_we_do_not_read_no_time_runs_for_the_node() -> None:
    async def main() -> None:
        async with used_once() as (connection, _):
            connection.begin(Heard(), False, TIMEOUTS, KEEPALIVE)
            connection.pause_reading()
            connection.request_complete()
            assert connection._deadline.at_s == math.inf
            connection.pause_writing()
            connection.resume_writing()
            assert connection._deadline.at_s == math.inf
            connection.resume_reading()
            assert connection._deadline.at_s < math.inf

    run(main())
