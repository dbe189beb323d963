"""A connection to an upstream by itself, without a gateway round it, and the node's end of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gw.errors import UpstreamError
from gw.upstream.client import UpstreamClient
from gw.upstream.connection import UpstreamConnection
from gw.upstream.target import Target


class _Opener:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[UpstreamConnection] = loop.create_future()

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        self.opened.set_result(connection)

    def upstream_failed(self, error: UpstreamError) -> None:
        self.opened.set_exception(error)


@asynccontextmanager
async def opened(client: UpstreamClient) -> AsyncIterator[tuple[UpstreamConnection, socket.socket]]:
    """One that nobody uses yet. The client is closed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opener = _Opener(client.loop)
        client.open(Target("127.0.0.1", listener.getsockname()[1]), 5.0, opener)
        connection = await opener.opened
        peer, _ = listener.accept()
        with peer:
            try:
                yield connection, peer
            finally:
                await client.close()
