"""The upstream client on real sockets: which idle connection is used again."""

import asyncio

import pytest
import uvloop

from gw.upstream.client import UpstreamClient
from tests.support.opened import opened


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", None])
def test_an_idle_connection_with_something_to_be_read_is_not_used_again(said: bytes | None) -> None:
    """Though the loop has had no time to read it: None is the end of the connection."""

    async def main() -> None:
        client = UpstreamClient(asyncio.get_running_loop())
        async with opened(client) as (connection, peer):
            client.connection_idle(connection, 1)
            if said is None:
                peer.close()
            else:
                peer.sendall(said)
            taken = client.take_idle(connection.target)
            assert taken is (connection if said == b"" else None)
            assert connection.closed is (said != b"")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
