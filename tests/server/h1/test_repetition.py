"""Fields that a client repeats, heads that an upstream repeats: read once, and yet as if each came alone."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gw.model.route import Route
from gw.pipeline.caller import Caller, attach
from gw.pipeline.context import Context
from gw.pipeline.phases import Instance, Phases, Step, settle
from gw.pipeline.route_condition import compile_route_condition
from gw.pipeline.variable_table import NAMED
from gw.plugins.proxy_rewrite import ProxyRewrite
from gw.server.h1 import repetition
from gw.server.h1.repetition import MAX_TAIL_BYTES
from tests.support.edge import (
    PATIENCE_S,
    Answer,
    Edge,
    StaticRoutes,
    Wire,
    _Handle,
    compiled,
    edge,
    eventually,
    proxy,
    run,
    scripted_upstream,
    upstream_dict,
)
from tests.support.plugin_edge import instance, plugin_edge

pytestmark = pytest.mark.usefixtures("each_edge")

DATE = b"Date: Sat, 21 Nov 2026 13:00:00 GMT\r\n"
FIELDS = [
    b"Host: a\r\n",
    b"Host: a:80\r\nUser-Agent: x\r\nAccept: */*\r\n",
    b"Host: b\r\nConnection: keep-alive\r\nCookie: a=b\r\n",
    b"Host: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\n",
    b"Host: a\r\nConnection: X-Mine\r\nX-Mine: 1\r\n",
    b"Host: a\r\nX-Forwarded-For: 192.0.2.7\r\nX-Real-IP: 192.0.2.8\r\n",
    b"Host: a\r\nX-Real_IP: 192.0.2.8\r\n",
    b"Host: a\r\nContent-Length: 0\r\n",
    b"Host: a\r\nContent-Length: 2\r\n",
    b"Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    b"Host: a\r\nHost: b\r\n",
    b"User-Agent: x\r\n",
    b"Connection: keep-alive\r\n",
    b"Host: a\r\nX-Long: " + b"l" * MAX_TAIL_BYTES + b"\r\n",
]
TARGETS = [
    *(b"/", b"/a?b=c", b"/%41/../b", b"/a#b", b"/../a", b"/%zz", b"/a b", b"//a/./b", b"http://a/x", b"*"),
    *(b"/\xff", b"/?#", b"http://A/node/x"),
    *(b"/node/x", b"/rewritten/x?n=1", b"/headed", b"/consumed", b"/filtered", b"/logged", b"/asked"),
]
METHODS = [b"GET", b"HEAD", b"POST", b"DELETE", b"PURGE", b"CONNECT", b"TRACE"]
VERSIONS = [b"HTTP/1.1", b"HTTP/1.0"]
# Most alike, so that they repeat, some of them with a body.
REQUESTS = st.tuples(
    st.sampled_from([METHODS[0]] * 4 + METHODS),
    st.sampled_from(TARGETS[:2] * 4 + TARGETS),
    st.sampled_from(VERSIONS[:1] * 4 + VERSIONS),
    st.sampled_from(FIELDS[:2] * 4 + FIELDS[8:9] * 4 + FIELDS),
)
# What the upstream says to each in turn; so few that they repeat.
HEADS = [
    b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 3\r\n\r\nxyz",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Gone\r\n" + DATE + b"Content-Length: 3\r\nSet-Cookie: a\r\n\r\nabc",
    b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 204 No Content\r\n" + DATE + b"\r\n",
    b"HTTP/1.1 304 Not Modified\r\n" + DATE + b"Content-Length: 3\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + DATE + b"Content-Length: 3\r\n\r\nabc",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + DATE + b"Content-Length: 3\r\n\r\nabc",
]
RESPONSES = st.sampled_from(HEADS[:2] * 4 + HEADS)


def spoils_as_filter(ctx: Context) -> None:
    """What a plugin may do to what it is shown."""
    ctx.request.headers.clear()
    ctx.response.headers.append((b"x-filtered", b"1"))


def spoils_as_logger(ctx: Context) -> None:
    ctx.request.headers.clear()
    ctx.response_headers.clear()


def consumed(ctx: Context) -> None:
    attach(ctx, Caller("jack", None, group_id="g", custom_id="7"))


def step(method: Any) -> tuple[Step, ...]:
    return (Step(method, "test", "route", False),)


class AskingRoutes(StaticRoutes):
    """Everything that a request may meet, by prefix; on /asked the request's cookie decides."""

    def __init__(self, port: int) -> None:
        one, node = upstream_dict(port), upstream_dict(port, pass_host="node")
        edits = {"headers": {"add": {"X-Added": "$arg_n"}, "remove": ["User-Agent"]}, "uri": "/to$uri", "host": "b"}
        rewritten, headed = instance(ProxyRewrite, edits), instance(ProxyRewrite, {"method": "HEAD"})
        super().__init__(
            {
                "/": compiled("plain", one, enable_websocket=True),
                "/node": compiled("node", node),
                "/rewritten": compiled("rewritten", one, settle((), (rewritten,))),
                "/headed": compiled("headed", one, settle((), (headed,))),
                "/consumed": compiled("consumed", one, Phases(request=step(consumed))),
                "/filtered": compiled("filtered", one, Phases(header_filter=step(spoils_as_filter))),
                "/logged": compiled("logged", one, Phases(log=step(spoils_as_logger))),
            }
        )
        self._where_asked = compiled("asked", node)
        vars = [["http_cookie", "==", "a=b"], ["arg_b", "==", None]]
        asking = Route.from_dict("asked", {"uri": "/*", "priority": 0, "status": 1, "vars": vars})
        self._condition = compile_route_condition(asking, allow_code=False)

    def find(self, path: str, host: str, method: str, ctx: Any) -> Any:
        if path == "/asked" and self._condition(ctx):
            return _Handle(self._where_asked)
        return super().find(path, host, method, ctx)


# What is another one with each connection, or at each moment.
_OF_THE_MOMENT = frozenset(
    (
        *("remote_port", "realip_remote_port", "connection", "connection_requests", "request_id"),
        *("apisix_request_id", "apisix_upstream_response_time"),
        *("upstream_connect_time", "upstream_header_time", "upstream_response_time"),
    )
)
_OF_THE_REQUEST = frozenset(("link", "remote_port", "connection_requests", "repeated"))


def facts(ctx: Context) -> dict[str, Any]:
    """All that plugins and logs may see of a finished request, wherever and whenever it came."""
    return {
        "request": {name: value for name, value in vars(ctx.request).items() if name not in _OF_THE_REQUEST},
        "variables": {name: get(ctx) for name, get in NAMED.items() if name not in _OF_THE_MOMENT},
        "attempts": [
            (each.address, each.status, each.connected_s > 0, each.started_s <= each.head_s <= each.ended_s)
            for each in ctx.attempts
        ],
        "response": (ctx.status, ctx.response_headers, ctx.params),
        "times": ctx.started_s <= ctx.ended_s,
    }


class Upstream:
    """Answers the requests of all its connections as it is told, and keeps their heads."""

    def __init__(self) -> None:
        self.says = HEADS[0]
        self.asked: list[bytes] = []

    async def __call__(self, wire: Wire) -> None:
        while True:
            head = await wire.head()
            if b"\r\ncontent-length: 2\r\n" in head:
                head += await wire.exactly(2)
            self.asked.append(head)
            said = self.says
            if head.startswith(b"HEAD "):
                said = said[: said.rindex(b"\r\n\r\n") + 4]
            wire.send(said)


def without_own_date(answer: Answer) -> Answer:
    """The gateway's own Date moves."""
    date = DATE.decode().removeprefix("Date: ").strip()
    answer.headers = [each for each in answer.headers if each[0] != "date" or each[1] == date]
    return answer


async def ask(wire: Wire, request: tuple[bytes, bytes, bytes, bytes]) -> Answer:
    method, target, version, fields = request
    body = b"hi" if b"Content-Length: 2" in fields else b""
    wire.send(b"%b %b %b\r\n%b\r\n%b" % (method, target, version, fields, body))
    return without_own_date(await wire.answer(to_head=method == b"HEAD"))


async def both_ways(running: Edge, upstream: Upstream, requests: list[Any], answers: list[bytes]) -> None:
    """Each request on a connection of its own, then all on as few as they let stand: the same is asked and answered."""
    alone = []
    for request, said in zip(requests, answers, strict=True):
        upstream.says = said
        wire = await running.connect()
        alone.append(await ask(wire, request))
        wire.close()
    asked_alone, upstream.asked = upstream.asked, []
    wire = await running.connect()
    for request, said, expected in zip(requests, answers, alone, strict=True):
        upstream.says = said
        answer = await ask(wire, request)
        assert answer == expected, request
        is_over = answer.header("connection") == "close" or (
            request[2] == b"HTTP/1.0" and answer.header("connection") != "keep-alive"
        )
        if is_over:
            wire.close()
            wire = await running.connect()
    assert upstream.asked == asked_alone
    wire.close()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(REQUESTS, RESPONSES), min_size=3, max_size=12))
@example([((b"GET", target, b"HTTP/1.1", FIELDS[0]), HEADS[0]) for target in [b"/"] * 3 + TARGETS for _ in (1, 2, 3)])
@example([((b"GET", b"/", b"HTTP/1.1", FIELDS[0]), said) for head in HEADS for said in [head] * 3])
@example([((b"GET", b"/", b"HTTP/1.1", fields), HEADS[0]) for each in FIELDS for fields in [each] * 4])
@example([((method, b"/", b"HTTP/1.1", FIELDS[0]), HEADS[0]) for each in METHODS for method in [b"GET", b"GET", each]])
@example([((method, b"/", b"HTTP/1.1", FIELDS[9]), HEADS[0]) for method in [b"POST", b"POST", b"GET"]])
@example([((b"POST", target, b"HTTP/1.1", FIELDS[8]), HEADS[0]) for target in TARGETS for _ in (1, 2, 3)])
@example([((b"POST", b"/", b"HTTP/1.1", FIELDS[8]), said) for head in HEADS for said in [head] * 3])
@example(
    [
        ((b"GET", target, b"HTTP/1.0", b"Connection: keep-alive\r\n"), HEADS[0])
        for target in [b"/node/x", b"http://A/node/x", *[b"/node/x"] * 3]
    ]
)
def test_what_is_repeated_means_what_it_means_alone(
    caplog: pytest.LogCaptureFixture, steps: list[tuple[tuple[bytes, bytes, bytes, bytes], bytes]]
) -> None:
    caplog.set_level(logging.ERROR)

    async def main() -> None:
        upstream = Upstream()
        ended: list[Context] = []
        async with (
            scripted_upstream(upstream) as played,
            edge(AskingRoutes(played.port), ended=ended) as running,
        ):
            await both_ways(running, upstream, [request for request, _ in steps], [said for _, said in steps])
            half = len(ended) // 2
            for alone, together in zip(ended[:half], ended[half:], strict=True):
                assert facts(together) == facts(alone)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE_S))
    assert not caplog.records


@pytest.mark.parametrize(
    ("fields", "is_known"),
    [
        (FIELDS[0], True),
        (FIELDS[2], True),
        (b"Host: a\r\nConnection: X-Mine\r\nX-Mine: 1\r\n", True),
        (b"Host: a\r\nContent-Length: 0\r\n", True),
        (b"Host: a\r\nUpgrade: h2c\r\n", True),
        (b"Host: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n", False),
        (b"Host: a\r\nContent-Length: 2\r\n", True),
        (b"Host: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n", False),
        (FIELDS[-1], False),
    ],
)
def test_which_fields_are_known_when_they_come_again(each_edge: str, fields: bytes, is_known: bool) -> None:
    # A body comes to an ASGI application by itself: its head is not worth remembering there.
    is_known = is_known and (each_edge == "h1" or b"Length: 2" not in fields)

    async def main() -> None:
        async with proxy(Upstream()) as (running, _):
            wire = await running.connect()
            for _ in range(2):
                assert (await ask(wire, (b"POST", b"/", b"HTTP/1.1", fields))).status == 200
            (connection,) = running.connections._live
            assert (connection._repetition.known is not None) is is_known
            wire.close()

    run(main())


@pytest.mark.parametrize(
    ("parts", "asked"),
    [
        ([b"hi"], [b"hi"]),
        ([b"h", b"i"], [b"hi"]),
        ([b"", b"hi"], [b"hi"]),
        ([b"\r\n"], [b"\r\n"]),
        ([b"hiPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nho"], [b"hi", b"ho"]),
        ([b"hiPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", b"ho"], [b"hi", b"ho"]),
    ],
    ids=["whole", "in halves", "behind its head", "that looks like an end", "pipelined", "pipelined, in parts"],
)
def test_a_known_head_takes_the_body_that_comes_with_it(parts: list[bytes], asked: list[bytes]) -> None:
    async def main() -> None:
        upstream = Upstream()
        async with proxy(upstream) as (running, _):
            wire = await running.connect()
            for _ in range(4):
                assert (await ask(wire, (b"POST", b"/", b"HTTP/1.1", FIELDS[8]))).status == 200
            upstream.asked.clear()
            first, *others = parts
            wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n" + first)
            for part in others:
                await asyncio.sleep(0.02)  # it reaches the gateway in a read of its own
                wire.send(part)
            for _ in asked:
                assert (await wire.answer()).status == 200
            assert [each[-2:] for each in upstream.asked] == asked
            wire.close()

    run(main())


def test_of_fields_that_came_once_no_bytes_are_kept() -> None:
    async def main() -> None:
        async with proxy(Upstream()) as (running, _):
            wire = await running.connect()
            assert (await ask(wire, (b"GET", b"/", b"HTTP/1.1", FIELDS[0]))).status == 200
            (connection,) = running.connections._live
            assert not [each for each in gc.get_referents(connection._repetition) if isinstance(each, bytes)]
            wire.close()

    run(main())


def test_what_a_plugin_makes_of_one_request_is_not_in_the_next() -> None:
    async def main() -> None:
        upstream = Upstream()
        rewrite: Instance = instance(
            ProxyRewrite, {"headers": {"add": {"X-Added": "$arg_n"}, "remove": ["X-Gone"]}, "uri": "/to$uri"}
        )
        async with plugin_edge(settle((), (rewrite,)), upstream) as (running, _):
            wire = await running.connect()
            for number in range(5):
                fields = b"Host: a\r\nX-Gone: 1\r\nX-Kept: 2\r\n"
                answer = await ask(wire, (b"GET", b"/%d?n=%d" % (number, number), b"HTTP/1.1", fields))
                assert answer.status == 200
                head = upstream.asked[-1]
                assert head.startswith(b"GET /to/%d" % number)
                assert head.count(b"x-added: ") == 1
                assert b"x-added: %d\r\n" % number in head
                assert b"x-gone" not in head
                assert b"x-kept: 2\r\n" in head
            wire.close()

    run(main())


@pytest.mark.parametrize(
    "spoilt",
    [
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 31\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["pipelined", "without a host", "as a body"],
)
def test_the_known_end_of_a_read_is_no_head_by_itself(spoilt: bytes) -> None:
    """What ends like the head before may be two requests, or a request and its body."""

    async def main() -> None:
        upstream = Upstream()
        async with proxy(upstream) as (running, _):
            wire = await running.connect()
            for _ in range(4):
                assert (await ask(wire, (b"GET", b"/", b"HTTP/1.1", FIELDS[0]))).status == 200
            upstream.asked.clear()
            wire.send(spoilt)
            first = await wire.answer()
            if first.status == 200:
                assert (await wire.answer()).status == 200
                assert [head.split(b" ")[1] for head in upstream.asked] == [b"/a", b"/b"]
            else:
                assert first.status == 400
                assert await wire.rest() == b""
                assert upstream.asked == []
            wire.close()

    run(main())


def test_a_draining_connection_says_so_to_repeated_requests_too() -> None:
    async def main() -> None:
        async with proxy(Upstream()) as (running, _):
            wire = await running.connect()
            for _ in range(4):
                assert (await ask(wire, (b"GET", b"/", b"HTTP/1.1", FIELDS[0]))).header("connection") is None
            draining = asyncio.ensure_future(running.connections.drain(PATIENCE_S))
            await asyncio.sleep(0)
            assert (await ask(wire, (b"GET", b"/", b"HTTP/1.1", FIELDS[0]))).header("connection") == "close"
            assert await wire.rest() == b""
            await draining

    run(main())


def test_more_than_the_known_response_is_no_answer_to_the_next_request() -> None:
    async def main() -> None:
        upstream = Upstream()
        async with proxy(upstream) as (running, played):
            wire = await running.connect()
            request = (b"GET", b"/", b"HTTP/1.1", FIELDS[0])
            for _ in range(4):
                assert (await ask(wire, request)).body == b"abc"
            upstream.says = HEADS[0] + HEADS[1]
            assert (await ask(wire, request)).body == b"abc"
            upstream.says = HEADS[0]
            assert (await ask(wire, request)).body == b"abc"
            assert played.connections == 2
            wire.close()

    run(main())


def test_the_head_alone_that_answered_head_is_no_whole_answer_to_get() -> None:
    async def main() -> None:
        head_sent = asyncio.Event()
        release = asyncio.Event()

        async def upstream(wire: Wire) -> None:
            while True:
                is_head = (await wire.head()).startswith(b"HEAD ")
                head, _, body = HEADS[0].partition(b"\r\n\r\n")
                wire.send(head + b"\r\n\r\n")
                if not is_head:
                    head_sent.set()
                    await release.wait()
                    wire.send(body)

        async with proxy(upstream) as (running, played):
            wire = await running.connect()
            for _ in range(3):
                assert (await ask(wire, (b"HEAD", b"/", b"HTTP/1.1", FIELDS[0]))).header("content-length") == "3"
            asked = asyncio.ensure_future(ask(wire, (b"GET", b"/", b"HTTP/1.1", FIELDS[0])))
            await head_sent.wait()
            await asyncio.sleep(0.05)  # it reaches the gateway in a read of its own
            release.set()
            assert (await asked).body == b"abc"
            assert played.connections == 1
            wire.close()

    run(main())


def test_what_connections_keep_is_bounded_and_ends_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repetition, "MAX_HOLDERS", 2)

    async def main() -> None:
        async with proxy(Upstream()) as (running, _):
            wires = [await running.connect() for _ in range(4)]
            for _ in range(3):
                for wire in wires:
                    for _ in range(3):
                        assert (await ask(wire, (b"GET", b"/", b"HTTP/1.1", FIELDS[1]))).status == 200
                    assert 0 < len(repetition._holders) <= 2
            for wire in wires:
                wire.close()
            await eventually(lambda: not repetition._holders)

    run(main())
