"""Requests through either edge: what reaches the upstream, how it is chosen, and what happens when it fails."""

import asyncio
import gc
import socket
from typing import Any

import pytest

from gw.model.merge import NO_UPSTREAM, Missing
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
    replying,
    run,
    scripted_upstream,
    upstream_dict,
)

pytestmark = pytest.mark.usefixtures("each_edge")

EMPTY_POOL = "<IdlePool empty>"


# What reaches the upstream.


def test_a_request_as_the_upstream_gets_it() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            client.send(
                b"GET //a/./b%2fc/../%7ed?x=%2e&y HTTP/1.1\r\nHost: Example.com:1234\r\n"
                b"User-Agent: t\r\nX-Secret: 1\r\nConnection: keep-alive, X-Secret, X-Real-IP\r\n"
                b"Keep-Alive: 1\r\nTE: trailers\r\nUpgrade: h2c\r\nForwarded: for=6.6.6.6\r\n"
                b"X-Forwarded-For: 6.6.6.6\r\n"
                b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 6.6.6.6\r\n\r\n"
            )
            wire = await upstream.accept()
            head = await wire.head()
            assert head.startswith(b"GET /a/~d?x=%2e&y HTTP/1.1\r\n")
            assert sorted(fields_of(head)) == [
                ("host", "Example.com:1234"),
                ("user-agent", "t"),
                ("x-forwarded-for", "6.6.6.6, 127.0.0.1"),
                ("x-forwarded-host", "Example.com:1234"),
                ("x-forwarded-port", "1234"),
                ("x-forwarded-proto", "http"),
                ("x-real-ip", "127.0.0.1"),
            ]
            assert running.routes.asked == [("/a/~d", "example.com", "GET")]
            wire.send(OK)
            assert (await client.answer()).body == b"ok"

    run(main())


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, "example.com"),
        ({"pass_host": "node"}, "127.0.0.1:{port}"),
        ({"pass_host": "rewrite", "upstream_host": "other.example"}, "other.example"),
    ],
)
def test_pass_host(fields: dict[str, Any], host: str) -> None:
    async def main() -> None:
        async with proxy(**fields) as (running, upstream):
            client = await running.connect()
            client.send(get())
            wire = await upstream.accept()
            assert ("host", host.format(port=upstream.port)) in fields_of(await wire.head())

    run(main())


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (get("/a%00b"), 400),
        (get("/a%0d%0aX:y"), 400),
        (get("/a#b"), 400),
        (get("/a?b#c"), 400),
        (get("/../etc"), 400),
        (get("/open/..%2fadmin"), 400),
        (get("/open/..;/admin"), 400),
        (get("http://other.example/"), 400),
        (get("ftp://example.com/"), 400),
        (get("*", method="OPTIONS"), 400),
        (b"CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n", 400),
        (b"CONNECT / HTTP/1.1\r\nHost: example.com:80\r\n\r\n", 405),
        (get("/a", method="TRACE"), 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/../admin?x=\r\n\r\n", 400),
        (get("/nowhere"), 404),
    ],
)
def test_refused_before_any_upstream(raw: bytes, status: int) -> None:
    async def main() -> None:
        async with (
            scripted_upstream(replying(OK)) as upstream,
            edge(
                {path: compiled("1", upstream_dict(upstream.port)) for path in ("/open", "/a", "/etc", "/admin")}
            ) as running,
        ):
            answer = await running.ask(raw)
            assert answer.status == status
            assert answer.header("content-type") == "application/json"
            if status == 404:
                assert answer.body == b'{"error_msg":"404 Route Not Found"}\n'
            assert upstream.connections == 0

    run(main())


def test_absolute_form_and_http_1_0() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            client.send(get("http://EXAMPLE.com/a"))
            wire = await upstream.accept()
            assert (await wire.head()).startswith(b"GET /a HTTP/1.1\r\nhost: EXAMPLE.com\r\n")
            wire.send(OK)
            await client.answer()
            client = await running.connect()
            client.send(b"GET /b HTTP/1.0\r\n\r\n")
            head = await wire.head()
            assert head.startswith(f"GET /b HTTP/1.1\r\nhost: 127.0.0.1:{upstream.port}\r\n".encode())
            wire.send(OK)
            assert (await client.rest()).endswith(b"\r\n\r\nok")

    run(main())


def test_upgrades_that_are_not_taken(each_edge: str) -> None:
    """A WebSocket handshake without enable_websocket is an ordinary request, as in nginx; ASGI cannot say so."""

    async def main() -> None:
        async with proxy(replying(OK)) as (running, upstream):
            handshake = (
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            )
            assert (await running.ask(get(headers=handshake))).status == (403 if each_edge == "asgi" else 200)
            assert upstream.connections == (0 if each_edge == "asgi" else 1)
            h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
            assert (await running.ask(get(headers=h2c))).body == b"ok"

    run(main())


# Bodies of requests.


async def _read_chunked(wire: Wire) -> bytes:
    return (await wire.chunked())[0]


def test_bodies_are_framed_again() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client = await running.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
            wire = await upstream.accept()
            assert ("content-length", "5") in fields_of(await wire.head())
            assert await wire.exactly(2) == b"he"
            client.send(b"llo")
            assert await wire.exactly(3) == b"llo"
            wire.send(OK)
            assert (await client.answer()).body == b"ok"
            client.send(
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
            )
            head = await wire.head()
            assert ("transfer-encoding", "chunked") in fields_of(head)
            assert await _read_chunked(wire) == b"abcde"
            wire.send(OK)
            assert (await client.answer()).body == b"ok"
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert ("content-length", "0") in fields_of(await wire.head())
            wire.send(OK)
            assert (await client.answer()).body == b"ok"
            assert upstream.connections == 1

    run(main())


def test_expect_is_answered_here_and_only_for_a_route() -> None:
    expecting = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"

    async def main() -> None:
        async with (
            scripted_upstream() as upstream,
            edge({"/a": compiled("1", upstream_dict(upstream.port))}) as running,
        ):
            client = await running.connect()
            client.send(expecting % b"/a")
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            wire = await upstream.accept()
            client.send(b"hi")
            assert "expect" not in dict(fields_of(await wire.head()))
            assert await wire.exactly(2) == b"hi"
            wire.send(OK)
            assert (await client.answer()).body == b"ok"
            refused = await running.connect()
            refused.send(expecting % b"/nowhere")
            assert (await refused.answer()).status == 404

    run(main())


def test_an_answer_before_the_body_is_complete_ends_the_upload() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly this")
            wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            answer = await client.answer()
            assert (answer.status, answer.body) == (413, b"big")
            assert await wire.rest() == b"only this"
            assert await client.rest() == b"", "the connection of a request that was not read to its end is closed"

    run(main())


def test_both_directions_at_the_same_time() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            client, wire = await asked(running, upstream, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            assert await wire.exactly(6) == b"1\r\na\r\n"
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")
            await client.head()
            assert await client.exactly(6) == b"1\r\nA\r\n"
            client.send(b"1\r\nb\r\n0\r\n\r\n")
            assert await wire.exactly(11) == b"1\r\nb\r\n0\r\n\r\n"
            wire.send(b"1\r\nB\r\n0\r\n\r\n")
            assert await client.exactly(11) == b"1\r\nB\r\n0\r\n\r\n"
            await eventually(lambda: EMPTY_POOL not in repr(running.upstreams))

    run(main())


# Which upstream, and when there is none.


@pytest.mark.parametrize(
    ("upstream", "status"),
    [
        (NO_UPSTREAM, 503),
        (Missing(502, "failed to find upstream by id: 1"), 502),
        (Missing(404, "failed to fetch service configuration by id: 1"), 404),
        (upstream_dict(1, nodes=[]), 503),
        (upstream_dict(1, nodes=[{"host": "127.0.0.1", "port": 1, "weight": 0}]), 503),
        (upstream_dict(1, scheme="grpc"), 502),
    ],
)
def test_no_upstream_to_send_to(upstream: Any, status: int) -> None:
    async def main() -> None:
        async with edge({"/": compiled("1", upstream)}) as running:
            answer = await running.ask(get())
            assert answer.status == status
            assert answer.header("x-apisix-upstream-status") is None

    run(main())


@pytest.mark.parametrize("upstream", [NO_UPSTREAM, upstream_dict(1, scheme="grpc")])
def test_the_log_names_the_route_that_cannot_be_served(upstream: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", "gw.pipeline.exchange")  # no louder, or clients could fill the log

    async def main() -> None:
        async with edge({"/": compiled("broken", upstream)}) as running:
            await running.ask(get())
        assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["route broken"]

    run(main())


def test_nodes_take_turns_by_weight() -> None:
    async def main() -> None:
        first, second = (replying(OK.replace(b"ok", name)) for name in (b"01", b"02"))
        async with scripted_upstream(first) as one, scripted_upstream(second) as two:
            weights = ((one.port, 3), (two.port, 1), (1, 0))
            nodes = [{"host": "127.0.0.1", "port": port, "weight": weight} for port, weight in weights]
            async with edge({"/": compiled("1", upstream_dict(1, nodes=nodes))}) as running:
                answers = [(await running.ask(get())).body for _ in range(40)]
                assert (answers.count(b"01"), answers.count(b"02")) == (30, 10)
                assert (one.connections, two.connections) == (1, 1)

    run(main())


def test_a_name_is_resolved() -> None:
    async def main() -> None:
        async with scripted_upstream(replying(OK)) as upstream:
            nodes = [{"host": "localhost", "port": upstream.port, "weight": 1}]
            async with edge({"/": compiled("1", upstream_dict(1, nodes=nodes))}) as running:
                assert (await running.ask(get())).body == b"ok"
            nodes = [{"host": "no-such-host.invalid", "port": upstream.port, "weight": 1}]
            async with edge({"/": compiled("1", upstream_dict(1, nodes=nodes))}) as running:
                assert (await running.ask(get())).status == 502

    run(main())


def test_an_ipv6_node() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this host")

    async def main() -> None:
        async with scripted_upstream(replying(OK), host="::1") as upstream:
            nodes = [{"host": "[::1]", "port": upstream.port, "weight": 1}]
            async with edge({"/": compiled("1", upstream_dict(1, nodes=nodes))}) as running:
                assert (await running.ask(get())).body == b"ok"

    run(main())


def test_a_broken_configuration_is_500_for_its_requests_alone(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        params = None

        def resolve(self) -> Any:
            raise RuntimeError("broken")

    async def main() -> None:
        async with proxy(replying(OK)) as (running, _):
            find = running.routes.find
            running.routes.find = lambda *asked: Broken() if asked[0] == "/broken" else find(*asked)  # type: ignore
            answer = await running.ask(get("/broken"))
            assert (answer.status, answer.body) == (500, b'{"error_msg":"500 Internal Server Error"}\n')
            assert (await running.ask(get("/"))).body == b"ok"

    run(main())
    assert "broken" in caplog.text


# Failures.


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
                assert (answer.status, answer.body) == (504, b'{"error_msg":"504 Gateway Timeout"}\n')

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


# Pool.


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
            client, wire = await asked(running, upstream, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
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
