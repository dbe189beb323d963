"""Paths, header trust and SSRF, against a running gateway over raw sockets: the rows of shared/advisories.md.

There is an open prefix route and a protected one, each with a canary of its own. One path form chooses the route and is
sent: so whatever arrives at the open canary must not read as protected to a server that decodes, cuts parameters,
merges slashes or resolves dots.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import pytest

from tests.support.canary import Canary, RawClient, Seen, ask, running_canary
from tests.support.gateway import Gateway, running_gateway
from tests.support.waiting import wait_until

HOST = b"Host: a.example\r\n"
# The tests come from loopback, whose X-Real-IP APISIX's default takes for the client's address.
BELIEVES_NOBODY = {"nginx_config": {"http": {"real_ip_from": []}}}


@dataclass
class World:
    gateway: Gateway
    open: Canary
    protected: Canary

    def send(self, target: bytes, fields: bytes = HOST, method: bytes = b"GET") -> tuple[int, Seen | None, Seen | None]:
        """The status, and what arrived at the open and at the protected canary."""
        counts = len(self.open.requests), len(self.protected.requests)
        answer = ask(self.gateway.port, b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, fields))
        arrived = self.open.requests[counts[0] :], self.protected.requests[counts[1] :]
        assert len(arrived[0]) + len(arrived[1]) == (1 if answer.status == 200 else 0), arrived
        return answer.status, arrived[0][0] if arrived[0] else None, arrived[1][0] if arrived[1] else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        running_canary() as open_canary,
        running_canary() as protected,
        running_gateway(tmp_path_factory.mktemp("gateway"), BELIEVES_NOBODY, workers=1) as gateway,
    ):
        gateway.put_route("open", "/open/*", open_canary.port)
        gateway.put_route("admin", "/admin/*", protected.port, host="a.example")
        gateway.put_route("named", "/named/*", protected.port, hosts=["*.named.example", "named.example"])
        world = World(gateway, open_canary, protected)
        # The last one to be written is served: so are the others.
        wait_until(lambda: world.send(b"/named/x", b"Host: named.example\r\n")[0] == 200, what="the routes")
        yield world
        assert open_canary.garbage == protected.garbage == []
        assert "Traceback" not in gateway.output()


REFUSED: dict[str, bytes] = {
    "CVE-2025-66490 %00": b"/open/%00/admin",
    "CVE-2025-66490 %0a": b"/open/%0a",
    "CVE-2025-66490 %0d%0a": b"/open/x%0d%0aX-Injected:%201",
    "CVE-2025-66490 %7f": b"/open/%7f",
    "CVE-2023-25690 a request line": b"/open/x%20HTTP/1.1%0d%0aHost:%20b%0d%0a%0d%0aGET%20/admin/",
    "CVE-2025-32431 above the root": b"/../admin/x",
    "CVE-2025-32431 above the root, encoded": b"/%2e%2e/admin/x",
    "CVE-2025-32431 above the root, deeper": b"/open/../../admin/x",
    "CVE-2026-94269 ..;": b"/open/..;/admin/x",
    "CVE-2026-94269 ..;a=b": b"/open/..;a=b/admin/x",
    "CVE-2026-94269 encoded": b"/open/%2e%2e;a=b/admin/x",
    "CVE-2026-94269 encoded semicolon": b"/open/..%3Ba=b/admin/x",
    "CVE-2026-73551 .;": b"/open/.;/admin/x",
    "CVE-2025-66490 ..%2f": b"/open/..%2fadmin/x",
    "CVE-2025-66490 %2f..": b"/open/a%2f../admin/x",
    "CVE-2025-66490 %2e%2e%2f": b"/open/%2e%2e%2fadmin/x",
    "CVE-2025-66490 ..%5c": b"/open/..%5cadmin",
    "CVE-2021-32779 fragment": b"/open/x#foo",
    "CVE-2021-32779 fragment first": b"/#/../admin/x",
    "CVE-2021-32779 fragment in the query": b"/open/x?a#b",
    "malformed %": b"/open/%",
    "malformed %2": b"/open/%2",
    "malformed %zz": b"/open/%zz",
    "malformed %u": b"/open/%u0041",
    "CVE-2013-4547 space": b"/open/a b",
    "CVE-2013-4547 space and NUL": b"/open/a \x00b",
    "CVE-2013-4547 tab": b"/open/a\tb",
    "CVE-2013-4547 0x80": b"/open/\x80",
    "CVE-2013-4547 UTF-8": "/open/é".encode(),
    "CVE-2013-4547 NUL": b"/open/\x00",
    "CVE-2013-4547 in the query": b"/open/x?a=\xe9",
    "CVE-2011-3368 @": b"@127.0.0.1:1/open/",
    "CVE-2011-3368 authority": b"127.0.0.1:1/open/",
    "CVE-2011-3368 no slash": b"open/x",
    "CVE-2021-40438 absolute form, other host": b"http://127.0.0.1:1/open/x",
    "CVE-2021-40438 absolute form, other port": b"http://a.example:81/open/x",
    "CVE-2021-40438 absolute form with a user": b"http://a.example@127.0.0.1/open/x",
    "CVE-2021-40438 another scheme": b"ftp://a.example/open/x",
    "CVE-2021-40438 file": b"file:///open/x",
    "absolute form without a host": b"http:///open/x",
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(world: World, case: str) -> None:
    assert world.send(REFUSED[case]) == (400, None, None)


# What is sent, who gets it, and as what.
SERVED: dict[str, tuple[bytes, str, str]] = {
    "plain": (b"/open/x", "open", "/open/x"),
    "CVE-2021-43557 two slashes": (b"//admin//x", "protected", "/admin/x"),
    "CVE-2021-43557 dot": (b"/./admin/x", "protected", "/admin/x"),
    "CVE-2021-43557 dots": (b"/x/../admin/x", "protected", "/admin/x"),
    "CVE-2021-43557 encoded letter": (b"/%61dmin/x", "protected", "/admin/x"),
    "CVE-2025-32431 %2e%2e": (b"/open/%2e%2e/admin/x", "protected", "/admin/x"),
    "CVE-2025-32431 .%2e": (b"/open/.%2e/admin/x", "protected", "/admin/x"),
    "CVE-2025-32431 dots through the open route": (b"/open/../admin/x", "protected", "/admin/x"),
    "CVE-2025-32431 twice encoded stays so": (b"/open/%252e%252e/admin", "open", "/open/%252e%252e/admin"),
    "CVE-2025-66490 %2f is data": (b"/open/a%2fadmin", "open", "/open/a%2Fadmin"),
    "CVE-2025-66490 %5c is data": (b"/open/a%5cb", "open", "/open/a%5Cb"),
    "CVE-2025-66490 %3b": (b"/open/a%3bb", "open", "/open/a%3Bb"),
    "CVE-2025-66490 %3f is data": (b"/open/a%3fb", "open", "/open/a%3Fb"),
    "CVE-2025-66490 %23 is data": (b"/open/a%23b", "open", "/open/a%23b"),
    "CVE-2025-66490 %25 is data": (b"/open/a%25b", "open", "/open/a%25b"),
    "CVE-2026-48020 dots within a segment": (b"/open/api../admin", "open", "/open/api../admin"),
    "backslash": (b"/open/a\\b", "open", "/open/a%5Cb"),
    "invalid UTF-8": (b"/open/%ff%c0%ae", "open", "/open/%FF%C0%AE"),
    "UTF-8": (b"/open/%c3%a9", "open", "/open/%C3%A9"),
    "query as it came": (b"/open/x?a=%2e%2e/;../%00&b==", "open", "/open/x?a=%2e%2e/;../%00&b=="),
    "CVE-2021-40438 a URL in the query": (
        b"/open/?unix:AAAA|http://canary/", "open", "/open/?unix:AAAA|http://canary/"
    ),
    "GHSA-fvhj absolute form": (b"http://a.example/open/x?y", "open", "/open/x?y"),
    "absolute form, dots": (b"http://a.example/open/../admin/x", "protected", "/admin/x"),
    "long": (b"/open/" + b"a/" * 4000, "open", "/open/" + "a/" * 4000),
}  # fmt: skip


@pytest.mark.parametrize("case", SERVED)
def test_one_form_for_route_and_upstream(world: World, case: str) -> None:
    target, who, expected = SERVED[case]
    status, opened, protected = world.send(target)
    seen = opened if who == "open" else protected
    assert status == 200
    assert seen is not None
    assert seen.target == expected


@pytest.mark.parametrize("case", ["/INTERNAL/x", "/Admin/x", "/openx", "/ope", "/open", "/", "/admin%2fx"])
def test_what_no_route_has_is_404(world: World, case: str) -> None:
    assert world.send(case.encode()) == (404, None, None)


def worst_reading(path: str) -> str:
    """The path as the most careless server reads it: all decoded, twice; parameters cut; slashes and dots resolved."""
    for _ in range(2):
        path = unquote(path, errors="replace").replace("\\", "/")
        path = re.sub(r";[^/]*", "", path)
        kept: list[str] = []
        for segment in path.split("/"):
            if segment == "..":
                del kept[-1:]
            elif segment not in ("", "."):
                kept.append(segment)
        path = "/" + "/".join(kept)
    return path


def test_no_random_path_of_the_open_route_reads_as_protected(world: World) -> None:
    """Generic probe "decision on one form, action on another"; %25 is left out, as decoding twice is nobody's right."""
    chance = random.Random(43557)
    parts = ["/", "//", "..", ".", "%2e", "%2E%2e", "%2f", "%5c", "\\", ";", ";a=b", "%3b", "a", "admin", "open"]
    parts.append("%c0%ae")
    served = 0
    for _ in range(1500):
        target = "/open/" + "".join(chance.choice(parts) for _ in range(chance.randint(1, 9)))
        status, opened, protected = world.send(target.encode())
        if opened is not None:
            served += 1
            assert opened.target.startswith("/open/"), target
            assert worst_reading(opened.target).split("/")[1] == "open", target
        if protected is not None:
            assert worst_reading(protected.target).split("/")[1] == "admin", target
        assert status in (200, 400, 404), target
    assert served > 100


# Hosts.


@pytest.mark.parametrize(
    "host",
    ["named.example", "NAMED.example", "named.example.", "named.example:80", "x.named.example", "X.Y.Named.Example:1"],
)
def test_a_host_matches_in_every_spelling(world: World, host: str) -> None:
    """CVE-2026-27588."""
    status, _, protected = world.send(b"/named/x", f"Host: {host}\r\n".encode())
    assert (status, protected is not None) == (200, True)


@pytest.mark.parametrize("host", ["xnamed.example", "named.example.evil", "evil.example", "127.0.0.1", "named"])
def test_another_host_does_not(world: World, host: str) -> None:
    assert world.send(b"/named/x", f"Host: {host}\r\n".encode()) == (404, None, None)


def test_a_thousand_hosts_change_nothing(world: World) -> None:
    """CVE-2026-27588: matching is the same at every size of the index."""
    hosts = [f"h{number}.many.example" for number in range(1000)]
    world.gateway.put_route("many", "/many/*", world.protected.port, hosts=hosts)
    wait_until(lambda: world.send(b"/many/x", b"Host: h1.many.example\r\n")[0] == 200, what="the route")
    for host in ("h0.many.example", "H999.Many.Example", "h500.many.example.", "named.example"):
        target = b"/many/x" if "many" in host.lower() else b"/named/x"
        assert world.send(target, f"Host: {host}\r\n".encode())[0] == 200
    assert world.send(b"/many/x", b"Host: h1000.many.example\r\n")[0] == 404


# Header trust.

OURS = ("x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "host")


def ours_of(seen: Seen) -> dict[str, list[str]]:
    return {name: seen.values(name) for name in OURS}


def honest(world: World) -> dict[str, list[str]]:
    return {
        "x-real-ip": ["127.0.0.1"],
        "x-forwarded-for": ["127.0.0.1"],
        "x-forwarded-proto": ["http"],
        "x-forwarded-host": ["a.example"],
        "x-forwarded-port": [str(world.gateway.port)],
        "host": ["a.example"],
    }


SPOOFED: dict[str, bytes] = {
    "CVE-2021-33190 each of them": (
        b"X-Real-IP: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 666\r\n"
        b"Forwarded: for=6.6.6.6\r\n"
    ),
    "CVE-2026-54763 underscores": (
        b"X_Real_IP: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nX_FORWARDED_PROTO: https\r\nX_Forwarded_Host: evil\r\n"
        b"X_Forwarded-Port: 666\r\n"
    ),
    "CVE-2026-54763 dots": b"X.Real.IP: 6.6.6.6\r\nX.Forwarded.For: 6.6.6.6\r\nX-Forwarded.Host: evil\r\n",
    "CVE-2026-54763 case, doubled": b"x-REAL-ip: 6.6.6.6\r\nX-Real-Ip: 6.6.6.6\r\nx-forwarded-PROTO: https\r\n",
    "CVE-2026-54763 framing": b"Content_Length: 5\r\nTransfer_Encoding: chunked\r\nTransfer.Encoding: chunked\r\n",
    "CVE-2024-45410 named by Connection": (
        b"Connection: close, X-Real-IP, X-Forwarded-For, X-Forwarded-Host, x-forwarded-proto, Host\r\n"
    ),
    "CVE-2024-45410 named by two Connections": b"Connection: X-Real-IP\r\nConnection: X-Forwarded-For\tHost\r\n",
    "CVE-2024-45410 hop-by-hop": (
        b"Connection: X-Mine, Keep-Alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nTrailer: X\r\n"
        b"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nProxy: http://evil\r\nUpgrade: h2c\r\n"
    ),
    "gunicorn's scheme headers": b"X-Forwarded-Protocol: ssl\r\nX-Forwarded-Ssl: on\r\n",
}
GONE = {
    "forwarded", "te", "trailer", "connection", "keep-alive", "upgrade", "x-mine", "proxy-connection",
    "proxy-authorization", "x_real_ip", "x.real.ip", "x_forwarded_for", "x.forwarded.for", "x_forwarded_proto",
    "x_forwarded_host", "x-forwarded.host", "x_forwarded-port", "content_length", "transfer_encoding",
    "transfer.encoding", "content-length", "transfer-encoding",
}  # fmt: skip


@pytest.mark.parametrize("case", SPOOFED)
def test_what_we_vouch_for_is_ours(world: World, case: str) -> None:
    status, seen, _ = world.send(b"/open/x", HOST + SPOOFED[case])
    assert status == 200
    assert seen is not None
    assert ours_of(seen) == honest(world)
    assert not seen.names & GONE


def test_forwarded_for_is_appended_to(world: World) -> None:
    """CVE-2026-110724: the rightmost is the one that we saw; others are the client's word."""
    _, seen, _ = world.send(b"/open/x", HOST + b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7, 8.8.8.8\r\n")
    assert seen is not None
    assert seen.values("x-forwarded-for") == ["6.6.6.6, 7.7.7.7, 8.8.8.8, 127.0.0.1"]
    assert seen.values("x-real-ip") == ["127.0.0.1"]


def test_connection_removes_only_what_is_the_clients(world: World) -> None:
    _, seen, _ = world.send(
        b"/open/x", HOST + b"Connection: Authorization, X-A\r\nAuthorization: b\r\nX-A: 1\r\nX-B: 2\r\nCookie: c\r\n"
    )
    assert seen is not None
    assert not seen.names & {"authorization", "x-a"}
    assert (seen.values("x-b"), seen.values("cookie")) == (["2"], ["c"])


def test_a_proxy_header_is_no_request(world: World) -> None:
    """CVE-2021-33190: nobody tells by PROXY who the client is."""
    with RawClient(world.gateway.port) as client:
        client.send(b"PROXY TCP4 6.6.6.6 127.0.0.1 1 80\r\nGET /open/x HTTP/1.1\r\n" + HOST + b"\r\n")
        assert [answer.status for answer in client.answers()] == [400]


def test_a_hundred_and_first_header_is_not_overlooked(world: World) -> None:
    """CVE-2018-9230: refused, not dropped; and every parameter of a query is passed on."""
    assert world.send(b"/open/x", HOST + b"X: y\r\n" * 100)[0] == 431
    query = "&".join(f"a{number}=1" for number in range(500))
    _, seen, _ = world.send(f"/open/x?{query}".encode())
    assert seen is not None
    assert seen.target == f"/open/x?{query}"


def test_what_is_logged_of_a_request_is_one_line_of_ascii(world: World) -> None:
    """GHSA-33c7-2mpw-hg34."""
    for raw in (
        b"GET /open/%1b[2J%0aforged HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /open/\x1b[2J HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /open/x HTTP/1.1\r\nHost: \xff\x1b\r\n\r\n",
        b"GET /open/x HTTP/1.1\r\nX\x1b[2J: y\r\n\r\n",
    ):
        answer = ask(world.gateway.port, raw)
        assert answer.status == 400
        assert answer.body == b'{"error_msg":"400 Bad Request"}\n'
    text = world.gateway.output_path.read_bytes()
    assert b"\x1b" not in text
    assert b"\nforged" not in text
