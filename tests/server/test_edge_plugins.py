"""What a plugin that awaits, reads a body, or fails does to a connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import pytest

from gw.pipeline.context import Context
from gw.pipeline.phases import Phases, Step
from tests.support.edge import (
    OK,
    Wire,
    compiled,
    edge,
    eventually,
    get,
    replying,
    run,
    scripted_upstream,
    upstream_dict,
)

pytestmark = pytest.mark.usefixtures("each_edge")

LIMIT_BYTES = 100_000


def step(method: Any) -> tuple[Step, ...]:
    return (Step(method, "test", "route 1", asyncio.iscoroutinefunction(method)),)


def test_a_plugin_reads_no_more_of_a_body_without_end_than_it_asked_for() -> None:
    """The length is not announced, and the body never ends: the answer does not wait for that."""

    async def read(ctx: Context) -> None:
        await ctx.read_body(LIMIT_BYTES)

    async def main() -> None:
        async with edge({"/": compiled("1", upstream_dict(1), Phases(request=step(read)))}) as running:
            client = await running.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            piece = b"8000\r\n" + bytes(0x8000) + b"\r\n"
            sending = asyncio.create_task(_for_ever(client, piece))
            assert (await client.answer()).status == 413
            sending.cancel()

    run(main())


async def _for_ever(client: Wire, piece: bytes) -> None:
    for _ in range(1000):
        client.send(piece)
        await client.writer.drain()


def test_a_body_that_was_read_goes_upstream_whole() -> None:
    body = b"x" * 90_000
    seen: list[bytes] = []

    async def read(ctx: Context) -> None:
        seen.append(await ctx.read_body(LIMIT_BYTES))

    async def take(wire: Wire) -> None:
        while True:
            assert b"content-length: 90000" in await wire.head()
            assert await wire.exactly(len(body)) == body
            wire.send(OK)

    async def main() -> None:
        async with scripted_upstream(take) as upstream:
            async with edge({"/": compiled("1", upstream_dict(upstream.port), Phases(request=step(read)))}) as running:
                for _ in range(2):
                    client = await running.connect()
                    client.send(
                        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
                    )
                    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
                    for at in range(0, len(body), 10_000):
                        client.send(b"%x\r\n%b\r\n" % (10_000, body[at : at + 10_000]))
                        await asyncio.sleep(0)
                    client.send(b"0\r\n\r\n")
                    assert (await client.answer()).body == b"ok"
            assert seen == [body, body]

    run(main())


def test_a_client_that_leaves_ends_a_plugin_that_waits() -> None:
    ended = asyncio.Event()

    async def wait(_: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def main() -> None:
        async with edge({"/": compiled("1", upstream_dict(1), Phases(request=step(wait)))}) as running:
            client = await running.connect()
            client.send(get())
            await eventually(lambda: bool(running.routes.asked))
            client.reset()
            await asyncio.wait_for(ended.wait(), 10)

    run(main())


@pytest.mark.parametrize("phase", ["header_filter", "body_filter"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_filter_that_fails_is_logged_once_and_the_connection_is_given_up(
    phase: str, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "gw")

    def fail(*_: Any) -> None:
        raise ValueError("broken")

    async def fail_later(*_: Any) -> None:
        raise ValueError("broken")

    async def play(wire: Wire) -> None:
        await wire.head()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        await asyncio.sleep(0.05)
        wire.send(b"four")
        await wire.rest()

    async def main() -> None:
        phases = Phases(**{phase: step(fail_later if is_async else fail)}, filters_await=is_async)  # type: ignore[arg-type]
        async with (
            scripted_upstream(play) as upstream,
            edge({"/": compiled("1", upstream_dict(upstream.port), phases)}) as running,
        ):
            client = await running.connect()
            client.send(get())
            if phase == "header_filter":
                assert (await client.answer()).status == 500
            else:
                with contextlib.suppress(asyncio.IncompleteReadError):  # cut before the head
                    answer = await client.answer()
                    assert not answer.complete or answer.status == 500
            await eventually(lambda: "connections=0 " in repr(running.upstreams))
        messages = [record.getMessage() for record in caplog.records if record.name.startswith("gw")]
        assert len(messages) == 1, messages
        assert "plugin test of route 1 failed" in messages[0]

    run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_head_leaves_though_the_filter_of_its_body_fails_at_once(is_async: bool) -> None:
    """Without it a client takes the request for one that nobody has seen, and may send it again."""

    def fail(*_: Any) -> None:
        raise ValueError("broken")

    async def fail_later(*_: Any) -> None:
        raise ValueError("broken")

    async def main() -> None:
        phases = Phases(body_filter=step(fail_later if is_async else fail), filters_await=is_async)
        async with (
            scripted_upstream(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour")) as upstream,
            edge({"/": compiled("1", upstream_dict(upstream.port), phases)}) as running,
        ):
            answer = await running.ask(get())
            assert (answer.status, answer.body, answer.complete) == (200, b"", False)

    run(main())
