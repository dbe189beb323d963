"""Filters of responses over both edges: those that await, what frames a body, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from gw.plugins.api import Context, Plugin
from tests.support.edge import PATIENCE_S, Edge, Wire, asked, eventually, get, replying, run
from tests.support.garbage import garbage_kept
from tests.support.plugin_gateway import ANSWER, Logged, Marks, chunks, gateway

pytestmark = pytest.mark.usefixtures("each_edge")


class Slow(Plugin):
    """Filters that await for each piece."""

    name = "slow"
    priority = 1

    async def header_filter(self, ctx: Context) -> None:
        await asyncio.sleep(0.001)
        ctx.response.set_header("x-filtered", "yes")

    async def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        await asyncio.sleep(0)
        if is_last:
            return b"<end>"
        return piece


class Reframes(Plugin):
    """Tries to change what frames the body."""

    name = "reframes"
    priority = 1

    def header_filter(self, ctx: Context) -> None:
        ctx.response.set_header("content-length", "3")
        ctx.response.set_header("transfer-encoding", "chunked")


class Takes(Plugin):
    """Takes the length away, so that the body is framed anew."""

    name = "takes"
    priority = 1

    def header_filter(self, ctx: Context) -> None:
        ctx.response.remove_header("content-length")


class Watches(Plugin):
    """Looks at the body and returns something else."""

    name = "watches"
    priority = 1
    only_reads_body = True

    def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        return b"ignored"


class TestFiltersThatAwait:
    def test_keep_the_order_of_pieces(self) -> None:
        async def main() -> None:
            async with gateway(Slow, Logged) as (running, upstream):
                client, wire = await asked(running, upstream)
                pieces = [b"%05d" % number for number in range(2000)]
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(*pieces))
                answer = await client.answer()
                assert (answer.body, answer.complete) == (b"".join(pieces) + b"<end>", True)
                assert answer.header("x-filtered") == "yes"
                assert Logged.seen == [(200, "yes")]

        run(main())

    def test_let_a_head_leave_before_the_first_piece(self) -> None:
        async def main() -> None:
            async with gateway(Slow) as (running, upstream):
                client, wire = await asked(running, upstream)
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                assert b"x-filtered: yes" in await client.head()

        run(main())

    def test_hold_the_upstream_back(self) -> None:
        """10 MB through a filter that waits for the test: the upstream cannot send it all."""
        body_bytes = 10 << 20

        async def main() -> None:
            gate = asyncio.Event()
            most = 0

            class Gated(Plugin):
                name = "gated"
                priority = 1

                async def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
                    nonlocal most
                    await gate.wait()
                    most = max(most, ctx._filtering._queued_bytes)  # type: ignore[attr-defined]
                    return piece

            async with gateway(Gated) as (running, upstream):
                client, wire = await asked(running, upstream)
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body_bytes)
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < body_bytes:
                        wire.send(bytes(1 << 18))
                        sent += 1 << 18
                        await asyncio.wait_for(wire.writer.drain(), 0.3)
                assert sent < body_bytes, "the upstream was not held back"
                gate.set()
                wire.send(bytes(body_bytes - sent))
                answer = await client.answer()
                assert len(answer.body) == body_bytes
                # High water, and one read of the loop.
                assert most <= (64 + 256 + 64) << 10

        run(main())

    def test_a_client_that_does_not_read_holds_the_upstream_back_through_them(self) -> None:
        """Filters that are quick must not undo what a slow client asked for."""

        async def main() -> None:
            async with gateway(Slow) as (running, upstream):
                client = await running.connect()
                client.writer.transport.pause_reading()  # type: ignore[attr-defined]
                client.send(get())
                wire = await upstream.accept()
                await wire.head()
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
                sent = 0
                with contextlib.suppress(TimeoutError):
                    while sent < 64 << 20:
                        wire.send(bytes(1 << 18))
                        sent += 1 << 18
                        await asyncio.wait_for(wire.writer.drain(), 0.5)
                assert sent < 64 << 20, "all of it went into the gateway's memory"

        run(main())

    def test_are_given_up_when_the_client_leaves(self) -> None:
        async def main() -> None:
            entered, cancelled = asyncio.Event(), asyncio.Event()

            class Stuck(Plugin):
                name = "stuck"
                priority = 1

                async def header_filter(self, ctx: Context) -> None:
                    entered.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        cancelled.set()

            async with gateway(Stuck, Logged, script=replying(ANSWER)) as (running, _):
                client = await running.connect()
                client.send(get())
                await asyncio.wait_for(entered.wait(), PATIENCE_S)
                client.reset()
                await asyncio.wait_for(cancelled.wait(), PATIENCE_S)
                await eventually(lambda: [status for status, _ in Logged.seen] == [499])

        run(main())

    @pytest.mark.parametrize("filters", [Marks, Slow, Watches, Reframes, Takes])
    def test_an_upstream_that_cuts_its_response_cuts_the_clients(self, filters: type[Plugin]) -> None:
        """Whatever the filters made of the length that it announced."""

        async def main() -> None:
            async with gateway(filters, Logged) as (running, upstream):
                client, wire = await asked(running, upstream)
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
                wire.close()
                answer = await client.answer()
                assert answer.status == 200
                # With its length announced or not: the client can see that it is not whole.
                assert not answer.complete
                assert answer.body.lower().startswith(b"begun")
                await eventually(lambda: len(Logged.seen) == 1)

        run(main())


class TestFraming:
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    @pytest.mark.parametrize("filters", [Marks, Slow])
    def test_a_length_that_no_longer_holds_is_gone(self, version: str, filters: type[Plugin]) -> None:
        async def main() -> None:
            async with gateway(filters, script=replying(ANSWER)) as (running, _):
                answer = await running.ask(get(version=version))
                assert answer.header("content-length") is None
                assert answer.header("transfer-encoding") == ("chunked" if version == "1.1" else None)
                assert answer.body == (b"HELLO!" if filters is Marks else b"hello<end>")

        run(main())

    @pytest.mark.parametrize("filters", [Marks, Slow])
    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_where_there_is_no_body_there_stays_none(self, filters: type[Plugin], method: str, status: int) -> None:
        async def main() -> None:
            length = b"" if status == 204 else b"Content-Length: 5\r\n"
            raw = b"HTTP/1.1 %d Fine\r\n%b\r\n" % (status, length)
            async with gateway(filters, Logged, script=replying(raw)) as (running, upstream):
                client = await running.connect()
                for _ in range(2):
                    client.send(get(method=method))
                    answer = await client.answer(to_head=True)
                    assert (answer.status, answer.header("x-filtered")) == (status, "yes")
                assert upstream.connections == 1
                client.send(get(method=method, headers="Connection: close\r\n"))
                assert (await client.rest()).endswith(b"\r\n\r\n")

        run(main())

    def test_is_not_for_filters_to_change(self) -> None:
        async def main() -> None:
            async with gateway(Reframes, script=replying(ANSWER)) as (running, _):
                answer = await running.ask(get())
                assert (answer.header("content-length"), answer.body) == ("5", b"hello")
                assert answer.header("transfer-encoding") is None
            async with gateway(Reframes, Marks, script=replying(ANSWER)) as (running, _):
                answer = await running.ask(get())
                assert (answer.header("content-length"), answer.body) == (None, b"HELLO!")

        run(main())

    def test_a_length_may_be_taken_away(self) -> None:
        async def main() -> None:
            async with gateway(Takes, script=replying(ANSWER)) as (running, _):
                answer = await running.ask(get())
                assert (answer.header("content-length"), answer.body) == (None, b"hello")

        run(main())

    def test_who_only_reads_the_body_leaves_its_length(self) -> None:
        async def main() -> None:
            async with gateway(Watches, script=replying(ANSWER)) as (running, _):
                answer = await running.ask(get())
                assert (answer.header("content-length"), answer.body) == ("5", b"hello")

        run(main())


@pytest.mark.parametrize("plugins", [(Marks, Logged), (Slow, Logged), (Slow, Watches)])
@pytest.mark.parametrize("ending", ["whole", "leaves", "cut"])
def test_filtered_exchanges_leave_nothing_for_the_collector(plugins: tuple[type[Plugin], ...], ending: str) -> None:
    async def answers(wire: Wire) -> None:
        while True:
            await wire.head()
            if ending == "whole":
                wire.send(ANSWER)
            else:
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
            if ending == "cut":
                await wire.writer.drain()
                wire.close()

    async def ask(running: Edge) -> None:
        client = await running.connect()
        for _ in range(3 if ending == "whole" else 1):
            client.send(get())
            if ending == "whole":
                assert (await client.answer()).complete
            else:
                await client.head()
        if ending == "cut":
            await client.rest()
        client.close()
        running._wires.clear()

    async def main() -> None:
        async with gateway(*plugins, script=answers) as (running, _):
            await ask(running)
            with garbage_kept():
                for _ in range(10):
                    await ask(running)
                await asyncio.sleep(0.05)  # the end of the last exchange is nobody's event
                gc.collect()
                left = {type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("gw.")}
            assert not left

    run(main())
