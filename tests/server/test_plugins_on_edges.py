"""Plugins' phases over both edges: order, answers, failures, filters that await, bodies, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, ClassVar

import pytest

from gw.model.merge import Missing
from gw.pipeline.reply import Reply, plugin_reply
from gw.plugins.api import Context, Plugin
from tests.support.chains import chain, instance, walking
from tests.support.edge import (
    OK,
    PATIENCE_S,
    Edge,
    ScriptedUpstream,
    Wire,
    asked,
    compiled,
    edge,
    eventually,
    get,
    replying,
    run,
    scripted_upstream,
)

pytestmark = pytest.mark.usefixtures("each_edge")

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Of: upstream\r\n\r\nhello"


@contextlib.asynccontextmanager
async def gateway(
    *plugins: Any, script: Any = None, rules: tuple[Any, ...] = (), **options: Any
) -> AsyncIterator[tuple[Edge, ScriptedUpstream]]:
    async with (
        scripted_upstream(script) as upstream,
        edge({"/": walking(upstream.port, *plugins, rules=rules)}, **options) as running,
    ):
        yield running, upstream


def post(body: bytes, headers: str = "", path: str = "/") -> bytes:
    return get(path, method="POST", headers=f"Content-Length: {len(body)}\r\n{headers}") + body


CHUNKED = "Transfer-Encoding: chunked\r\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Logged(Plugin):
    """What the log phase saw, per test."""

    name = "logged"
    priority = -1
    seen: ClassVar[list[tuple[int, str | None]]] = []

    def prepare(self) -> None:
        self.seen.clear()

    def log(self, ctx: Context) -> None:
        self.seen.append((ctx.status, ctx.response.header("x-filtered") if ctx.response_headers else None))


class Marks(Plugin):
    """A header filter and a body filter that leave their mark on every response, whoever gave it."""

    name = "marks"
    priority = 5

    def header_filter(self, ctx: Context) -> None:
        ctx.response.set_header("x-filtered", "yes")

    def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        return piece.upper() + (b"!" if is_last else b"")


def tracer(name: str, priority: int, *, awaits: bool = False) -> type[Plugin]:
    """A plugin that writes down every phase it is called in, in the request's state; the last one shows it."""

    def note(self: Plugin, ctx: Context, phase: str) -> None:
        ctx.state.setdefault("trace", []).append(f"{self.name}.{phase}")

    methods: dict[str, Any] = {}
    for phase in ("rewrite", "access", "before_proxy", "header_filter"):
        if awaits:

            async def run_later(self: Plugin, ctx: Context, phase: str = phase) -> None:
                await asyncio.sleep(0)
                note(self, ctx, phase)

            methods[phase] = run_later
        else:

            def run_now(self: Plugin, ctx: Context, phase: str = phase) -> None:
                note(self, ctx, phase)

            methods[phase] = run_now
    return type(name, (Plugin,), {"name": name, "priority": priority, **methods})


class Shows(Plugin):
    """Shows the trace as a header: it is the last one to see the head."""

    name = "shows"
    priority = -9

    def header_filter(self, ctx: Context) -> None:
        ctx.response.set_header("x-trace", " ".join(ctx.state.get("trace", [])))


class TestOrder:
    @pytest.mark.parametrize("awaiting", [(), ("a",), ("b",), ("rule",), ("a", "b", "rule")])
    def test_is_the_same_whoever_awaits(self, awaiting: tuple[str, ...]) -> None:
        """plain, async, plain: the chain goes on where it was."""

        async def main() -> None:
            plugins = {
                name: tracer(name, priority, awaits=name in awaiting)
                for name, priority in (("a", 30), ("b", 20), ("c", 10), ("rule", 1))
            }
            route = (plugins["c"], plugins["a"], plugins["b"], Shows)
            async with gateway(*route, rules=(plugins["rule"],), script=replying(ANSWER)) as (running, _):
                answer = await running.ask(get())
            phases = (
                *(("rule", phase) for phase in ("rewrite", "access")),
                *((name, phase) for phase in ("rewrite", "access") for name in ("a", "b", "c")),
                *((name, phase) for phase in ("before_proxy", "header_filter") for name in ("rule", "a", "b", "c")),
            )
            assert answer.body == b"hello"
            assert (answer.header("x-trace") or "").split() == [f"{name}.{phase}" for name, phase in phases]

        run(main())


class TestReplies:
    @pytest.mark.parametrize("awaits", [False, True])
    @pytest.mark.parametrize("phase", ["rewrite", "access", "before_proxy"])
    def test_end_the_request_and_pass_the_filters(self, phase: str, awaits: bool) -> None:
        async def main() -> None:
            reply = plugin_reply(403, "denied", {"x-of": "plugin"})

            def plain(self: Plugin, ctx: Context) -> Reply:
                return reply

            async def later(self: Plugin, ctx: Context) -> Reply:
                await asyncio.sleep(0)
                return reply

            guard = type("Guard", (Plugin,), {"name": "guard", "priority": 50, phase: later if awaits else plain})
            never = tracer("never", 40)
            async with gateway(guard, never, Marks, Logged, Shows) as (running, upstream):
                client = await running.connect()
                for _ in range(2):  # the connection goes on
                    client.send(get())
                    answer = await client.answer()
                    assert (answer.status, answer.body, answer.header("x-of")) == (403, b"DENIED!", "plugin")
                    assert answer.header("x-filtered") == "yes"
                    earlier = {"rewrite": [], "access": ["rewrite"], "before_proxy": ["rewrite", "access"]}[phase]
                    assert (answer.header("x-trace") or "").split() == [
                        f"never.{each}" for each in (*earlier, "header_filter")
                    ]
                assert upstream.connections == 0
                assert Logged.seen == [(403, "yes")] * 2

        run(main())

    def test_no_route_is_answered_through_the_filters_of_global_rules(self) -> None:
        async def main() -> None:
            route = compiled("", Missing("none", 404)).walking(chain(rules=(Marks, Logged)))
            async with edge({"/": route}) as running:
                answer = await running.ask(get())
            assert (answer.status, answer.header("x-filtered")) == (404, "yes")
            assert json.loads(answer.body.rstrip(b"!").lower())["error_msg"] == "404 route not found"
            assert Logged.seen == [(404, "yes")]

        run(main())


class Boom(Exception):
    pass


def failing(phase: str, *, awaits: bool) -> type[Plugin]:
    def plain(self: Plugin, ctx: Context) -> None:
        if ctx.request.path != "/fine":
            raise Boom

    async def later(self: Plugin, ctx: Context) -> None:
        await asyncio.sleep(0)
        plain(self, ctx)

    return type("Failing", (Plugin,), {"name": "failing", "priority": 9, phase: later if awaits else plain})


class TestFailures:
    @pytest.mark.parametrize("awaits", [False, True])
    @pytest.mark.parametrize("phase", ["rewrite", "access", "before_proxy", "header_filter"])
    def test_before_the_head_left_are_a_500(
        self, phase: str, awaits: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            async with gateway(failing(phase, awaits=awaits), Logged, script=replying(ANSWER)) as (running, upstream):
                client = await running.connect()
                for path, status in (("/fine", 200), ("/", 500), ("/fine", 200), ("/", 500)):
                    client.send(get(path))
                    answer = await client.answer()
                    assert answer.status == status
                    if status == 500:
                        told = json.loads(answer.body)["request_id"]
                        assert told == answer.header("x-request-id")
                        assert f"plugin failing of routes/1 failed (route 1, request {told})" in caplog.text
                await eventually(lambda: len(Logged.seen) == 4)
                assert [status for status, _ in Logged.seen] == [200, 500, 200, 500]
                # What the upstream says to a request that was given up answers no other one.
                assert (await running.ask(get("/fine"))).body == b"hello"
                assert upstream.connections <= 3

        with caplog.at_level(logging.ERROR):
            run(main())
        assert "Boom" in caplog.text

    @pytest.mark.parametrize("awaits", [False, True])
    def test_after_the_head_left_break_the_response_off(self, awaits: bool) -> None:
        class Second(Plugin):
            """Fails with the second piece."""

            name = "second"
            priority = 1

            def look(self, ctx: Context, piece: bytes) -> bytes:
                if piece == b"second" and ctx.request.path != "/fine":
                    raise Boom
                return piece

            if awaits:

                async def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
                    return self.look(ctx, piece)
            else:

                def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:  # type: ignore[misc]
                    return self.look(ctx, piece)

        async def main() -> None:
            async with gateway(Second, Logged) as (running, upstream):
                client, wire = await asked(running, upstream)
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                assert b"200" in await client.head()
                assert await client.exactly(10) == b"5\r\nfirst\r\n"
                neighbour = await running.connect()
                neighbour.send(get("/fine"))
                other = await upstream.accept()
                await other.head()
                other.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n")
                wire.send(b"6\r\nsecond\r\n0\r\n\r\n")
                assert b"0\r\n\r\n" not in await client.rest()
                other.send(b"0\r\n\r\n")
                answer = await neighbour.answer()
                assert (answer.body, answer.complete) == (b"second", True)
                await eventually(lambda: len(Logged.seen) == 2)

        run(main())

    @pytest.mark.parametrize("awaits", [False, True])
    def test_in_the_log_phase_harm_nobody(self, awaits: bool, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with gateway(failing("log", awaits=awaits), Logged, script=replying(ANSWER)) as (running, upstream):
                client = await running.connect()
                for _ in range(3):
                    client.send(get())
                    assert (await client.answer()).body == b"hello"
                await eventually(lambda: caplog.text.count("Boom") >= 3)
                assert upstream.connections == 1
                assert [status for status, _ in Logged.seen] == [200] * 3

        with caplog.at_level(logging.ERROR):
            run(main())


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


class Reads(Plugin):
    """Reads the whole body, up to `limit`, and replaces it where told to."""

    name = "reads"
    priority = 1

    async def access(self, ctx: Context) -> None:
        body = await ctx.read_body(self.conf.get("limit", 1000))
        ctx.request.set_header("x-read", str(len(body)))
        if "replace" in self.conf:
            ctx.replace_body(self.conf["replace"])


def reads(**conf: Any) -> Any:
    return instance(Reads, conf)


class TestBodies:
    @pytest.mark.parametrize("framing", ["length", "chunked", "none"])
    @pytest.mark.parametrize("new", [None, b"", b"another body"])
    def test_are_read_and_replaced(self, framing: str, new: bytes | None) -> None:
        async def main() -> None:
            plugin = reads() if new is None else reads(replace=new)
            async with gateway(plugin) as (running, upstream):
                client = await running.connect()
                old = b"" if framing == "none" else b"the body"
                client.send(
                    {
                        "length": post(old),
                        "chunked": get(method="POST", headers=CHUNKED) + chunks(old[:3], old[3:]),
                        "none": get(),
                    }[framing]
                )
                wire = await upstream.accept()
                head = (await wire.head()).lower()
                assert b"x-read: %d\r\n" % len(old) in head
                expected = old if new is None else new
                if b"transfer-encoding: chunked" in head:
                    assert new is None
                    assert framing == "chunked"
                    body, _ = await wire.chunked()
                    assert body == expected
                else:
                    assert (b"content-length: %d\r\n" % len(expected) in head) or (framing == "none" and not expected)
                    assert await wire.exactly(len(expected)) == expected
                wire.send(OK)
                assert (await client.answer()).body == b"ok"
                client.send(get())
                assert (await wire.head()).lower().startswith(b"get / http/1.1\r\n")  # nothing was left over
                wire.send(OK)
                assert (await client.answer()).status == 200

        run(main())

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_beyond_the_limit_are_refused(self, framing: str) -> None:
        async def main() -> None:
            async with gateway(reads(limit=5), Logged) as (running, upstream):
                for body, status in ((b"12345", 200), (b"123456", 413)):
                    client = await running.connect()
                    head = get(method="POST", headers=CHUNKED) + chunks(body[:2], body[2:])
                    client.send(post(body) if framing == "length" else head)
                    if status == 200:
                        wire = await upstream.accept()
                        await wire.head()
                        wire.send(OK)
                    assert (await client.answer()).status == status
                assert upstream.connections == 1

        run(main())

    def test_without_an_end_are_refused_at_the_limit(self) -> None:
        """A chunked body that never ends is not gathered."""

        async def main() -> None:
            async with gateway(reads(limit=1 << 16)) as (running, _):
                client = await running.connect()
                client.send(get(method="POST", headers=CHUNKED))
                answered = asyncio.ensure_future(client.answer())
                sent = 0
                while not answered.done() and sent < 32 << 20:
                    client.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
                    sent += 0x4000
                    with contextlib.suppress(ConnectionError):
                        await asyncio.wait_for(client.writer.drain(), PATIENCE_S)
                    await asyncio.sleep(0)
                assert (await answered).status == 413
                assert sent < 4 << 20

        run(main())

    @pytest.mark.parametrize("limit", [1000, 3])
    def test_are_asked_for_where_the_client_expects_it(self, limit: int) -> None:
        async def main() -> None:
            async with gateway(reads(limit=limit)) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 5\r\nExpect: 100-continue\r\n"))
                if limit == 3:
                    answer = await client.answer()
                    assert (answer.status, answer.interim) == (413, [])
                    return
                assert b" 100 " in await client.head()
                client.send(b"hello")
                wire = await upstream.accept()
                assert b"expect" not in (await wire.head()).lower()
                assert await wire.exactly(5) == b"hello"
                wire.send(OK)
                assert (await client.answer()).status == 200

        run(main())

    def test_that_only_begin_are_not_replaced(self) -> None:
        """It would leave the rest of the client's body to be taken for something else."""

        class Hasty(Plugin):
            name = "hasty"
            priority = 1

            def access(self, ctx: Context) -> None:
                ctx.replace_body(b"x")

        async def main() -> None:
            async with gateway(Hasty) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 9\r\n") + b"GET /")
                assert (await client.answer()).status == 500
                assert upstream.connections == 0

        run(main())

    @pytest.mark.parametrize("change", ["set", "remove", "chunked"])
    def test_are_framed_by_us_whatever_plugins_do_to_the_headers(self, change: str) -> None:
        class Tampers(Plugin):
            name = "tampers"
            priority = 1

            def access(self, ctx: Context) -> None:
                if change == "set":
                    ctx.request.set_header("content-length", "3")
                else:
                    ctx.request.remove_header("content-length")
                if change == "chunked":
                    ctx.request.set_header("transfer-encoding", "chunked")

        async def main() -> None:
            async with gateway(Tampers) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 8\r\n"))
                wire = await upstream.accept()
                client.send(b"12345678")
                head = (await wire.head()).lower()
                assert b"content-length: 8\r\n" in head
                assert b"transfer-encoding" not in head
                assert await wire.exactly(8) == b"12345678"
                wire.send(OK)
                assert (await client.answer()).status == 200

        run(main())

    def test_are_kept_for_a_log_without_waiting_for_them(self) -> None:
        kept: list[bytes] = []

        class Keeps(Plugin):
            name = "keeps"
            priority = 1

            def access(self, ctx: Context) -> None:
                ctx.keep_body(10)

            def log(self, ctx: Context) -> None:
                kept.append(ctx.kept_body)

        async def main() -> None:
            async with gateway(Keeps) as (running, upstream):
                first_half = get(method="POST", headers="Content-Length: 16\r\n") + b"01234567"
                client, wire = await asked(running, upstream, first_half)
                assert await wire.exactly(8) == b"01234567"  # it is on its way while the rest is not here
                client.send(b"89abcdef")
                assert await wire.exactly(8) == b"89abcdef"
                wire.send(OK)
                await client.answer()
                client.send(get())
                await wire.head()
                wire.send(OK)
                await client.answer()
                assert kept == [b"0123456789", b""]

        run(main())


class Waits(Plugin):
    """Awaits what never comes."""

    name = "waits"
    priority = 1
    entered: ClassVar[asyncio.Event]
    cancelled: ClassVar[asyncio.Event]

    async def access(self, ctx: Context) -> None:
        self.entered.set()
        try:
            if ctx.request.has_body:
                await ctx.read_body(1000)
            else:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class TestClientsThatLeave:
    @pytest.mark.parametrize("has_body", [False, True])
    def test_while_a_plugin_awaits(self, has_body: bool) -> None:
        async def main() -> None:
            Waits.entered, Waits.cancelled = asyncio.Event(), asyncio.Event()
            async with gateway(Waits, Logged) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 5\r\n") + b"12" if has_body else get())
                await asyncio.wait_for(Waits.entered.wait(), PATIENCE_S)
                client.reset()
                await asyncio.wait_for(Waits.cancelled.wait(), PATIENCE_S)
                await eventually(lambda: len(Logged.seen) == 1)
                assert Logged.seen[0][0] in ((499, 408) if has_body else (499,))
                assert upstream.connections == 0

        run(main())


class Vouches(Plugin):
    """Adds what the upstream is to trust."""

    name = "vouches"
    priority = 1

    async def access(self, ctx: Context) -> None:
        ctx.request.vouch_header(b"X-User-ID", [b"alice"] if ctx.request.path != "/nobody" else [])


class TestHeadersThatPluginsVouchFor:
    SPELLINGS = "X-User-ID: eve\r\nX_User_ID: eve\r\nx.user.id: eve\r\nX-USER_id: eve\r\nx-user-id: eve\r\n"

    @pytest.mark.parametrize(("path", "expected"), [("/", [b"x-user-id: alice"]), ("/nobody", [])])
    def test_are_theirs_alone(self, path: str, expected: list[bytes], each_edge: str) -> None:
        async def main() -> None:
            async with gateway(Vouches) as (running, upstream):
                client = await running.connect()
                client.send(get(path, headers=self.SPELLINGS))
                wire = await upstream.accept()
                lines = (await wire.head()).split(b"\r\n")
                assert [line for line in lines if b"user" in line.lower()] == expected

        run(main())

    @pytest.mark.parametrize(
        "connection", ["x-user-id", "close, X-User-ID", "keep-alive, x-user-id, host, content-length"]
    )
    def test_cannot_be_removed_by_naming_them_in_connection(self, connection: str) -> None:
        async def main() -> None:
            async with gateway(Vouches) as (running, upstream):
                client = await running.connect()
                client.send(post(b"12", f"Connection: {connection}\r\nX-User-ID: eve\r\n"))
                wire = await upstream.accept()
                head = await wire.head()
                assert [line for line in head.split(b"\r\n") if b"user" in line.lower()] == [b"x-user-id: alice"]
                assert b"\r\nhost: example.com\r\n" in head
                assert await wire.exactly(2) == b"12"

        run(main())


def test_two_users_of_one_upstream_connection_never_cross(each_edge: str) -> None:
    """Alternating, through a plugin that awaits and replaces bodies: each gets the answer to its own request."""

    async def echo(wire: Wire) -> None:
        while True:
            head = (await wire.head()).lower()
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
            body = await wire.exactly(length)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    class Signs(Plugin):
        name = "signs"
        priority = 1

        async def access(self, ctx: Context) -> None:
            body = await ctx.read_body(1000)
            ctx.replace_body(body + b" of " + (ctx.request.header("x-user") or "").encode())

    async def main() -> None:
        async with gateway(Signs, script=echo) as (running, upstream):
            clients = {name: await running.connect() for name in ("alice", "bob")}
            for number in range(300):
                for name, client in clients.items():
                    body = b"%d" % number
                    if number % 2:
                        client.send(post(body, f"X-User: {name}\r\n"))
                    else:
                        client.send(get(method="POST", headers=f"{CHUNKED}X-User: {name}\r\n") + chunks(body))
                    assert (await client.answer()).body == b"%d of %b" % (number, name.encode())
            assert upstream.connections == 1

    run(main())


@contextlib.contextmanager
def garbage_kept() -> Iterator[None]:
    """What only the collector finds goes to gc.garbage instead of being freed; it does not run by itself."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


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
