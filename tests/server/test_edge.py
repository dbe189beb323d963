"""Requests through either edge: what reaches the upstream, and which upstream it is."""

import socket
from typing import Any

import pytest

from gw.model.merge import NO_UPSTREAM, Missing
from gw.pipeline.path_view import compile_path_view
from tests.support.edge import (
    OK,
    Wire,
    asked,
    compiled,
    edge,
    eventually,
    fields_of,
    get,
    proxy,
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


def test_what_counts_of_a_path_is_not_what_leaves() -> None:
    view = compile_path_view(without_final_slash=True, like_servlet=True)
    targets: list[bytes] = []

    async def serve(wire: Wire) -> None:
        while True:
            targets.append((await wire.head()).split(b" ")[1])
            wire.send(OK)

    async def main() -> None:
        async with scripted_upstream(serve) as upstream:
            routes = {"/a/b": compiled("1", upstream_dict(upstream.port))}
            async with edge(routes, path_view=view) as running:
                client = await running.connect()
                for target in ("/a;x=1/b/?q", "/a/b/", "/a/b;y"):  # the last two repeat the fields of the first
                    client.send(get(target))
                    assert (await client.answer()).status == 200
                client.send(get("/a/;x/b"))
                assert (await client.answer()).status == 400
                assert [path for path, _, _ in running.routes.asked] == ["/a/b"] * 3
            assert targets == [b"/a;x=1/b/?q", b"/a/b/", b"/a/b;y"]

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
            if status == 405:
                assert answer.header("connection") == "close"
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
            upload = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nonly this"
            client, wire = await asked(running, upstream, upload)
            wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            answer = await client.answer()
            assert (answer.status, answer.body) == (413, b"big")
            assert await wire.rest() == b"only this"
            assert await client.rest() == b"", "the connection of a request that was not read to its end is closed"

    run(main())


def test_both_directions_at_the_same_time() -> None:
    async def main() -> None:
        async with proxy() as (running, upstream):
            upload = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
            client, wire = await asked(running, upstream, upload)
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
        (upstream_dict(1, type="of another gateway"), 502),
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
                assert (await running.ask(get())).status == 503

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
