"""Plugins' phases over both edges: their order, answers that they give, and failures."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from gw.model.merge import Missing
from gw.pipeline.reply import Reply, plugin_reply
from gw.plugins.api import Context, Plugin
from tests.support.chains import chain
from tests.support.edge import asked, compiled, edge, eventually, get, replying, run
from tests.support.plugin_gateway import ANSWER, Logged, Marks, gateway

pytestmark = pytest.mark.usefixtures("each_edge")


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
