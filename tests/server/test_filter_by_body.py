"""`_meta.filter` about a request's body, on either edge: in whatever phases the plugin takes part."""

from __future__ import annotations

from typing import Any

import pytest

from gw.pipeline.body_variables import _Read
from gw.pipeline.reply import Reply, plugin_reply
from gw.plugins.api import Context, Plugin
from tests.support.chains import instance, walking
from tests.support.edge import Wire, edge, get, run, scripted_upstream

pytestmark = pytest.mark.usefixtures("each_edge")

JSON = "Content-Type: application/json\r\n"
FILTER = {"filter": [["post_arg.model", "==", "large"]]}
LARGE, SMALL = b'{"model": "large"}', b'{"model": "small"}'


async def echo(wire: Wire) -> None:
    """Answer with the body that came."""
    while True:
        head = await wire.head()
        _, _, length = head.lower().partition(b"content-length: ")
        body = await wire.exactly(int(length.split(b"\r\n")[0])) if length else b""
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def post(body: bytes) -> bytes:
    return get("/", method="POST", headers=f"Content-Length: {len(body)}\r\n{JSON}") + body


# Nested deeper than anybody reads.
DEEP = post(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


def marking(*phases: str, awaits: bool = False) -> type[Plugin]:
    """A plugin that shows in the head of the response in which phases it ran; a header filter is one of them."""

    def mark(ctx: Context, phase: str) -> None:
        ctx.state.setdefault("marks", []).append(phase)
        if phase == "header_filter":
            assert _Read not in ctx.state, "nothing of the body is kept while the response goes on"
            ctx.response.set_header("x-marks", " ".join(ctx.state["marks"]))

    methods: dict[str, Any] = {}
    for phase in phases:
        if awaits:

            async def later(self: Plugin, ctx: Context, phase: str = phase) -> None:
                mark(ctx, phase)

            methods[phase] = later
        else:
            methods[phase] = lambda self, ctx, phase=phase: mark(ctx, phase)
    return type("marking", (Plugin,), {"name": "marking", "priority": 1, **methods})


@pytest.mark.parametrize("awaits", [False, True])
@pytest.mark.parametrize(
    ("phases", "unconditional"),
    [
        (("rewrite", "header_filter"), ""),
        (("access", "header_filter"), ""),
        (("before_proxy", "header_filter"), ""),
        (("header_filter",), ""),
        (("rewrite", "header_filter"), "rewrite"),
    ],
)
def test_it_waits_for_the_body_which_still_reaches_the_upstream(
    phases: tuple[str, ...], unconditional: str, awaits: bool
) -> None:
    async def main() -> None:
        async with scripted_upstream(echo) as upstream:
            cls = marking(*phases, awaits=awaits)
            cls.unconditional_phases = frozenset((unconditional,))
            plugin = instance(cls, meta=FILTER)
            async with edge({"/": walking(upstream.port, plugin)}) as running:
                client = await running.connect()
                for body, marks in ((LARGE, " ".join(phases)), (SMALL, None), (b"", None), (LARGE, " ".join(phases))):
                    client.send(post(body))
                    answer = await client.answer()
                    assert (answer.status, answer.body, answer.header("x-marks")) == (200, body, marks)

    run(main())


class Early(Plugin):
    """Answers before anybody's filter about the body is asked."""

    name = "early"
    priority = 9

    def rewrite(self, ctx: Context) -> Reply:
        return plugin_reply(403, "no")


def test_what_gets_no_answer_of_a_filter() -> None:
    async def main() -> None:
        async with scripted_upstream(echo) as upstream:
            plugin = instance(marking("header_filter"), meta=FILTER)
            routes = {"/early": walking(upstream.port, Early, plugin), "/": walking(upstream.port, plugin)}
            async with edge(routes, max_body_to_match_bytes=30) as running:
                answer = await running.ask(post(LARGE).replace(b"POST / ", b"POST /early "))
                assert (answer.status, answer.header("x-marks")) == (403, None)
                assert (await running.ask(post(LARGE + b" " * 30))).status == 413
            async with edge(routes) as running:
                assert (await running.ask(DEEP)).status == 400
            graph = instance(marking("access"), meta={"filter": [["graphql_operation", "==", "query"]]})
            async with edge({"/": walking(upstream.port, graph)}) as running:
                assert (await running.ask(DEEP)).status == 400

    run(main())
