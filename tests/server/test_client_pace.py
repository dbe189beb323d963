"""A client that takes nothing of the end of an answer, which the server's transport holds without complaint."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from gw.server.asgi_types import Application
from gw.server.client_pace import SendWatch, unsent_bytes
from gw.server.protocol import ClientTimes, Connections, GatewayProtocol
from tests.support.edge import Worker, eventually, run

# Below the transport's high-water mark (64 KiB), above what two sockets with the smallest buffers hold.
BODY = bytes(48 * 1024)


async def _answer(scope: object, receive: object, send: object) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(BODY))]})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": BODY})  # type: ignore[operator]


@contextlib.asynccontextmanager
async def stalled_client(app: Application, head: bytes):
    """A client with a small receive buffer that asks and does not read; the server's connections beside it."""
    loop = asyncio.get_running_loop()
    worker, connections = Worker(app, loop), Connections()
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    listening.bind(("127.0.0.1", 0))
    times = ClientTimes(header_s=60, body_s=60, idle_s=1, send_s=0.2)
    server = await loop.create_server(lambda: GatewayProtocol(worker, app, connections, times), sock=listening)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    try:
        await loop.sock_connect(client, listening.getsockname())
        await loop.sock_sendall(client, head)
        yield client, connections
    finally:
        client.close()
        server.close()
        await eventually(lambda: len(connections) == 0)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_the_end_of_an_answer_is_not_kept_for_ever(connection: str) -> None:
    async def main() -> None:
        head = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n".encode()
        async with stalled_client(_answer, head) as (client, connections):
            await eventually(lambda: len(connections) == 1)
            await eventually(lambda: len(connections) == 0)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "cut off, not closed in order"

    run(main())


def test_progress_is_what_the_client_takes_out_of_the_kernel() -> None:
    """Here the transport's own buffer stays as it is: only the other end of the socket moves."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        watch = SendWatch(loop, transport, 0.2)
        try:
            transport.write(bytes(1 << 20))
            await asyncio.sleep(0)
            before = unsent_bytes(transport)
            assert before > transport.get_write_buffer_size() > 0
            watch.start()
            await loop.sock_recv(theirs, 1 << 18)
            assert unsent_bytes(transport) < before
            await eventually(transport.is_closing)
        finally:
            watch.stop()
            transport.abort()
            theirs.close()
            await asyncio.sleep(0)

    run(main())
