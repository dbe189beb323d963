"""The agent's socket: the file, who may connect, and what a peer can do to others by sending nonsense."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gw.admin.agent_client import AgentClient
from gw.model.operations import FRAME_HEADER, Outcome, Request, Status, encode_request
from sync_agent.admin.operations import AdminLimits
from sync_agent.admin.socket import ListeningSocket, Peer, PeerRule, SocketError, peer_rule
from tests.support.admin import agent, sqlite_store


def test_mode_and_place(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    listening = ListeningSocket(path)
    with listening.socket:
        status = path.stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o660
        assert os.listdir(tmp_path) == ["agent.sock"], "nothing is left of the making"
        listening.close()
        assert not path.exists()
        listening.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file to another group")
def test_group_of_the_workers(tmp_path: Path) -> None:
    listening = ListeningSocket(tmp_path / "agent.sock", "nogroup")
    with listening.socket:
        assert (tmp_path / "agent.sock").group() == "nogroup"
        listening.close()


def test_group_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="no group 'no-such-group'"):
        ListeningSocket(tmp_path / "agent.sock", "no-such-group")
    assert os.listdir(tmp_path) == []


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    before = path.stat().st_ino
    listening = ListeningSocket(path)
    with listening.socket:
        assert path.stat().st_ino != before
        listening.close()


def test_a_living_agent_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    first = ListeningSocket(path)
    with first.socket:
        with pytest.raises(SocketError, match="another agent answers"):
            ListeningSocket(path)
        first.close()


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.mkdir()])
def test_what_is_no_socket_is_not_replaced(tmp_path: Path, make: object) -> None:
    path = tmp_path / "agent.sock"
    make(path)  # type: ignore[operator]
    with pytest.raises(SocketError, match="is not a socket"):
        ListeningSocket(path)
    assert path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "agent.sock").symlink_to(target)
    with pytest.raises(SocketError, match="is not a socket"):
        ListeningSocket(tmp_path / "agent.sock")
    assert target.read_text() == "precious"


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match=r"at most 107 bytes; choose a shorter gw\.run_dir"):
        ListeningSocket(tmp_path / ("x" * 120))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SocketError, match="cannot be made"):
        ListeningSocket(tmp_path / "nowhere" / "agent.sock")


def test_closing_leaves_another_agent_s_socket(tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    old = ListeningSocket(path)
    old.socket.close()
    new = ListeningSocket(path)
    with new.socket:
        old.close()
        assert path.exists()
        new.close()


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        (Peer(1, 0, 0), True),
        (Peer(1, os.geteuid(), 12345), True),
        (Peer(1, 4001, 5), True),
        (Peer(1, 4002, 77), True),
        (Peer(1, 4002, 78), False),
    ],
)
def test_who_may_connect(peer: Peer, allowed: bool) -> None:
    rule = PeerRule(frozenset({0, os.geteuid(), 4001}), 77)
    assert rule.allows(peer) is allowed
    assert peer_rule(None, [4001]) == PeerRule(frozenset({0, os.geteuid(), 4001}), None)


CONNECT_AS = """
import os, socket, sys
os.setgid(65534), os.setuid(65534)
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect(sys.argv[1])
    try:
        peer.sendall(bytes.fromhex(sys.argv[2]))
        print(len(peer.recv(10)))
    except OSError:
        print(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
@pytest.mark.parametrize(("allowed_uids", "answered"), [((), False), ((65534,), True)])
def test_a_stranger_is_turned_away_unread(tmp_path: Path, allowed_uids: tuple[int, ...], answered: bool) -> None:
    """Even one who has got past the permissions of the file."""
    frame = encode_request(Request(1, Status()))

    async def run() -> str:
        from sync_agent.admin.keys import AdminKeys
        from sync_agent.admin.server import AdminServer

        store = sqlite_store(tmp_path)
        server = AdminServer(socket_path, store, AdminKeys(()), AdminLimits(), dict, None, allowed_uids)
        await server.start()
        socket_path.chmod(0o777)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CONNECT_AS, str(socket_path), frame.hex(), stdout=subprocess.PIPE
        )
        out, _ = await process.communicate()
        await server.close()
        await store.close()
        return out.decode().strip()

    # pytest's own directories are closed to others.
    with open_directory() as directory:
        socket_path = directory / "agent.sock"
        assert (asyncio.run(run()) != "0") is answered


class open_directory:  # noqa: N801
    """A directory that everybody may enter."""

    def __enter__(self) -> Path:
        import tempfile

        self._made = tempfile.TemporaryDirectory()
        Path(self._made.name).chmod(0o755)
        return Path(self._made.name)

    def __exit__(self, *exc_info: object) -> None:
        self._made.cleanup()


NONSENSE = [
    FRAME_HEADER.pack(2**32 - 1),
    FRAME_HEADER.pack(100 * 1024 * 1024) + b"x",
    FRAME_HEADER.pack(0),
    FRAME_HEADER.pack(1) + b"\xc1",
    FRAME_HEADER.pack(4) + msgpack.packb([1, 2, 3]),
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    *(
        FRAME_HEADER.pack(len(payload)) + payload
        for payload in (
            msgpack.packb(message)
            for message in (
                {},
                {"id": 1},
                {"id": "1", "op": "status", "api_key": None, "fields": {}},
                {"id": True, "op": "status", "api_key": None, "fields": {}},
                {"id": 1, "op": "nonsense", "api_key": None, "fields": {}},
                {"id": 1, "op": "get", "api_key": None, "fields": {"kind": "routes"}},
                {"id": 1, "op": "get", "api_key": 5, "fields": {"kind": "routes", "id": "1"}},
                {"id": 1, "op": "get", "api_key": None, "fields": {"kind": "routes", "id": b"1"}},
                {"id": 1, "op": "put", "api_key": None, "fields": {"kind": "routes", "id": "1", "ttl_s": None}},
                {"id": 1, "op": "delete", "api_key": None, "fields": {"kind": "routes", "id": "1", "force": 1}},
                {1: 2},
            )
        )
    ),
    FRAME_HEADER.pack(200_000) + b"\x91" * 200_000,
]


async def _sends(path: Path, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_closes_its_connection_and_harms_no_other(tmp_path: Path, data: bytes) -> None:
    async def run() -> None:
        store = sqlite_store(tmp_path)
        async with agent(tmp_path, store):
            client = AgentClient(tmp_path / "agent.sock")
            assert (await client.call(Status())).outcome is Outcome.OK
            assert await _sends(tmp_path / "agent.sock", data) == b""
            connection = client._connection
            assert (await client.call(Status())).outcome is Outcome.OK
            assert client._connection is connection
            await client.close()
        await store.close()

    asyncio.run(run())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_at_all(tmp_path: Path, data: bytes) -> None:
    async def run() -> None:
        store = sqlite_store(tmp_path)
        async with agent(tmp_path, store):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
            writer.write(data)
            writer.write_eof()
            async with asyncio.timeout(10):
                await reader.read()
            writer.close()
            client = AgentClient(tmp_path / "agent.sock")
            assert (await client.call(Status())).outcome is Outcome.OK
            await client.close()
        await store.close()

    asyncio.run(run())


def test_a_peer_that_goes_in_the_middle_of_a_frame(tmp_path: Path) -> None:
    async def run() -> None:
        store = sqlite_store(tmp_path)
        frame = encode_request(Request(1, Status()))
        async with agent(tmp_path, store) as server:
            for length in range(len(frame)):
                _, writer = await asyncio.open_unix_connection(tmp_path / "agent.sock")
                writer.write(frame[:length])
                writer.close()
                await writer.wait_closed()
            async with asyncio.timeout(10):
                while server._connections:
                    await asyncio.sleep(0.01)
        await store.close()

    asyncio.run(run())


def test_too_many_connections(tmp_path: Path) -> None:
    async def run() -> None:
        store = sqlite_store(tmp_path)
        async with agent(tmp_path, store, limits=AdminLimits(connections=2)):
            clients = [AgentClient(tmp_path / "agent.sock") for _ in range(2)]
            for client in clients:
                await client.call(Status())
            assert await _sends(tmp_path / "agent.sock", encode_request(Request(1, Status()))) == b""
            for client in clients:
                assert (await client.call(Status())).outcome is Outcome.OK
                await client.close()
        await store.close()

    asyncio.run(run())


def test_answers_that_are_not_read(tmp_path: Path) -> None:
    """A peer that asks and never reads holds its own connection up, and no turn for long enough to matter."""

    async def run() -> None:
        store = sqlite_store(tmp_path)
        async with agent(tmp_path, store, status=lambda: {"x": "y" * 100_000}):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                peer.connect(str(tmp_path / "agent.sock"))
                peer.send(b"".join(encode_request(Request(number, Status())) for number in range(50)))
                client = AgentClient(tmp_path / "agent.sock")
                assert (await client.call(Status())).outcome is Outcome.OK
                await client.close()
        await store.close()

    asyncio.run(run())


def test_frame_header_is_little_endian() -> None:
    frame = encode_request(Request(7, Status()))
    assert struct.unpack("<I", frame[:4])[0] == len(frame) - 4
    assert msgpack.unpackb(frame[4:]) == {"id": 7, "op": "status", "api_key": None, "fields": {}}
