"""Framing, against a running gateway over raw sockets: shared/advisories.md, "Framing", and what of "DoS" is parsing.

Refused means: one 4xx or 5xx, the connection closed, nothing of it at an upstream. Each refused case has a complete
`GET /canary` behind it. Accepted means: the upstream saw exactly one request, of the same meaning.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.canary import Answer, Canary, RawClient, ask, running_canary
from tests.support.gateway import Gateway, running_gateway
from tests.support.memory import resident_mb
from tests.support.waiting import wait_until

HOST = b"Host: a.example\r\n"
SMUGGLED = b"GET /canary HTTP/1.1\r\nHost: a.example\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
HEADER_TIMEOUT_S = 2


@dataclass
class World:
    edge: str
    gateway: Gateway
    canary: Canary
    worker_pid: int

    @property
    def port(self) -> int:
        return self.gateway.port

    def rss_mb(self) -> float:
        return resident_mb(self.worker_pid)


@pytest.fixture(scope="module", params=["h1", "asgi"])
def world(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[World]:
    """One worker, so that there is one pool; short times, so that they can be waited for."""
    times = {"client_header_timeout": HEADER_TIMEOUT_S, "keepalive_timeout": HEADER_TIMEOUT_S}
    config = {"nginx_config": {"http": times}, "gw": {"edge": request.param}}
    with (
        running_canary() as canary,
        running_gateway(tmp_path_factory.mktemp("gateway"), config, workers=1) as gateway,
    ):
        gateway.put_route("1", "/*", canary.port, timeout={"connect": 2, "send": 2, "read": 2})
        gateway.wait_served("/warm")
        [pid] = gateway.worker_pids()
        yield World(request.param, gateway, canary, pid)
        assert gateway.worker_pids() == [pid], "a worker died"
        assert "Traceback" not in gateway.output()
        assert canary.garbage == []
        assert canary.count("/canary-refused") == 0


def get(target: bytes = b"/p", fields: bytes = HOST, version: bytes = b"1.1") -> bytes:
    return b"GET %b HTTP/%b\r\n%b\r\n" % (target, version, fields)


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /p HTTP/%b\r\n%b%b\r\n%b" % (version, HOST, fields, body)


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked\r\n", body)


WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

REFUSED: dict[str, bytes] = {
    # several, stacked or odd transfer codings
    "CVE-2024-1135 identity after chunked": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", LAST_CHUNK
    ),
    "CVE-2024-1135 chunked in the middle": post(b"Transfer-Encoding: gzip, chunked, identity\r\n", LAST_CHUNK),
    "CVE-2024-1135 chunked twice": post(b"Transfer-Encoding: chunked, chunked\r\n", LAST_CHUNK),
    "CVE-2024-1135 identity first": post(b"Transfer-Encoding: identity, chunked\r\n", LAST_CHUNK),
    "CVE-2024-1135 identity line first": post(
        b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", LAST_CHUNK
    ),
    "CVE-2024-1135 gzip": post(b"Transfer-Encoding: gzip, chunked\r\n", LAST_CHUNK),
    "CVE-2024-1135 identity": post(b"Transfer-Encoding: identity\r\n"),
    "CVE-2024-1135 empty member": post(b"Transfer-Encoding: ,chunked\r\n", LAST_CHUNK),
    "CVE-2024-1135 empty": post(b"Transfer-Encoding:\r\n"),
    "CVE-2024-6827 xchunked": post(b"Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n", b"abcd"),
    "CVE-2024-6827 parameter": post(b"Transfer-Encoding: chunked;q=1\r\nContent-Length: 4\r\n", b"abcd"),
    "CVE-2024-6827 vertical tab": post(b"Transfer-Encoding:\x0bchunked\r\nContent-Length: 4\r\n", b"abcd"),
    "CVE-2024-6827 quoted": post(b'Transfer-Encoding: "chunked"\r\n', LAST_CHUNK),
    "CVE-2024-6827 CL and TE": post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", LAST_CHUNK),
    "CVE-2024-6827 TE and CL": post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", LAST_CHUNK),
    "CVE-2024-6827 TE and CL 0": post(b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", LAST_CHUNK),
    "CVE-2020-8287 the PoC": post(
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked-false\r\nConnection: upgrade\r\n",
        b"1\r\nA\r\n0\r\n\r\n",
    ),
    "CVE-2026-2835 TE in 1.0": post(b"Transfer-Encoding: chunked\r\n", LAST_CHUNK, version=b"1.0"),
    "CVE-2026-2835 TE in 1.0 that is to be kept": post(
        b"Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n", LAST_CHUNK, version=b"1.0"
    ),
    "chunked and no more": post(b"Transfer-Encoding: chunked,\r\n", LAST_CHUNK),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: chunked\x0b\r\n", LAST_CHUNK),
    "a coding alone": post(b"Transfer-Encoding: gzip\r\n"),
    "two chunked lines": post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", LAST_CHUNK),
    # line ends and folds
    "CVE-2023-30589 bare CR": get(fields=HOST + b"X-Abc: \rxTransfer-Encoding: chunked\r\n"),
    "CVE-2023-30589 bare CR in the middle": get(fields=HOST + b"X: a\rContent-Length: 4\r\n"),
    "CVE-2022-32214 LF everywhere": get().replace(b"\r\n", b"\n"),
    "CVE-2022-32214 one LF": b"POST /p HTTP/1.1\r\nX: a\nContent-Length: 44\r\n" + HOST + b"\r\n",
    "CVE-2022-32214 LF before the empty line": b"GET /p HTTP/1.1\r\n" + HOST + b"X: a\n\r\n",
    "CVE-2022-32214 LF for the empty line": b"GET /p HTTP/1.1\r\n" + HOST + b"\n",
    "CVE-2022-32214 LF before the request": b"\n" + get(),
    "CVE-2022-32215 folded TE": post(b"Transfer-Encoding:\r\n chunked\r\n", LAST_CHUNK),
    "CVE-2022-32215 folded": get(fields=HOST + b"X: a\r\n b\r\n"),
    "CVE-2022-32215 folded by tab": get(fields=HOST + b"X: a\r\n\tb: c\r\n"),
    "CVE-2022-32215 space before the colon": post(b"Content-Length : 5\r\n", b"hello"),
    "CVE-2022-32215 tab before the colon": post(b"Transfer-Encoding\t: chunked\r\n", LAST_CHUNK),
    "CVE-2022-32215 space before the first field": b"GET /p HTTP/1.1\r\n " + HOST + b"\r\n",
    # chunks
    "CVE-2025-22871 LF behind the size": chunked(b"5\nhello\r\n0\r\n\r\n"),
    "CVE-2025-22871 LF in an extension": chunked(b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    "CVE-2025-22871 CR in an extension": chunked(b"5;\r x\r\nhello\r\n0\r\n\r\n"),
    "CVE-2025-22871 NUL in an extension": chunked(b"5;a=\x00\r\nhello\r\n0\r\n\r\n"),
    "CVE-2025-22871 64 KiB of extension": chunked(b"5;" + b"a" * 65536 + b"\r\nhello\r\n0\r\n\r\n"),
    "CVE-2025-43859 bytes behind the data": chunked(b"5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n"),
    "CVE-2025-43859 LF behind the data": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "chunk size: sign": chunked(b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size: 0x": chunked(b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size: underscore": chunked(b"0_5\r\nhello\r\n0\r\n\r\n"),
    "chunk size: space before": chunked(b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk size: space behind": chunked(b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size: none": chunked(b"\r\nhello\r\n0\r\n\r\n"),
    "chunk size: beyond 64 bits": chunked(b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk size: 17 digits": chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk size: endless zeros": chunked(b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n"),
    "chunk size: endless zeros of the last": chunked(b"5\r\nhello\r\n" + b"0" * 5000 + b"\r\n\r\n"),
    "chunk size: a comma": chunked(b"5,5\r\nhello\r\n0\r\n\r\n"),
    "last chunk: LF": chunked(b"5\r\nhello\r\n0\n\r\n"),
    "last chunk: LF for the empty line": chunked(b"5\r\nhello\r\n0\r\n\n"),
    "trailer that is no field": chunked(b"0\r\nno colon\r\n\r\n"),
    "trailer with CR": chunked(b"0\r\nX: a\rb\r\n\r\n"),
    "trailer with NUL": chunked(b"0\r\nX: a\x00b\r\n\r\n"),
    "trailer that is folded": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer that frames": chunked(b"0\r\nContent-Length: 5\r\n\r\n"),
    # lengths
    "CVE-2023-40225 empty": post(b"Content-Length:\r\n"),
    "CVE-2023-40225 empty and 5": post(b"Content-Length:\r\nContent-Length: 5\r\n", b"hello"),
    "CVE-2023-40225 sign": post(b"Content-Length: +5\r\n", b"hello"),
    "CVE-2023-40225 minus": post(b"Content-Length: -5\r\n", b"hello"),
    "CVE-2023-40225 hex": post(b"Content-Length: 0x5\r\n", b"hello"),
    "CVE-2023-40225 list": post(b"Content-Length: 5,5\r\n", b"hello"),
    "CVE-2023-40225 list of two": post(b"Content-Length: 5, 6\r\n", b"hello"),
    "CVE-2023-40225 twice": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "CVE-2023-40225 twice, different": post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
    "CVE-2023-40225 20 digits": post(b"Content-Length: 00000000000000000005\r\n", b"hello"),
    "CVE-2023-40225 beyond 64 bits": post(b"Content-Length: 99999999999999999999\r\n", b"hello"),
    "CVE-2023-40225 5,001 digits": post(b"Content-Length: " + b"0" * 5000 + b"5\r\n", b"hello"),
    "aiohttp 3.13.3 a digit that is none": post(b"Content-Length: \xb2\r\n", b"hello"),
    "CVE-2023-40225 underscore": post(b"Content-Length: 5_0\r\n", b"hello"),
    # fields
    "CVE-2023-25725 no name": get(fields=b": x\r\nX-API-KEY: k\r\n" + HOST),
    "no colon": get(fields=HOST + b"X\r\n"),
    "NUL in a name": get(fields=HOST + b"X\x00: a\r\n"),
    "NUL in a value": get(fields=HOST + b"X: a\x00b\r\n"),
    "two Content-Types": post(b"Content-Type: a/b\r\nContent-Type: c/d\r\nContent-Length: 0\r\n"),
    "CVE-2026-48710 two Hosts": get(fields=HOST + b"Host: b.example\r\n"),
    "CVE-2026-48710 two equal Hosts": get(fields=HOST * 2),
    "CVE-2026-48710 no Host": get(fields=b""),
    "CVE-2026-48710 empty Host": get(fields=b"Host:\r\n"),
    "CVE-2026-48710 Host with a path": get(fields=b"Host: a/../admin?x=\r\n"),
    "CVE-2026-48710 Host with a space": get(fields=b"Host: a b\r\n"),
    "CVE-2026-48710 Host with a user": get(fields=b"Host: a@b\r\n"),
    "CVE-2026-48710 list of Hosts": get(fields=b"Host: a, b\r\n"),
    # request lines
    "version 1.2": get(version=b"1.2"),
    "version 2.0": get(version=b"2.0"),
    "version 0.9": b"GET /p\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two spaces before the version": b"GET /p  HTTP/1.1\r\n" + HOST + b"\r\n",
    "version 1.10": get(version=b"1.10"),
    "version 01.1": get(version=b"01.1"),
    "another protocol": get().replace(b"HTTP/1.1", b"RTSP/1.0"),
    "version in lower case": get().replace(b"HTTP", b"http"),
    "no version": b"GET /p\r\n" + HOST + b"\r\n",
    "a fragment": get(b"/p#x"),
    "CVE-2013-4547 a space in the target": get(b"/a b"),
    "CVE-2013-4547 NUL in the target": get(b"/a \x00b"),
    "CVE-2013-4547 a tab in the target": get(b"/a\tb"),
    "CVE-2013-4547 0x80 in the target": get(b"/a\x80b"),
    "an absolute target alone": get(b"http://a.example/p", fields=b""),
    "an absolute target for another Host": get(b"http://b.example/p"),
    "two spaces": b"GET  /p HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab": b"GET\t/p\tHTTP/1.1\r\n" + HOST + b"\r\n",
    "space behind the version": b"GET /p HTTP/1.1 \r\n" + HOST + b"\r\n",
    "method in lower case": b"get /p HTTP/1.1\r\n" + HOST + b"\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "CVE-2026-73547 CONNECT": b"CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n",
    "CVE-2026-73547 CONNECT to a path": b"CONNECT /p HTTP/1.1\r\n" + HOST + b"\r\n",
    "Traefik 3.7.9 CONNECT with a body": b"CONNECT /p HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",
    "CVE-2026-73547 OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "CVE-2026-73547 GET *": get(b"*"),
    "CVE-2026-73547 GET authority": get(b"a.example:80"),
    # too much
    "CVE-2026-49975 10,000 fields": get(fields=HOST + b"X: y\r\n" * 10_000),
    "CVE-2026-49975 a field of 1 MiB": get(fields=HOST + b"X: " + b"y" * (1 << 20) + b"\r\n"),
    "CVE-2026-49975 a head of 64 KiB": get(fields=HOST + (b"X: " + b"y" * 4000 + b"\r\n") * 16),
    "CVE-2026-49975 a target of 64 KiB": get(b"/" + b"p" * 65536),
    "CVE-2026-49975 100,000 trailers": chunked(b"0\r\n" + b"X: y\r\n" * 100_000 + b"\r\n"),
}


# Upgrades that the route does not take: what follows is never raw. ASGI can only refuse them; our protocol proxies an
# ordinary request, as nginx does.
WEBSOCKETS = {
    "CVE-2026-2833 websocket": get(fields=HOST + WEBSOCKET),
    "CVE-2026-2833 websocket without a key": get(fields=HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
}


@pytest.mark.parametrize("case", WEBSOCKETS)
def test_websocket_that_is_not_taken(world: World, case: str) -> None:
    before = len(world.canary.requests)
    with RawClient(world.port) as client:
        client.send(WEBSOCKETS[case] + SMUGGLED)
        if world.edge == "asgi":
            answers = client.answers()
            assert [answer.status >= 400 for answer in answers] == [True]
            assert world.canary.requests[before:] == []
        else:
            client.expect()
            client.expect()
            seen, behind = world.canary.requests[before:]
            assert (seen.target, behind.target) == ("/p", "/canary")
            assert not seen.names & {"upgrade", "connection"}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(world: World, case: str) -> None:
    before = len(world.canary.requests), world.canary.connections
    with RawClient(world.port) as client:
        client.send(REFUSED[case] + SMUGGLED.replace(b"/canary", b"/canary-refused"))
        answers = client.answers()
    assert [400 <= answer.status < 600 for answer in answers] == [True]
    assert b"canary" not in answers[0].body
    assert len(world.canary.requests) == before[0]


@pytest.mark.parametrize(
    "case",
    [
        "CVE-2024-1135 identity first",
        "CVE-2024-6827 CL and TE",
        "CVE-2023-30589 bare CR",
        "CVE-2025-43859 bytes behind the data",
        "CVE-2025-22871 64 KiB of extension",
        "CVE-2023-40225 5,001 digits",
        "trailer that is folded",
    ],
)
def test_refused_by_the_other_listeners_too(world: World, case: str) -> None:
    gateway = world.gateway
    for port in (gateway.admin_port, gateway.control_port, gateway.status_port, gateway.metrics_port):
        with RawClient(port) as client:
            client.send(REFUSED[case].replace(b"a.example", b"127.0.0.1") + SMUGGLED)
            answers = client.answers()
        assert [400 <= answer.status < 600 for answer in answers] == [True]


# What is sent, and what the upstream may make of it: method, target, body.
ACCEPTED: dict[str, tuple[bytes, tuple[str, str, bytes]]] = {
    "GET": (get(), ("GET", "/p", b"")),
    "empty line first": (b"\r\n" + get(), ("GET", "/p", b"")),
    "Content-Length": (post(b"Content-Length: 5\r\n", b"hello"), ("POST", "/p", b"hello")),
    "Content-Length 0": (post(b"Content-Length: 0\r\n"), ("POST", "/p", b"")),
    "no length": (post(b""), ("POST", "/p", b"")),
    "Content-Length with zeros": (post(b"Content-Length: 0005\r\n", b"hello"), ("POST", "/p", b"hello")),
    "chunked": (chunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), ("POST", "/p", b"abcde")),
    "chunks of one byte": (chunked(b"1\r\nx\r\n" * 5000 + LAST_CHUNK), ("POST", "/p", b"x" * 5000)),
    "chunked in capitals": (post(b"Transfer-Encoding: CHUNKED\r\n", b"A\r\n0123456789\r\n0\r\n\r\n"),
                            ("POST", "/p", b"0123456789")),
    "extension": (chunked(b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n'), ("POST", "/p", b"hello")),
    "trailer": (chunked(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), ("POST", "/p", b"hello")),
    "CVE-2022-32215 a body that looks like a request": (
        post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), ("POST", "/p", SMUGGLED)
    ),
    "GET with a body": (get(fields=HOST + b"Content-Length: 5\r\n") + b"hello", ("GET", "/p", b"hello")),
    "CVE-2024-32638 Expect, and the body at once": (
        post(b"Content-Length: 5\r\nExpect: 100-continue\r\n", b"hello"), ("POST", "/p", b"hello")
    ),
    "Expect without a body": (get(fields=HOST + b"Expect: 100-continue\r\n"), ("GET", "/p", b"")),
    "CVE-2026-2833 h2c": (
        get(fields=HOST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        ("GET", "/p", b""),
    ),
    "CVE-2026-2833 h2c with a body": (
        post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n", b"hello"), ("POST", "/p", b"hello")
    ),
    "CVE-2026-2833 another upgrade": (get(fields=HOST + b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"),
                                      ("GET", "/p", b"")),
    "absolute form": (get(b"http://a.example/p?q=1"), ("GET", "/p?q=1", b"")),
    "absolute form without a path": (get(b"http://A.example"), ("GET", "/", b"")),
    "OPTIONS": (b"OPTIONS /p HTTP/1.1\r\n" + HOST + b"\r\n", ("OPTIONS", "/p", b"")),
    "a head of 30 KiB": (get(fields=HOST + (b"X: " + b"y" * 5990 + b"\r\n") * 5), ("GET", "/p", b"")),
    "odd but plain fields": (
        get(fields=HOST + b"X!#$%&'*+.^_`|~: \xe9\x80\xff\r\nX-Empty:\r\nX-Space:   a  b  \r\n"), ("GET", "/p", b"")
    ),
}  # fmt: skip


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "in pieces"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_is_one_request_of_the_same_meaning(world: World, case: str, in_pieces: bool) -> None:
    """CVE-2021-39214, CVE-2022-24766: what is behind us is parsed strictly; and the request behind it is one, too."""
    raw, expected = ACCEPTED[case]
    before = len(world.canary.requests)
    with RawClient(world.port) as client:
        if in_pieces:
            size = max(len(raw) // 40, 1)
            for at in range(0, len(raw), size):
                client.send(raw[at : at + size])
            client.send(SMUGGLED)
        else:
            client.send(raw + SMUGGLED)
        client.expect()
        client.expect()
    seen, behind = world.canary.requests[before:]
    assert (seen.method, seen.target, seen.body) == expected
    assert behind.target == "/canary"
    assert not seen.names & {"expect", "upgrade", "te", "trailer", "http2-settings", "keep-alive", "connection"}
    lengths = seen.values("content-length")
    assert (seen.values("transfer-encoding"), [int(length) for length in lengths]) in (
        ([], []),
        (["chunked"], []),
        ([], [len(seen.body)]),
    )


def test_http_1_0_without_a_length_has_no_body_and_is_the_last(world: World) -> None:
    """CVE-2026-2835."""
    before = len(world.canary.requests)
    with RawClient(world.port) as client:
        client.send(b"POST /p HTTP/1.0\r\nHost: a\r\n\r\n" + SMUGGLED)
        assert [answer.status for answer in client.answers()] == [200]
    [seen] = world.canary.requests[before:]
    assert (seen.body, seen.values("transfer-encoding")) == (b"", [])


def test_head_with_a_body_is_two_responses_and_the_pool_is_usable(world: World) -> None:
    """CVE-2024-33452."""
    before = len(world.canary.requests)
    with RawClient(world.port) as client:
        client.send(b"HEAD /p HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED + get())
        assert int(client.expect(to_head=True).fields["content-length"]) > 0
        client.expect()
    assert [(seen.method, seen.target) for seen in world.canary.requests[before:]] == [("HEAD", "/p"), ("GET", "/p")]
    assert len({seen.connection for seen in world.canary.requests[before:]}) == 1


def test_a_client_that_waits_for_100_is_told(world: World) -> None:
    before = len(world.canary.requests)
    with RawClient(world.port) as client:
        client.send(post(b"Content-Length: 5\r\nExpect: 100-continue\r\n"))
        while b"\r\n\r\n" not in client.buffer:
            client.buffer += client.sock.recv(100)
        assert client.buffer == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.buffer.clear()
        client.send(b"hello")
        client.expect()
    assert [seen.body for seen in world.canary.requests[before:]] == [b"hello"]


@pytest.mark.parametrize(
    "fault",
    [b"zz\r\n", b"5\r\nhelloXX", b"3;\x00\r\n", b"0\r\nno colon\r\n\r\n", b"0\r\nHost: b\r\n\r\n"],
)
def test_a_fault_later_in_the_body_ends_the_request_at_the_upstream(world: World, fault: bytes) -> None:
    """The upstream never sees a whole request, nor the client an answer that would be one."""
    before, begun, cut = len(world.canary.requests), world.canary.begun, world.canary.cut
    with RawClient(world.port) as client:
        client.send(chunked(b"3\r\nabc\r\n"))
        wait_until(lambda: world.canary.begun > begun, what="the request to reach the upstream")
        client.send(fault + SMUGGLED)
        assert [answer.status for answer in client.answers()] == [400]
    wait_until(lambda: world.canary.cut > cut, what="the request to be cut off")
    assert len(world.canary.requests) == before


def test_a_fault_after_the_answer_began_is_no_second_answer(world: World) -> None:
    world.canary.early["/early"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    with RawClient(world.port) as client:
        client.send(chunked(b"3\r\nabc\r\n").replace(b"/p ", b"/early "))
        while b"hello" not in client.buffer:
            client.buffer += client.sock.recv(4096)
        client.send(b"zz\r\n" + SMUGGLED)
        answer = client.expect()
        assert (answer.body, answer.whole) == (b"hello", False)
        assert client.answer() is None


def test_fifty_pipelined_requests_are_answered_in_order(world: World) -> None:
    """GHSA-c8m8-j448-xjx7: whatever their upstreams' delays."""
    chance = random.Random(50)
    targets = [f"/pipelined/{number}" for number in range(50)]
    world.canary.delays_s.update({target: chance.choice((0, 0.001, 0.02)) for target in targets})
    with RawClient(world.port) as client:
        client.send(b"".join(get(target.encode()) for target in targets))
        for target in targets:
            assert f'"target": "{target}"'.encode() in client.expect().body


def test_no_crossed_answers_for_two_users_on_one_pooled_connection(world: World) -> None:
    """CVE-2026-74848: they alternate 1,000 times, with bodies of every kind."""
    before = len(world.canary.requests)

    def request(user: str, number: int) -> bytes:
        line = f"/{user}/{number} HTTP/1.1\r\nHost: {user}.example\r\n".encode()
        match number % 4:
            case 0:
                return b"GET " + line + b"\r\n"
            case 1:
                return b"POST " + line + b"Content-Length: 4\r\n\r\nbody"
            case 2:
                return b"PUT " + line + b"Transfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
            case _:
                return b"HEAD " + line + b"\r\n"

    with RawClient(world.port) as alice, RawClient(world.port) as bob:
        for number in range(1000):
            for user, client in (("alice", alice), ("bob", bob)):
                client.send(request(user, number))
                answer = client.expect(to_head=number % 4 == 3)
                assert number % 4 == 3 or f'"target": "/{user}/{number}"'.encode() in answer.body
    seen = world.canary.requests[before:]
    assert len(seen) == 2000
    # keepalive_pool's limit of requests on one connection is 1,000
    assert len({each.connection for each in seen}) <= 3


# What an upstream may not say.

OK_LINE = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n"

BAD_ANSWERS: dict[str, bytes] = {
    "CL and TE": OK_LINE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "two CLs": OK_LINE + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two equal CLs": OK_LINE + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "CL beyond 64 bits": OK_LINE + b"Content-Length: 99999999999999999999\r\n\r\nabc",
    "coded": OK_LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "status 99": b"HTTP/1.1 99 X\r\nContent-Length: 0\r\n\r\n",
    "status 000": b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n",
    "status 1000": b"HTTP/1.1 1000 X\r\nContent-Length: 0\r\n\r\n",
    "status abc": b"HTTP/1.1 abc X\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": b"HTTP/1.1 200 a\rb\r\nContent-Length: 0\r\n\r\n",
    "CVE-2020-7695 CR in a value": OK_LINE + b"X: a\rSet-Cookie: x=y\r\nContent-Length: 0\r\n\r\n",
    "CVE-2020-7695 LF in a value": OK_LINE + b"X: a\nSet-Cookie: x=y\r\nContent-Length: 0\r\n\r\n",
    "CVE-2020-7695 NUL in a value": OK_LINE + b"X: a\x00\r\nContent-Length: 0\r\n\r\n",
    "CVE-2020-7695 a name that is none": OK_LINE + b"X a: b\r\nContent-Length: 0\r\n\r\n",
    "LF only": OK_LINE.replace(b"\r\n", b"\n") + b"Content-Length: 0\n\n",
    "not HTTP": b"hello",
    "101": b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n" + SMUGGLED,
    "a head without end": OK_LINE + b"X: y\r\n" * 20_000,
    "a field without end": OK_LINE + b"X: " + b"y" * (1 << 20),
    "a flood of 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
}


@pytest.mark.parametrize("case", BAD_ANSWERS)
def test_a_bad_answer_is_502_and_its_connection_is_not_used_again(world: World, case: str) -> None:
    path = f"/bad/{list(BAD_ANSWERS).index(case)}"
    world.canary.scripts[path] = [BAD_ANSWERS[case]]
    first, _, (bad, after) = two_requests(world, path)
    assert (first.status, first.body) == (502, b'{"error_msg":"502 Bad Gateway"}\n')
    assert "set-cookie" not in first.fields
    assert bad != after


BROKEN_BODIES: dict[str, bytes] = {
    "bad chunk size": CHUNKED + b"zz\r\nabc\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"1ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "LF behind the size": CHUNKED + b"3\nabc\r\n0\r\n\r\n",
    "bytes behind the data": CHUNKED + b"3\r\nabcXX0\r\n\r\n",
    "a chunk extension without end": CHUNKED + b"3\r\nabc\r\n3;" + b"a" * 4_000_000,
    "trailers without end": CHUNKED + b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 1_000_000,
    "a trailer without end": CHUNKED + b"3\r\nabc\r\n0\r\nX: " + b"y" * 8_000_000,
}


@pytest.mark.parametrize("case", BROKEN_BODIES)
def test_a_broken_body_never_looks_whole(world: World, case: str) -> None:
    path = f"/broken/{list(BROKEN_BODIES).index(case)}"
    world.canary.scripts[path] = [BROKEN_BODIES[case]]
    before = world.rss_mb()
    with RawClient(world.port) as client:
        client.send(get(path.encode()) + SMUGGLED)
        answer = client.answer()
        if answer is not None and answer.status == 502:
            # It was seen before anything had left: an answer like others, and the request behind it has its own.
            client.expect()
        else:
            assert answer is None or not answer.whole
            assert client.answer() is None
    assert world.rss_mb() - before < 4


EXTRA: dict[str, list[bytes]] = {
    "an answer too many": [OK_LINE + b"Content-Length: 2\r\n\r\nok" + OK_LINE + b"Content-Length: 6\r\n\r\npoison"],
    "an answer too many, later": [
        OK_LINE + b"Content-Length: 2\r\n\r\nok",
        OK_LINE + b"Content-Length: 6\r\n\r\npoison",
    ],
    "204 with a body": [b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison"],
    "304 with a body": [b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"],
    "body behind the last chunk": [CHUNKED + b"2\r\nok\r\n0\r\n\r\npoison"],
}


@pytest.mark.parametrize("case", EXTRA)
def test_what_an_upstream_says_unasked_reaches_nobody(world: World, case: str) -> None:
    path = f"/extra/{list(EXTRA).index(case)}"
    world.canary.scripts[path] = EXTRA[case]
    first, second, (extra, after) = two_requests(world, path)
    assert first.status in (200, 204, 304)
    assert first.body in (b"ok", b"")
    assert b"/after" in second.body
    assert extra != after


def two_requests(world: World, path: str) -> tuple[Answer, Answer, tuple[int, int]]:
    """Both answers on one connection to the gateway, and the numbers of the upstream's connections."""
    before, played = len(world.canary.requests), world.canary.played
    with RawClient(world.port) as client:
        client.send(get(path.encode()))
        first = client.answer()
        assert first is not None
        if path.startswith("/extra"):
            wait_until(lambda: world.canary.played > played, what="the upstream to have said all", every_s=0)
        client.send(get(b"/after"))
        second = client.expect()
    one, other = world.canary.requests[before:]
    return first, second, (one.connection, other.connection)


# Exhaustion.


def test_five_hundred_stalled_connections_harm_nobody(world: World) -> None:
    """GHSA-cwjm-3f7h-9hwq, CVE-2026-49975: in the request line, the head, the body; bounded memory, closed in time."""
    before = world.rss_mb()
    stalls = [
        b"GE",
        b"GET /p HTTP/1.1\r\n" + HOST + (b"X: " + b"y" * 4000 + b"\r\n") * 7,
        post(b"Content-Length: 5\r\n", b"he"),
        post(b"Transfer-Encoding: chunked\r\n", b"ffff\r\n" + b"x" * 1000),
    ]
    with contextlib.ExitStack() as stack:
        clients = []
        for number in range(500):
            clients.append(stack.enter_context(RawClient(world.port)))
            clients[-1].send(stalls[number % 4])
        for _ in range(50):
            assert ask(world.port, get()).status == 200
        # 125 heads of 28 KB, and what a connection, a task and an upstream connection take
        assert world.rss_mb() - before < 48
        for client in clients[:8:4] + clients[1:9:4]:
            # 408, or nothing for who never began; closed in any case
            assert [answer.status for answer in client.answers()] in ([408], [])
        wait_until(lambda: all(is_closed(client) for client in clients[1::4]), what="the stalled heads to be cut off")
        # Bodies have client_body_timeout: they are still there, and others were served beside them.
        assert not any(is_closed(client) for client in clients[2::4])
    assert ask(world.port, get()).status == 200


def test_a_head_that_drips_is_cut_off(world: World) -> None:
    """Also the second one of a connection: the time is for the whole head."""
    for first in (b"", get()):
        with RawClient(world.port) as client:
            client.send(first)
            if first:
                client.expect()
            client.send(b"GET /p HTTP/1.1\r\n")

            def is_over(client: RawClient = client) -> bool:
                client.send(b"X: y\r\n")
                return is_closed(client)

            # At this pace the limits of a head would be reached later than this.
            wait_until(is_over, what="the connection to be closed", deadline_s=4 * HEADER_TIMEOUT_S, every_s=0.1)


def is_closed(client: RawClient) -> bool:
    """Whether the gateway has closed; what it sent meanwhile is read away."""
    client.sock.setblocking(False)
    try:
        while client.sock.recv(65536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    else:
        return True
    finally:
        with contextlib.suppress(OSError):
            client.sock.settimeout(10)


def test_pipelined_requests_do_not_pile_up_in_memory(world: World) -> None:
    """A client that sends on while its first request is answered slowly is held back by its socket."""
    world.canary.delays_s["/slow"] = 1.0
    before = world.rss_mb()
    with RawClient(world.port) as client:
        client.send(get(b"/slow"))
        client.sock.setblocking(False)
        flood = get(b"/p", HOST + b"X: " + b"y" * 4000 + b"\r\n") * 64
        sent, idle_since_s = 0, time.monotonic()
        while sent < (64 << 20) and time.monotonic() - idle_since_s < 0.3:
            try:
                sent += client.sock.send(flood)
                idle_since_s = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
        assert sent < (64 << 20), "the gateway took all of it"
        assert world.rss_mb() - before < 8
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
