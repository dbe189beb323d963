"""Nodes that are names: a real DNS server, real servers on several addresses of this host."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gw.upstream.client import UpstreamClient
from gw.upstream.errors import ConnectFailed, ConnectTimedOut
from gw.upstream.fetch import KEPT, NOT_KEPT, Fetcher
from gw.upstream.lookup import ResolverOptions, SystemLookup
from tests.support.dns_server import SERVFAIL, SILENT, DnsServer, Records, dns_server
from tests.support.edge import OK, PATIENCE_S, eventually, run, scripted_upstream

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"
A, B, SIX = "127.0.0.1", "127.0.0.2", "::1"


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with dns_server() as server:
        yield server


@contextlib.asynccontextmanager
async def nodes(*addresses: str) -> AsyncIterator[int]:
    """Servers on one port of several addresses; each answers with its address. Yields the port."""
    async with contextlib.AsyncExitStack() as stack:
        port = 0
        for address in addresses:
            server = await asyncio.start_server(_answering(address), address, port)
            stack.callback(server.close)
            port = server.sockets[0].getsockname()[1]
        yield port


def _answering(address: str):  # type: ignore[no-untyped-def]
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(address), address.encode()))
        writer.close()

    return serve


class Names:
    """A client that resolves with the test's server, and asks whoever a name leads to for its address."""

    def __init__(self, dns: DnsServer, port: int, tmp_path: Path) -> None:
        options = ResolverOptions(servers=(dns.address,), timeout_s=2.0)
        lookup = SystemLookup(options, hosts=tmp_path / "none", resolv_conf=tmp_path / "none")
        self.client = UpstreamClient(asyncio.get_running_loop(), lookup=lookup)
        self.port = port

    async def ask(
        self, name: str = "n.test", *, scheme: str = "http", keeps: bool = False, timeout_s: float = PATIENCE_S
    ) -> str:
        fetched = await Fetcher(self.client).fetch(
            "GET",
            f"{scheme}://{name}:{self.port}/",
            timeout_s=timeout_s,
            ssl_verify=False,
            keepalive=KEPT if keeps else NOT_KEPT,
        )
        return fetched.body.decode()


@contextlib.asynccontextmanager
async def names(dns: DnsServer, port: int, tmp_path: Path) -> AsyncIterator[Names]:
    asking = Names(dns, port, tmp_path)
    try:
        yield asking
    finally:
        await asking.client.close()


def test_connections_take_turns_over_all_addresses_of_both_types(dns: DnsServer, tmp_path: Path) -> None:
    dns.records["n.test"] = Records(a=[A, B], aaaa=[SIX])

    async def main() -> None:
        async with nodes(A, B, SIX) as port, names(dns, port, tmp_path) as asking:
            assert Counter([await asking.ask() for _ in range(12)]) == {A: 4, B: 4, SIX: 4}
        assert dns.count("n.test") == 1

    run(main())


@pytest.mark.parametrize("host", ["[::1]", "six.test", "localhost", "127.0.0.1"])
def test_one_address_is_enough(dns: DnsServer, tmp_path: Path, host: str) -> None:
    dns.records["six.test"] = Records(aaaa=[SIX])
    node = A if host == "127.0.0.1" else SIX

    async def main() -> None:
        async with nodes(node) as port, names(dns, port, tmp_path) as asking:
            assert [await asking.ask(host) for _ in range(3)] == [node] * 3

    run(main())


def test_a_dead_address_costs_no_request_and_is_not_tried_each_time(
    dns: DnsServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dns.records["n.test"] = Records(a=[A, B], aaaa=["100::1"])

    async def main() -> None:
        async with nodes(B) as port, names(dns, port, tmp_path) as asking:
            assert [await asking.ask() for _ in range(9)] == [B] * 9

    with caplog.at_level(logging.INFO, "gw.upstream.client"):
        run(main())
    tried = [record.args[2] for record in caplog.records if isinstance(record.args, tuple)]
    assert sorted(tried) == ["100::1", A]


def test_an_address_that_is_silent_has_a_share_of_the_time_alone(dns: DnsServer, tmp_path: Path) -> None:
    """A listener whose queue is full drops what would be the next connection."""
    dns.records["n.test"] = Records(a=[A, B])

    async def main() -> None:
        async with nodes(B) as port, names(dns, port, tmp_path) as asking:
            with full_listener(A, port):
                # Half of it is the silent one's share; the other half is for a machine that does other things, too.
                assert [await asking.ask(timeout_s=4.0) for _ in range(4)] == [B] * 4

    run(main())


@contextlib.contextmanager
def full_listener(host: str, port: int) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield


def test_when_no_address_takes_a_connection_the_last_reason_is_told(dns: DnsServer, tmp_path: Path) -> None:
    dns.records["n.test"] = Records(a=[A, B])

    async def main() -> None:
        async with names(dns, 1, tmp_path) as asking:
            with pytest.raises(ConnectFailed, match=r"127\.0\.0\.[12]: .*Connect"):
                await asking.ask()

    run(main())


def test_a_moved_name_is_followed_after_its_ttl_by_kept_connections_too(dns: DnsServer, tmp_path: Path) -> None:
    dns.records["n.test"] = Records(a=[A], ttl_s=1)

    async def main() -> None:
        async with nodes(A, B) as port, names(dns, port, tmp_path) as asking:
            assert await asking.ask(keeps=True) == A
            dns.records["n.test"] = Records(a=[B], ttl_s=1)
            asked = dns.count("n.test")
            await eventually(lambda: "empty" in repr(asking.client) and dns.count("n.test") > asked)
            assert await asking.ask(keeps=True) == B

    run(main())


def test_a_connection_that_is_busy_when_its_name_moves_serves_no_other_request(
    dns: DnsServer, tmp_path: Path
) -> None:
    dns.records["n.test"] = Records(a=[A], ttl_s=1)

    async def main() -> None:
        async with scripted_upstream() as upstream, names(dns, upstream.port, tmp_path) as asking:
            first = asyncio.ensure_future(asking.ask(keeps=True))
            wire = await upstream.accept()
            await wire.head()
            await moved(dns)
            wire.send(OK)
            assert await first == "ok"
            assert await wire.rest() == b""
            assert "empty" in repr(asking.client)

    run(main())


async def moved(dns: DnsServer) -> None:
    """Let the name lead elsewhere, and wait until that has been noticed: the one after is asked for."""
    dns.records["n.test"] = Records(a=[B], ttl_s=1)
    asked = dns.count("n.test")
    await eventually(lambda: dns.count("n.test") > asked + 1)


def test_a_connection_that_is_being_opened_when_its_name_moves_serves_one_request(
    dns: DnsServer, tmp_path: Path
) -> None:
    dns.records["n.test"] = Records(a=[A], ttl_s=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    has_moved = threading.Event()

    def serve(listener: socket.socket) -> bytes:
        """Take a connection, leave its handshake lying until the name has moved; then answer one request."""
        plain, _ = listener.accept()
        plain.settimeout(PATIENCE_S)
        has_moved.wait(PATIENCE_S)
        with plain, context.wrap_socket(plain, server_side=True) as accepted:
            accepted.recv(4096)
            accepted.sendall(OK)
            with contextlib.suppress(OSError):
                return accepted.recv(4096)
            return b""

    async def main() -> None:
        with socket.create_server((A, 0)) as listener:
            listener.settimeout(PATIENCE_S)
            async with names(dns, listener.getsockname()[1], tmp_path) as asking:
                serving = asyncio.get_running_loop().run_in_executor(None, serve, listener)
                first = asyncio.ensure_future(asking.ask(scheme="https", keeps=True))
                await eventually(lambda: dns.count("n.test") > 0)
                await moved(dns)
                has_moved.set()
                assert await first == "ok"
                assert await serving == b""
                assert "empty" in repr(asking.client)

    run(main())


def test_the_last_good_addresses_serve_while_dns_fails(dns: DnsServer, tmp_path: Path) -> None:
    dns.records["n.test"] = Records(a=[A], ttl_s=1)

    async def main() -> None:
        async with nodes(A) as port, names(dns, port, tmp_path) as asking:
            assert await asking.ask() == A
            dns.behaviour[""] = SERVFAIL
            asked = dns.count("n.test")
            await eventually(lambda: dns.count("n.test") > asked)
            assert await asking.ask() == A
            with pytest.raises(ConnectFailed, match="SERVFAIL from"):
                await asking.ask("other.test")

    run(main())


def test_a_name_that_nobody_answers_for_ends_in_time(dns: DnsServer, tmp_path: Path) -> None:
    dns.behaviour[""] = SILENT

    async def main() -> None:
        async with names(dns, 1, tmp_path) as asking:
            with pytest.raises(ConnectTimedOut):
                await asking.ask(timeout_s=0.1)

    run(main())


def test_lookups_that_fail_leave_nothing_for_the_collector(dns: DnsServer, tmp_path: Path) -> None:
    dns.records["n.test"] = Records(a=[A])
    dns.behaviour["bad.test"] = SERVFAIL

    async def main() -> None:
        async with names(dns, 1, tmp_path) as asking:
            lookup = asking.client._resolver._lookup

            async def each() -> None:
                for name in ("n.test", "bad.test", "none.test"):
                    with contextlib.suppress(OSError):
                        await lookup(name)

            await each()
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(3):
                    await each()
                await asyncio.sleep(0.01)
                gc.collect()
                left = {type(found) for found in gc.garbage}
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert not left

    run(main())
