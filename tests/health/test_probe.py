"""One probe of a real server: what it sends, and what it makes of each way to answer or not to."""

from __future__ import annotations

import asyncio
import gc
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from gw.health.checker import Target
from gw.health.checks import ActiveChecks, Checks
from gw.health.probe import StreamProbe, read_status
from tests.support.asynchronous import asynchronous
from tests.support.ports import free_ports

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def active(**written: Any) -> ActiveChecks:
    # Not through the schema: these shall not take seconds.
    return Checks.from_dict({"active": {"timeout": 5, **written}}).active


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def saying(answer: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return serve


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()  # until the probe gives up


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 1000000\r\n\r\n", 503),
        (b"HTTP/1.1 204\r\n\r\n", 204),
        (b"HTTP/1.1 200 OK\n", 200),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 0),
        (b"HTTP/1.1 abc\r\n", 0),
        (b"x" * 100_000 + b"\r\n", 0),
        (b"\r\n", 0),
    ],
)
@asynchronous
async def test_statuses(answer, status):
    async with serving(saying(answer)) as port:
        assert await StreamProbe()(Target("127.0.0.1", port, "a.example"), active()) == status


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200"])
@asynchronous
async def test_a_connection_that_ends_before_its_line(answer):
    async with serving(saying(answer)) as port:
        with pytest.raises(ConnectionError):
            await StreamProbe()(Target("127.0.0.1", port, "a.example"), active())


@pytest.mark.parametrize("type", ["http", "https", "tcp"])
@asynchronous
async def test_nobody_listens(type):
    with pytest.raises(ConnectionRefusedError):
        await StreamProbe()(Target("127.0.0.1", free_ports(1)[0], "a.example"), active(type=type))


@pytest.mark.parametrize("type", ["http", "https"])
@asynchronous
async def test_a_server_that_never_answers(type):
    async with serving(silent) as port:
        with pytest.raises(TimeoutError):
            await StreamProbe()(Target("127.0.0.1", port, "a.example"), active(type=type, timeout=0.1))


@asynchronous
async def test_to_connect_is_all_a_tcp_probe_wants():
    async with serving(silent) as port:
        assert await StreamProbe()(Target("127.0.0.1", port, "a.example"), active(type="tcp")) is None


@asynchronous
async def test_a_name_is_resolved():
    async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert await StreamProbe()(Target("localhost", port, "a.example"), active()) == 200


@pytest.mark.parametrize(
    ("addresses", "is_up"),
    [(("127.0.0.1",), True), (("127.0.0.9", "127.0.0.1"), True), (("127.0.0.9",), False), ((), False)],
)
@asynchronous
async def test_a_name_is_up_when_any_of_its_addresses_is(addresses, is_up):
    asked = []

    async def look_up(host: str) -> tuple[str, ...]:
        asked.append(host)
        return addresses

    probe = StreamProbe(addresses=look_up)
    async with serving(silent) as port:
        if is_up:
            assert await probe(Target("node.example", port, "a.example"), active(type="tcp")) is None
        else:
            with pytest.raises(OSError):
                await probe(Target("node.example", port, "a.example"), active(type="tcp"))
        assert await probe(Target("127.0.0.1", port, "a.example"), active(type="tcp")) is None
    assert asked == ["node.example"]


@pytest.mark.parametrize(
    ("written", "request_bytes"),
    [
        ({}, b"GET / HTTP/1.1\r\nConnection: close\r\nHost: a.example\r\n\r\n"),
        (
            {"http_path": "/live?x=1", "req_headers": ["User-Agent: probe", "X-A: b"]},
            b"GET /live?x=1 HTTP/1.1\r\nConnection: close\r\nUser-Agent: probe\r\nX-A: b\r\nHost: a.example\r\n\r\n",
        ),
        (
            {"http_method": "POST", "http_req_body": "é"},
            b"POST / HTTP/1.1\r\nConnection: close\r\nHost: a.example\r\nContent-Length: 2\r\n\r\n\xc3\xa9",
        ),
    ],
)
@asynchronous
async def test_what_a_probe_sends(written, request_bytes):
    received = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received = await reader.readexactly(len(request_bytes))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        received += await reader.read()

    async with serving(serve) as port:
        assert await StreamProbe()(Target("127.0.0.1", port, "a.example"), active(**written)) == 200
    assert received == request_bytes


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


@pytest.mark.parametrize(
    ("authorities", "host_header", "verify", "status"),
    [
        ("ca.pem", "etcd.test", True, 200),
        ("ca.pem", "etcd.test:8443", True, 200),
        ("ca.pem", "127.0.0.1", True, 200),
        ("ca.pem", "other.test", True, None),
        ("other-ca.pem", "etcd.test", True, None),
        ("other-ca.pem", "other.test", False, 200),
    ],
)
@asynchronous
async def test_certificates(authorities, host_header, verify, status):
    probe = StreamProbe(TLS / authorities)
    checks = active(type="https", https_verify_certificate=verify)
    async with serving(saying(b"HTTP/1.1 200 OK\r\n\r\n"), server_context()) as port:
        target = Target("127.0.0.1", port, host_header)
        if status is None:
            with pytest.raises(ssl.SSLCertVerificationError):
                await probe(target, checks)
        else:
            assert await probe(target, checks) == status


@asynchronous
async def test_no_connection_is_left_behind():
    """A transport that was not closed warns when it is collected."""
    async with serving(silent) as port:
        target = Target("127.0.0.1", port, "a.example")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for checks in (active(timeout=0.05), active(type="tcp")):
                for _ in range(5):
                    with suppress(TimeoutError):
                        await StreamProbe()(target, checks)
            probe = asyncio.ensure_future(StreamProbe()(target, active()))
            await asyncio.sleep(0)
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
            gc.collect()
        assert [str(warning.message) for warning in caught] == []


def test_a_line_that_was_cut_off():
    with pytest.raises(ConnectionError):
        read_status(b"HTTP/1.1 200 O")
