"""What a running gateway does with requests, held against Apache APISIX 3.x.

The facts are those of APISIX's own tests (t/node/rr-balance.t, upstream*.t, not-exist-*.t, route-status.t, hosts.t,
merge-route.t, http_host.t) and of the nginx configuration that APISIX writes (apisix/cli/ngx_tpl.lua). Where we differ
on purpose, docs/compatibility.md says so. Which route is found in which mode: test_conformance_router.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.gateway import NO_ROUTE, Gateway, running_gateway
from tests.support.ports import free_ports
from tests.support.raw import RawUpstream, raw_upstream

ANSWERS = {
    "named": (
        b"HTTP/1.1 200 OK\r\nServer: upstream/1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nX-Own: yes\r\n"
        b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok"
    ),
    "created": b"HTTP/1.1 201 Created\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
    "empty": b"HTTP/1.1 204 No Content\r\nX-Own: yes\r\n\r\n",
    "unchanged": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
    "moved": b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    "teapot": b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 3\r\n\r\ntea",
    "reset": b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    "hinted": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "broken": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\n\r\noops",
    "busy": b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 4\r\n\r\nbusy",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    "endless": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end",
    "old": b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nold",
    "cookies": b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    "gone": b"",
    "garbage": b"nothing like HTTP\r\n\r\nConnection: close",
    "large": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000,
}


@dataclass
class World:
    gateway: Gateway
    upstream: RawUpstream
    refusing: int  # a port where nobody listens

    def apply(self, **resources: dict[str, Any] | None) -> None:
        """Put resources (`routes_1={...}`; None deletes) and wait until they are served."""
        self.gateway.apply(resources)

    def to(self, **fields: Any) -> dict[str, Any]:
        return {"type": "roundrobin", "nodes": {f"127.0.0.1:{self.upstream.port}": 1}, **fields}


def send(port: int, raw: bytes) -> bytes:
    """Everything that comes back on a connection of its own until it is closed, or quiet for a second."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(raw)
        received = b""
        with contextlib.suppress(TimeoutError):
            while piece := connection.recv(65536):
                received += piece
                connection.settimeout(1)
        return received


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One worker: APISIX's tests run with one, and turns are taken per worker."""
    directory = tmp_path_factory.mktemp("proxy")
    with raw_upstream(ANSWERS) as upstream, running_gateway(directory, workers=1) as gateway:
        made = World(gateway, upstream, free_ports(1)[0])
        short = {"connect": 1, "send": 1, "read": 0.3}
        made.apply(
            upstreams_shared=made.to(),
            upstreams_none={"type": "roundrobin", "nodes": {}},
            services_plain={"upstream_id": "shared"},
            services_bare={"hosts": ["service.example"]},
            routes_raw={"uri": "/raw/*", "upstream_id": "shared"},
            routes_get={"uri": "/get-only", "methods": ["GET"], "upstream_id": "shared"},
            routes_uris={"uris": ["/one", "/two"], "upstream_id": "shared"},
            routes_off={"uri": "/off", "status": 0, "upstream_id": "shared"},
            routes_byservice={"uri": "/by-service", "service_id": "plain"},
            routes_servicehost={"uri": "/service-host", "service_id": "bare", "upstream_id": "shared"},
            routes_colon={"uri": "/file:listAll", "upstream_id": "shared"},
            routes_none={"uri": "/none", "upstream_id": "none"},
            routes_nonelist={"uri": "/none-list", "upstream": {"type": "roundrobin", "nodes": []}},
            routes_zero={"uri": "/zero", "upstream": made.to(nodes={f"127.0.0.1:{upstream.port}": 0})},
            routes_noupstream={"uri": "/no-upstream", "plugins": {}},
            routes_noupstreamservice={"uri": "/no-upstream-service", "service_id": "bare"},
            routes_refused={"uri": "/refused", "upstream": made.to(nodes={f"127.0.0.1:{made.refusing}": 1})},
            routes_slow={"uri": "/slow/silent", "upstream": made.to(timeout=short)},
            routes_slowroute={"uri": "/slow-route/silent", "upstream_id": "shared", "timeout": short},
            routes_pass={"uri": "/host/pass", "upstream": made.to(pass_host="pass")},
            routes_node={"uri": "/host/node", "upstream": made.to(pass_host="node")},
            routes_rewrite={
                "uri": "/host/rewrite",
                "upstream": made.to(pass_host="rewrite", upstream_host="a.example"),
            },
            routes_rewriteport={
                "uri": "/host/rewrite-port",
                "upstream": made.to(pass_host="rewrite", upstream_host="a.example:81"),
            },
        )
        yield made


# Which route.


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/nowhere", "x.example", 404),
        ("GET", "/get-only", "x.example", 200),
        ("GET", "/get-only?a=/nowhere", "x.example", 200),
        ("POST", "/get-only", "x.example", 404),
        ("HEAD", "/get-only", "x.example", 404),
        ("GET", "/get-only/", "x.example", 404),
        ("GET", "/one", "x.example", 200),
        ("PURGE", "/two", "x.example", 200),
        ("GET", "/three", "x.example", 404),
        ("GET", "/off", "x.example", 404),
        ("GET", "/by-service", "x.example", 200),
        ("GET", "/service-host", "x.example", 404),
        ("GET", "/service-host", "Service.Example:8080", 200),
        ("GET", "/file:listAll", "x.example", 200),
        ("GET", "/file:x", "x.example", 404),
        ("GET", "/raw/", "x.example", 200),
        ("GET", "/raw", "x.example", 404),
        ("GET", "//raw//a", "x.example", 200),
        ("GET", "/ra%77/a", "x.example", 200),
    ],
)
def test_which_route(world: World, method: str, path: str, host: str, status: int) -> None:
    reply = world.gateway.call(path, method, headers={"Host": host})
    assert reply.status == status
    if status == 404 and method != "HEAD":
        assert reply.body == NO_ROUTE


def test_a_route_is_switched_off_and_on(world: World) -> None:
    world.apply(routes_switched={"uri": "/switched", "upstream_id": "shared"})
    for status, answered in ((0, 404), (1, 200)):
        reply = world.gateway.admin("PATCH", "/routes/switched", {"status": status})
        assert reply.json()["value"]["status"] == status
        world.gateway.wait_served("/switched", answered)


# What stands in for an upstream's answer.


@pytest.mark.parametrize(
    ("path", "status", "upstream_status"),
    [
        ("/none", 503, None),
        ("/none-list", 503, None),
        ("/zero", 503, None),
        ("/no-upstream", 503, None),
        ("/refused", 502, "502"),
        ("/raw/gone", 502, "502"),
        ("/raw/garbage", 502, "502"),
        ("/slow/silent", 504, "504"),
        ("/slow-route/silent", 504, "504"),
    ],
)
def test_errors(world: World, path: str, status: int, upstream_status: str | None) -> None:
    reply = world.gateway.call(path)
    assert reply.status == status
    assert "error_msg" in reply.json()
    assert reply.headers.get("x-apisix-upstream-status") == upstream_status
    assert reply.headers["server"].startswith("Jitterway/")


def test_a_service_without_an_upstream(world: World) -> None:
    assert world.gateway.call("/no-upstream-service", headers={"Host": "service.example"}).status == 503


def test_what_a_route_names_is_gone(world: World) -> None:
    world.apply(
        upstreams_lost=world.to(),
        services_lost={"upstream_id": "shared"},
        routes_lostupstream={"uri": "/lost-upstream", "upstream_id": "lost"},
        routes_lostservice={"uri": "/lost-service", "service_id": "lost"},
    )
    assert world.gateway.call("/lost-upstream").status == world.gateway.call("/lost-service").status == 200
    world.apply(upstreams_lost=None, services_lost=None)
    assert world.gateway.call("/lost-upstream").status == 502
    assert world.gateway.call("/lost-service").status == 404


# What reaches the upstream.


@pytest.mark.parametrize(
    ("path", "sent", "reaches"),
    [
        ("/host/pass", "Client.Example:8080", "Client.Example:8080"),
        ("/raw/a", "client.example", "client.example"),
        ("/host/node", "client.example", "127.0.0.1:{port}"),
        ("/host/rewrite", "client.example", "a.example"),
        ("/host/rewrite-port", "client.example", "a.example:81"),
    ],
)
def test_hosts(world: World, path: str, sent: str, reaches: str) -> None:
    assert world.gateway.call(path, headers={"Host": sent}).status == 200
    assert world.upstream.last().fields["host"] == reaches.format(port=world.upstream.port)


def test_forwarding_headers(world: World) -> None:
    world.gateway.call("/raw/a", headers={"Host": "Client.Example:8080", "X-Forwarded-For": "1.2.3.4, 5.6.7.8"})
    fields = world.upstream.last().fields
    assert {name: value for name, value in fields.items() if name.startswith("x-")} == {
        "x-real-ip": "127.0.0.1",
        "x-forwarded-for": "1.2.3.4, 5.6.7.8, 127.0.0.1",
        "x-forwarded-proto": "http",
        "x-forwarded-host": "Client.Example:8080",
        "x-forwarded-port": "8080",
    }
    # By default loopback may say who the client is (real_ip_from), and nothing else.
    world.gateway.call(
        "/raw/a", headers={"X-Real-IP": "192.0.2.7", "X-Forwarded-Port": "1", "X-Forwarded-Proto": "https"}
    )
    fields = world.upstream.last().fields
    assert (fields["x-real-ip"], fields["x-forwarded-for"]) == ("192.0.2.7", "192.0.2.7")
    assert (fields["x-forwarded-proto"], fields["x-forwarded-port"]) == ("http", str(world.gateway.port))


def test_requests_as_they_came(world: World) -> None:
    headers = {
        "Accept-Encoding": "gzip",
        "Authorization": "Basic x",
        "Cookie": "a=1",
        "X-A_b": "c",
        "Range": "bytes=0-1",
    }
    world.gateway.call("/raw/a%20b/c?x=%2F&y=1+2&x=3", "DELETE", headers=headers)
    seen = world.upstream.last()
    assert seen.line == "DELETE /raw/a%20b/c?x=%2F&y=1+2&x=3 HTTP/1.1"
    assert seen.fields.items() >= {name.lower(): value for name, value in headers.items()}.items()
    assert "content-length" not in seen.fields
    assert "transfer-encoding" not in seen.fields


def test_hop_by_hop_headers_stay_here(world: World) -> None:
    headers = {
        "Connection": "Upgrade, HTTP2-Settings, X-Once",
        "Upgrade": "h2c",
        "HTTP2-Settings": "AAMAAABkAAQAAP__",
        "X-Once": "1",
        "Keep-Alive": "timeout=5",
        "TE": "trailers",
        "Proxy-Authorization": "Basic x",
    }
    assert world.gateway.call("/raw/a", headers=headers).status == 200
    fields = world.upstream.last().fields
    assert fields.keys().isdisjoint({"upgrade", "http2-settings", "x-once", "keep-alive", "te", "proxy-authorization"})
    assert "upgrade" not in fields.get("connection", "").lower()


BODY_HEAD = b"POST /raw/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"


def test_bodies(world: World) -> None:
    for body in (b"", b"small", b"y" * 2_000_000):
        assert world.gateway.call("/raw/a", "POST", body).status == 200
        assert world.upstream.last().body == body
        assert world.upstream.last().fields["content-length"] == str(len(body))

    chunked = BODY_HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    assert send(world.gateway.port, chunked).startswith(b"HTTP/1.1 200 ")
    seen = world.upstream.last()
    assert seen.line.endswith(" HTTP/1.1")
    assert re.sub(rb"\r\n", b" ", seen.body) in (b"3 abc 2 de 0  ", b"5 abcde 0  ")

    both = BODY_HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert send(world.gateway.port, both).startswith(b"HTTP/1.1 400 ")


def test_expect(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=10) as connection:
        connection.sendall(BODY_HEAD + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert world.upstream.last().body == b"hello"
    assert "expect" not in world.upstream.last().fields


# What comes back.


@pytest.mark.parametrize(
    ("name", "status", "body", "headers"),
    [
        ("named", 200, b"ok", {"x-own": "yes", "content-length": "2"}),
        ("created", 201, b"", {"location": "/x"}),
        ("empty", 204, b"", {"x-own": "yes"}),
        ("unchanged", 304, b"", {"etag": '"a"'}),
        ("moved", 302, b"", {"location": "http://elsewhere.example/"}),
        ("teapot", 418, b"tea", {}),
        ("reset", 205, b"", {}),
        ("broken", 500, b"oops", {"x-apisix-upstream-status": "500"}),
        ("busy", 503, b"busy", {"x-apisix-upstream-status": "503", "retry-after": "1"}),
        ("chunked", 200, b"abcde", {"transfer-encoding": "chunked"}),
        ("endless", 200, b"to the end", {}),
        ("old", 200, b"old", {}),
        ("large", 200, b"x" * 3_000_000, {"content-length": "3000000"}),
    ],
)
def test_answers(world: World, name: str, status: int, body: bytes, headers: dict[str, str]) -> None:
    reply = world.gateway.call(f"/raw/{name}")
    assert (reply.status, reply.body) == (status, body)
    assert reply.headers.items() >= headers.items()
    assert reply.headers["server"].startswith("Jitterway/")
    assert "date" in reply.headers
    if status < 500:
        assert "x-apisix-upstream-status" not in reply.headers
    if status in (204, 304):
        assert reply.headers.keys().isdisjoint({"content-length", "transfer-encoding"})


def test_an_interim_response_is_passed_on(world: World) -> None:
    """RFC 9110 section 15.2: a proxy must; clients that cannot read one do not ask for it by HTTP/1.1."""
    request = b"GET /raw/hinted HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    first, _, rest = send(world.gateway.port, request).partition(b"\r\n\r\n")
    assert first == b"HTTP/1.1 103 Early Hints\r\nlink: </a>"
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest.endswith(b"\r\n\r\nok")
    assert send(world.gateway.port, request.replace(b"1.1", b"1.0")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("name", "line"), [("teapot", b"418 I'm a teapot"), ("reset", b"205 Reset Content")])
def test_the_upstreams_phrase_is_passed_on(world: World, name: str, line: bytes) -> None:
    answer = send(world.gateway.port, b"GET /raw/%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % name.encode())
    assert answer.split(b"\r\n")[0] == b"HTTP/1.1 " + line


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("PROPFIND", 200), ("BREW", 200), ("SETUP", 200), ("X-Y_1", 200), ("TRACE", 405)],
)
def test_methods(world: World, method: str, status: int) -> None:
    assert world.gateway.call("/raw/a", method).status == status


def test_each_cookie_is_a_line_of_its_own(world: World) -> None:
    answer = send(world.gateway.port, b"GET /raw/cookies HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [line for line in answer.lower().split(b"\r\n") if line.startswith(b"set-cookie")] == [
        b"set-cookie: a=1",
        b"set-cookie: b=2",
    ]


def test_what_the_gateway_says_of_itself_stands_for_what_the_upstream_says(world: World) -> None:
    answer = send(world.gateway.port, b"GET /raw/named HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").lower()
    names = Counter(line.partition(b":")[0] for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    assert (names[b"server"], names[b"date"], names[b"content-length"], names[b"keep-alive"]) == (1, 1, 1, 0)
    assert b"upstream/1" not in answer


def test_head(world: World) -> None:
    upstream_answers_head = world.upstream.answers["named"].removesuffix(b"ok")
    world.upstream.answers = {**ANSWERS, "named": upstream_answers_head}
    try:
        for _ in range(2):
            reply = world.gateway.call("/raw/named", "HEAD")
            assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "2")
            assert world.upstream.last().line.startswith("HEAD ")
    finally:
        world.upstream.answers = ANSWERS


# Connections.


def test_clients_keep_their_connection(world: World) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.gateway.port, timeout=10)
    try:
        paths = (
            "/raw/a",
            "/nowhere",
            "/raw/chunked",
            "/none",
            "/raw/empty",
            "/raw/broken",
            "/refused",
            "/raw/unchanged",
        )
        for path in paths * 2:
            connection.request("GET", path)
            socket_before = connection.sock
            response = connection.getresponse()
            response.read()
            assert not response.will_close, path
            assert connection.sock is socket_before
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("request_head", "stays"),
    [
        (b"GET /raw/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
        (b"GET /raw/a HTTP/1.0\r\n\r\n", False),
        (b"GET /raw/chunked HTTP/1.0\r\nHost: a\r\n\r\n", False),
        (b"GET /raw/a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET /raw/a HTTP/1.1\r\nHost: a\r\n\r\n", True),
    ],
)
def test_versions_and_connections(world: World, request_head: bytes, stays: bool) -> None:
    with socket.create_connection(("127.0.0.1", world.gateway.port), timeout=10) as connection:
        connection.sendall(request_head)
        connection.settimeout(0.5)
        received = b""
        closed = False
        with contextlib.suppress(TimeoutError):
            while not closed:
                piece = connection.recv(65536)
                closed = not piece
                received += piece
    assert received.startswith(b"HTTP/1.")
    assert b" 200 " in received.split(b"\r\n")[0]
    assert closed is not stays
    if b"HTTP/1.0" in request_head:
        assert (b"\r\nconnection: keep-alive\r\n" in received.lower()) is stays
        assert b"transfer-encoding" not in received.lower()
        assert received.endswith(b"abcde" if b"chunked" in request_head else b"ok")


def test_connections_to_the_upstream_are_kept(world: World) -> None:
    for _ in range(10):
        assert world.gateway.call("/raw/a").status == 200
    assert len({seen.peer_port for seen in world.upstream.seen[-10:]}) == 1


# Balancing.


@pytest.fixture(scope="module")
def three() -> Iterator[list[RawUpstream]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(raw_upstream({})) for _ in range(3)]


@pytest.mark.parametrize(
    ("weights", "requests", "counts"),
    [
        ((1, 1), 12, (6, 6)),
        ((1, 1, 1), 12, (4, 4, 4)),
        ((3, 2, 1), 12, (6, 4, 2)),
        ((3, 0, 1), 12, (9, 0, 3)),
        ((2, 2, 0), 12, (6, 6, 0)),
        ((50, 20, 30), 20, (10, 4, 6)),
        ((6001, 2999, 1000), 50, (30, 15, 5)),
    ],
)
@pytest.mark.parametrize("form", ["map", "list"])
def test_turns_by_weight(
    world: World,
    three: list[RawUpstream],
    form: str,
    weights: tuple[int, ...],
    requests: int,
    counts: tuple[int, ...],
) -> None:
    ports = [upstream.port for upstream in three][: len(weights)]
    pairs = list(zip(ports, weights, strict=True))
    nodes: Any = {f"127.0.0.1:{port}": weight for port, weight in pairs}
    if form == "list":
        nodes = [{"host": "127.0.0.1", "port": port, "weight": weight} for port, weight in pairs]
    world.apply(routes_turns={"uri": "/turns", "upstream": {"type": "roundrobin", "nodes": nodes}})
    before = [len(upstream.seen) for upstream in three]
    for _ in range(requests):
        assert world.gateway.call("/turns").status == 200
    got = tuple(len(upstream.seen) - count for upstream, count in zip(three, before, strict=True))
    assert got[: len(weights)] == counts


def test_routes_of_one_upstream_take_turns_together(world: World, three: list[RawUpstream]) -> None:
    world.apply(
        upstreams_pair={"type": "roundrobin", "nodes": {f"127.0.0.1:{each.port}": 1 for each in three[:2]}},
        routes_left={"uri": "/left", "upstream_id": "pair"},
        routes_right={"uri": "/right", "upstream_id": "pair"},
    )
    before = [len(upstream.seen) for upstream in three]
    for path in ("/left", "/right") * 6:
        assert world.gateway.call(path).status == 200
    assert [len(upstream.seen) - count for upstream, count in zip(three, before, strict=True)] == [6, 6, 0]


@pytest.mark.parametrize(
    ("listening", "retries", "status", "upstream_status"),
    [(True, None, 200, None), (True, 1, 200, None), (False, None, 502, "502, 502"), (False, 0, 502, "502")],
)
def test_another_node_is_tried(
    world: World, listening: bool, retries: int | None, status: int, upstream_status: str | None
) -> None:
    second = world.upstream.port if listening else free_ports(1)[0]
    upstream = {"type": "roundrobin", "nodes": {f"127.0.0.1:{world.refusing}": 2, f"127.0.0.1:{second}": 1}}
    more = {} if retries is None else {"retries": retries}
    world.apply(routes_retried={"uri": "/retried", "upstream": upstream | more})
    for _ in range(3):
        reply = world.gateway.call("/retried")
        assert (reply.status, reply.headers.get("x-apisix-upstream-status")) == (status, upstream_status)
