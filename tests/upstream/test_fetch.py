"""Fetching over real sockets from a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gw.errors import UpstreamError
from gw.upstream.client import UpstreamClient
from gw.upstream.errors import BadResponse, Closed, ConnectFailed, ConnectTimedOut, ReadTimedOut
from gw.upstream.fetch import NOT_KEPT, Fetched, Fetcher, parse_url
from tests.support.edge import OK, PATIENCE_S, ScriptedUpstream, Wire, eventually, replying, run, scripted_upstream

Answers = list[bytes]


@contextlib.asynccontextmanager
async def fetcher() -> AsyncIterator[tuple[Fetcher, UpstreamClient]]:
    client = UpstreamClient(asyncio.get_running_loop())
    try:
        yield Fetcher(client), client
    finally:
        await client.close()


def url(upstream: ScriptedUpstream, path: str = "/") -> str:
    return f"http://127.0.0.1:{upstream.port}{path}"


def recording(requests: list[bytes], answer: bytes = OK, body_bytes: int = 0) -> Any:
    async def play(wire: Wire) -> None:
        while True:
            requests.append(await wire.head() + await wire.exactly(body_bytes))
            wire.send(answer)

    return play


def test_requests_and_their_answers_over_one_connection() -> None:
    async def main() -> None:
        requests: list[bytes] = []
        answer = b"HTTP/1.1 201 Created\r\nX-A: 1\r\nServer: x\r\nContent-Length: 2\r\n\r\nok"
        async with scripted_upstream(recording(requests, answer, 3)) as upstream, fetcher() as (fetch, _):
            headers = [(b"X-B", b"2"), (b"Content-Length", b"9"), (b"Connection", b"close"), (b"Expect", b"x")]
            for _ in range(2):
                fetched = await fetch.fetch(
                    "POST", url(upstream, "/a%20b?c=d"), headers=headers, body=b"abc", timeout_s=PATIENCE_S
                )
                assert fetched == Fetched(201, [(b"x-a", b"1"), (b"content-length", b"2")], b"ok")
            head = b"POST /a%%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nX-B: 2\r\nContent-Length: 3\r\n\r\n"
            assert requests == [head % upstream.port + b"abc"] * 2
            assert upstream.connections == 1

    run(main())


def test_a_host_of_the_callers_and_connections_that_are_not_kept() -> None:
    async def main() -> None:
        requests: list[bytes] = []
        async with scripted_upstream(recording(requests)) as upstream, fetcher() as (fetch, _):
            for _ in range(2):
                await fetch.fetch(
                    "GET", url(upstream), headers=[(b"host", b"a.test")], keepalive=NOT_KEPT, timeout_s=PATIENCE_S
                )
            assert requests == [b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"] * 2
            assert upstream.connections == 2

    run(main())


@pytest.mark.parametrize(
    ("method", "raw", "status", "body"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", 200, b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        ("GET", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 403, b""),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", 200, b"abc"),
    ],
)
def test_forms_of_answers(method: str, raw: bytes, status: int, body: bytes) -> None:
    async def main() -> None:
        async with scripted_upstream(replying(raw)) as upstream, fetcher() as (fetch, _):
            for _ in range(2):
                fetched = await fetch.fetch(method, url(upstream), timeout_s=PATIENCE_S)
                assert (fetched.status, fetched.body) == (status, body)
            assert upstream.connections == 1

    run(main())


def test_a_body_that_the_end_of_the_connection_ends() -> None:
    async def main() -> None:
        raw = b"HTTP/1.1 200 OK\r\n\r\nall of it"
        async with scripted_upstream(replying(raw, close=True)) as upstream, fetcher() as (fetch, _):
            assert (await fetch.fetch("GET", url(upstream), timeout_s=PATIENCE_S)).body == b"all of it"

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n",
    ],
)
def test_a_body_over_the_limit_is_refused_and_its_connection_ended(raw: bytes) -> None:
    async def main() -> None:
        async with scripted_upstream(replying(raw)) as upstream, fetcher() as (fetch, client):
            with pytest.raises(BadResponse, match="larger than 10 bytes"):
                await fetch.fetch("GET", url(upstream), timeout_s=PATIENCE_S, max_body_bytes=10)
            assert repr(client) == "<UpstreamClient connections=0 opening=0 <IdlePool empty>>"

    run(main())


async def once_then_gone(wire: Wire) -> None:
    """Answers one request, takes the second, and goes without a word."""
    await wire.head()
    wire.send(OK)
    await wire.head()
    wire.abort()


@pytest.mark.parametrize(
    ("method", "is_repeatable", "repeated"),
    [("GET", None, True), ("PUT", None, True), ("POST", None, False), ("POST", True, True), ("GET", False, False)],
)
def test_a_stale_connection_is_made_good_once_where_that_is_safe(
    method: str, is_repeatable: bool | None, repeated: bool
) -> None:
    async def main() -> None:
        async with scripted_upstream(once_then_gone) as upstream, fetcher() as (fetch, _):
            async def ask() -> int:
                fetched = await fetch.fetch(
                    method, url(upstream), timeout_s=PATIENCE_S, is_repeatable=is_repeatable
                )
                return fetched.status

            assert await ask() == 200
            if repeated:
                assert await ask() == 200
            else:
                with pytest.raises(Closed):
                    await ask()
            assert upstream.connections == 1 + repeated

    run(main())


def test_a_fresh_connection_that_ends_is_not_tried_again() -> None:
    async def go(wire: Wire) -> None:
        await wire.head()
        wire.abort()

    async def main() -> None:
        async with scripted_upstream(go) as upstream, fetcher() as (fetch, _):
            with pytest.raises(Closed):
                await fetch.fetch("GET", url(upstream), timeout_s=PATIENCE_S)
            assert upstream.connections == 1

    run(main())


def test_time_outs_and_failures_are_upstream_errors_of_their_kind() -> None:
    async def silent(wire: Wire) -> None:
        await wire.rest()

    async def main() -> None:
        async with scripted_upstream(silent) as upstream, fetcher() as (fetch, client):
            with pytest.raises(ReadTimedOut):
                await fetch.fetch("GET", url(upstream), timeout_s=0.05)
            with pytest.raises(ConnectTimedOut):
                await fetch.fetch("GET", f"https://127.0.0.1:{upstream.port}/", timeout_s=0.05)
            with pytest.raises(ConnectFailed) as caught:
                await fetch.fetch("GET", "http://127.0.0.1:1/", timeout_s=PATIENCE_S)
            assert (isinstance(caught.value, UpstreamError), caught.value.status) == (True, 502)
            await eventually(lambda: repr(client) == "<UpstreamClient connections=0 opening=0 <IdlePool empty>>")

    run(main())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_cancelled_it_leaves_nothing_behind(scheme: str) -> None:
    """In the middle of an answer, and in the middle of a handshake."""

    async def main() -> None:
        async with scripted_upstream() as upstream, fetcher() as (fetch, client):
            where = f"{scheme}://127.0.0.1:{upstream.port}/"
            fetching = asyncio.ensure_future(fetch.fetch("GET", where, timeout_s=PATIENCE_S))
            wire = await upstream.accept()
            if scheme == "http":
                await wire.head()
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            await wire.rest()
            await eventually(lambda: repr(client) == "<UpstreamClient connections=0 opening=0 <IdlePool empty>>")

    run(main())


def test_nothing_is_left_for_the_collector() -> None:
    async def main() -> None:
        async with scripted_upstream(replying(OK)) as upstream, fetcher() as (fetch, _):
            async def ask() -> None:
                await fetch.fetch("GET", url(upstream), timeout_s=PATIENCE_S)
                # No handshake ever comes; nobody listens.
                for bad, timeout_s in ((f"https://127.0.0.1:{upstream.port}/", 0.05), ("http://127.0.0.1:1/", 9.0)):
                    with contextlib.suppress(UpstreamError):
                        await fetch.fetch("GET", bad, timeout_s=timeout_s)

            await ask()
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(5):
                    await ask()
                await asyncio.sleep(0.01)
                gc.collect()
                left = {type(each) for each in gc.garbage if type(each).__module__.startswith("gw.")}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not left

    run(main())


@pytest.mark.parametrize(
    ("written", "host", "port", "header", "target"),
    [
        ("http://a.test", "a.test", 80, b"a.test", b"/"),
        ("https://a.test?x=1#y", "a.test", 443, b"a.test", b"/?x=1"),
        ("https://a.test:444/p", "a.test", 444, b"a.test:444", b"/p"),
        ("http://[::1]:80/", "::1", 80, b"[::1]", b"/"),
        ("http://[::1]:81/", "::1", 81, b"[::1]:81", b"/"),
    ],
)
def test_urls(written: str, host: str, port: int, header: bytes, target: bytes) -> None:
    assert parse_url(written) == (host, port, written.startswith("https"), header, target)


@pytest.mark.parametrize(
    "written", ["ftp://a", "a.test/", "http://", "http://u:p@a/", "http://a/b c", "http://a/\r\nX: y", "http://a:x/"]
)
def test_what_is_no_url(written: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_url(written)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("G T", []),
        ("GET\r\n", []),
        ("GET", [(b"a b", b"")]),
        ("GET", [(b"", b"")]),
        ("GET", [(b"a", b"b\r\nc: d")]),
        ("GET", [(b"a\n", b"b")]),
    ],
)
def test_what_cannot_be_sent_is_not(method: str, headers: list[tuple[bytes, bytes]]) -> None:
    async def main() -> None:
        async with fetcher() as (fetch, _):
            with pytest.raises(ValueError):
                await fetch.fetch(method, "http://127.0.0.1:1/", headers=headers, timeout_s=1.0)

    run(main())
