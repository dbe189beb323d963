"""The upstream client on real sockets: which idle connection is used again."""

import asyncio
import socket

import pytest
import uvloop

from gw.errors import UpstreamError
from gw.upstream.client import UpstreamClient
from gw.upstream.connection import UpstreamConnection
from gw.upstream.target import Target


class Opener:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.opened: asyncio.Future[UpstreamConnection] = loop.create_future()

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        self.opened.set_result(connection)

    def upstream_failed(self, error: UpstreamError) -> None:
        self.opened.set_exception(error)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", None])
def test_an_idle_connection_with_something_to_be_read_is_not_used_again(said: bytes | None) -> None:
    """Though the loop has had no time to read it: None is the end of the connection."""

    async def main() -> None:
        client = UpstreamClient(asyncio.get_running_loop())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            target = Target("127.0.0.1", listener.getsockname()[1])
            opener = Opener(client.loop)
            client.open(target, 5.0, opener)
            connection = await opener.opened
            peer, _ = listener.accept()
            with peer:
                client.connection_idle(connection, 1)
                if said is None:
                    peer.close()
                else:
                    peer.sendall(said)
                taken = client.take_idle(target)
                assert taken is (connection if said == b"" else None)
                assert connection.closed is (said != b"")
                await client.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
