"""Nodes that refuse, are silent or end a connection: what the client is answered, and what is tried again."""

import asyncio
from typing import Any

import pytest

from tests.support.edge import (
    OK,
    Wire,
    asked,
    compiled,
    connections_used_once,
    edge,
    eventually,
    fields_of,
    full_backlog,
    get,
    proxy,
    refusing_port,
    run,
    scripted_upstream,
    upstream_dict,
)

pytestmark = pytest.mark.usefixtures("each_edge")


def test_refused_is_502() -> None:
    async def main() -> None:
        with refusing_port() as port:
            async with edge({"/": compiled("1", upstream_dict(port))}) as running:
                answer = await running.ask(get())
                assert (answer.status, answer.body) == (502, b'{"error_msg":"502 Bad Gateway"}\n')
                assert answer.header("x-apisix-upstream-status") == "502"
                head = await running.ask(get(method="HEAD"))
                assert (head.status, head.header("content-length")) == (502, "32")

    run(main())


@pytest.mark.parametrize(
    ("node", "fields", "statuses"),
    [
        ({}, {}, {200}),
        ({"priority": 5}, {}, {200}),  # the living node is of a lower priority: it stands in
        ({}, {"retries": 0}, {200, 502}),
        ({"weight": 0}, {}, {200}),
    ],
    ids=["another node", "lower priority", "no retries", "never picked"],
)
def test_a_node_that_refuses_is_passed_over(node: dict[str, int], fields: dict[str, Any], statuses: set[int]) -> None:
    heads = []

    async def play(wire: Wire) -> None:
        while True:
            heads.append(await wire.head())
            if heads[-1].startswith(b"POST"):
                assert await wire.exactly(5) == b"hello"
            wire.send(OK)

    async def main() -> None:
        async with scripted_upstream(play) as upstream:
            with refusing_port() as port:
                dead = {"host": "127.0.0.1", "port": port, "weight": 1, **node}
                alive = {"host": "127.0.0.1", "port": upstream.port, "weight": 1}
                settled = upstream_dict(0, nodes=[dead, alive], pass_host="node", **fields)
                async with edge({"/": compiled("1", settled)}) as running:
                    body = b"POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\n\r\nhello"
                    # The dead node's turn comes with either kind of request.
                    seen = {(await running.ask(raw)).status for raw in (get(), get(), body, body) * 2}
                    assert seen == statuses
            assert all(("host", f"127.0.0.1:{upstream.port}") in fields_of(head) for head in heads)
            assert heads

    run(main())


def test_no_connection_in_time_is_504() -> None:
    async def main() -> None:
        timeout = {"connect": 0.1, "send": 60, "read": 60}
        with full_backlog() as port:
            async with edge({"/": compiled("1", upstream_dict(port, timeout=timeout))}) as running:
                answer = await running.ask(get())
                assert (answer.status, answer.body) == (504, b'{"error_msg":"504 Gateway Time-out"}\n')

    run(main())


def test_silence_is_504_and_the_connection_is_closed() -> None:
    async def main() -> None:
        async with proxy(timeout={"connect": 60, "send": 60, "read": 0.1}) as (running, upstream):
            client = await running.connect()
            client.send(get())
            wire = await upstream.accept()
            assert (await client.answer()).status == 504
            await wire.head()
            assert await wire.rest() == b""

    run(main())


def test_the_read_time_counts_between_two_reads() -> None:
    async def main() -> None:
        async with proxy(timeout={"connect": 60, "send": 60, "read": 1}) as (running, upstream):
            client, wire = await asked(running, upstream)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            for _ in range(8):  # 1.6 s in all
                await asyncio.sleep(0.2)
                wire.send(b"x")
            answer = await client.answer()  # and then no more: two bytes are missing
            assert (answer.status, answer.body, answer.complete) == (200, b"x" * 8, False)

    run(main())


def test_an_upstream_that_reads_nothing_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with proxy(timeout={"connect": 60, "send": 0.2, "read": 60}) as (running, upstream):
            client = await running.connect()
            size = 64 * 1024 * 1024
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
            wire = await upstream.accept()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(bytes(size))
            # The client may not live to read its 504: the server closes with bytes of the body unread, a reset.
            await eventually(lambda: "the upstream reads nothing" in caplog.text)
            assert "connections=0 " in repr(running.upstreams)

    run(main())


def test_a_slow_upload_is_no_silence() -> None:
    async def main() -> None:
        async with proxy(timeout={"connect": 60, "send": 0.3, "read": 0.3}) as (running, upstream):
            client, wire = await asked(running, upstream, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
            await asyncio.sleep(0.7)  # the client's doing, so no time-out of the upstream's
            client.send(b"b")
            assert await wire.exactly(2) == b"ab"
            wire.send(OK)
            assert (await client.answer()).body == b"ok"

    run(main())


# A reused connection that turns out to be closed.


@pytest.mark.parametrize(
    ("request_", "is_retried"),
    [
        (get(), True),
        (get(method="DELETE"), True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", False),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", True),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", False),
        (get(method="LOCK"), False),
    ],
)
def test_retried_once_where_that_is_safe(request_: bytes, is_retried: bool) -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, first = await connections_used_once(running, upstream)
            client.send(request_)
            await first.head()
            first.abort()
            if is_retried:
                second = await upstream.accept()
                await second.head()
                second.send(OK)
            assert (await client.answer()).status == (200 if is_retried else 502)
            assert upstream.connections == (2 if is_retried else 1)

    run(main())


def test_a_fresh_connection_that_closes_is_not_retried() -> None:
    async def play(wire: Wire) -> None:
        await wire.head()
        wire.close()

    async def main() -> None:
        async with proxy(play) as (running, upstream):
            assert (await running.ask(get())).status == 502
            assert upstream.connections == 1

    run(main())


def test_a_retry_that_fails_is_the_last() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, first = await connections_used_once(running, upstream)
            client.send(get())
            await first.head()
            first.abort()
            second = await upstream.accept()
            await second.head()
            second.abort()
            assert (await client.answer()).status == 502
            assert upstream.connections == 2

    run(main())


def test_a_body_that_waits_while_the_connection_ends_is_not_lost() -> None:
    """The client was asked for its body, the reused connection ends before a byte of it came: nothing was written."""

    async def main() -> None:
        async with proxy() as (running, upstream):
            client, first = await connections_used_once(running, upstream)
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            first.abort()
            second = await upstream.accept()
            client.send(b"hello")
            await second.head()
            assert await second.exactly(5) == b"hello"
            second.send(OK)
            assert (await client.answer()).body == b"ok"

    run(main())
