"""A connection is freed when it ends, without the collector, which does not look at what lasts (gw/collector.py)."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import pytest

from gw.pipeline.gateway import Gateway
from gw.server.asgi import traffic_app
from gw.server.h1.connection import H1Connection
from gw.server.protocol import ClientTimes, Connections, GatewayProtocol
from gw.upstream.client import UpstreamClient
from tests.support.edge import (
    LIMITS,
    OK,
    StaticRoutes,
    Worker,
    compiled,
    eventually,
    replying,
    run,
    scripted_upstream,
    upstream_dict,
)
from tests.support.garbage import garbage_kept, ours_in_the_garbage

CONNECTIONS = 30
GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


def asks_and_closes(client: socket.socket) -> None:
    for _ in range(3):
        client.sendall(GET % b"/")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def resets(client: socket.socket) -> None:
    asks_and_closes(client)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def leaves_in_the_middle(client: socket.socket) -> None:
    asks_and_closes(client)
    client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")


def sends_nonsense(client: socket.socket) -> None:
    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 400")


def asks_for_a_dead_upstream(client: socket.socket) -> None:
    client.sendall(GET % b"/dead")
    assert client.recv(65536).startswith(b"HTTP/1.1 502")


def asks_for_nothing(client: socket.socket) -> None:
    pass


@pytest.mark.parametrize("edge", ["asgi", "h1"])
@pytest.mark.parametrize(
    "behave",
    [asks_and_closes, resets, leaves_in_the_middle, sends_nonsense, asks_for_a_dead_upstream, asks_for_nothing],
)
def test_an_ended_connection_leaves_nothing_for_the_collector(
    behave: Callable[[socket.socket], None], edge: str
) -> None:
    def clients(port: int, count: int) -> None:
        for _ in range(count):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                behave(client)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with scripted_upstream(replying(OK)) as upstream:
            live, upstreams = Connections(), UpstreamClient(loop)
            routes = {"/": compiled("1", upstream_dict(upstream.port)), "/dead": compiled("2", upstream_dict(1))}
            gateway = Gateway(StaticRoutes(routes), upstreams, server_name="Jitterway/0")
            app = traffic_app(gateway)
            worker, times = Worker(app, loop), ClientTimes(header_s=60, body_s=60, idle_s=60, send_s=10)

            def protocol() -> asyncio.Protocol:
                if edge == "h1":
                    return H1Connection(gateway, live, LIMITS, times)
                return GatewayProtocol(worker, app, live, times)

            server = await loop.create_server(protocol, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            await loop.run_in_executor(None, clients, port, 3)
            await eventually(lambda: worker.nr_conns == 0 and len(live) == 0)
            with garbage_kept():
                await loop.run_in_executor(None, clients, port, CONNECTIONS)
                await eventually(lambda: worker.nr_conns == 0 and len(live) == 0)
                await asyncio.sleep(0.05)  # the last task's end is nobody's event
                left = ours_in_the_garbage()
            server.close()
            await upstreams.close()
            assert not left

    run(test())
