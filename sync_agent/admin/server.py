"""Serves the admin operations on the agent's Unix socket. The wire form is gw/model/operations.py.

Nobody at the other end can harm more than their own connection: a peer that the kernel does not vouch for as one of
ours is turned away before a byte is read; a frame that is too long or malformed closes its connection; a peer that
does not read its answers is dropped after a time; and at most so many operations are under way, beyond which frames
stay unread. Status needs no turn, so that `gw status` also answers when everybody waits for a dead store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gw.clock import Clock, SystemClock
from gw.model.operations import (
    FRAME_HEADER,
    Answer,
    Item,
    MalformedMessage,
    Outcome,
    Request,
    Status,
    decode_request,
    encode_answer,
    encode_part,
    frame_length,
)
from gw.schema import NO_PLUGINS, PluginSchemas
from sync_agent.admin.keys import AdminKeys
from sync_agent.admin.operations import AdminLimits, Operations
from sync_agent.admin.socket import ListeningSocket, Peer, peer_of, peer_rule
from sync_agent.encryption import PLAIN, Protection
from sync_agent.identities import Identities
from sync_agent.stores.base import Store

log = logging.getLogger(__name__)

# A worker reads its answers between two requests; one that has not for this long hangs or is stopped.
_SEND_TIMEOUT_S: Final = 30.0
# What a stopping agent grants operations under way: more than a healthy store's write takes, less than the 5 s after
# which `gw start` kills it.
_CLOSE_GRACE_S: Final = 3.0
# Items of a list are sent on when they make up this much, so that a long list never lies in memory as a whole, and
# other answers get in between.
_PART_BYTES: Final = 256 * 1024


class AdminServer:
    """The socket and its connections. Nothing is opened before `start`."""

    def __init__(
        self,
        socket_path: Path,
        store: Store,
        admin_keys: AdminKeys,
        limits: AdminLimits,
        status: Callable[[], Mapping[str, Any]],
        group: str | None = None,
        allowed_uids: Collection[int] = (),
        *,
        processed: Callable[[], int] = lambda: 0,
        prefix: str = "/apisix",
        clock: Clock | None = None,
        plugins: PluginSchemas = NO_PLUGINS,
        protection: Protection = PLAIN,
        identities: Identities | None = None,
        allow_code: bool = False,
    ) -> None:
        """`prefix` is the store's, shown in the keys of answers; `group` and `allowed_uids` are the workers'.

        `plugins` are the ones that resources may use, `protection` keeps their secrets.

        `processed` is the store's revision up to which everything is published; 0: not known. `identities` are those
        of what is published. `allow_code`: whether resources may bring code.
        """
        self._path = socket_path
        self._group = group
        self._allowed_uids = allowed_uids
        self._limits = limits
        self._operations = Operations(
            store,
            admin_keys,
            clock or SystemClock(),
            prefix=prefix,
            resource_bytes=limits.resource_bytes,
            status=status,
            processed=processed,
            plugins=plugins,
            protection=protection,
            identities=identities,
            allow_code=allow_code,
            document_bytes=limits.document_bytes,
        )
        self._turns = asyncio.Semaphore(limits.concurrent_operations)
        self._connections: set[_Connection] = set()
        self._listening: ListeningSocket | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Open the socket and serve. Raises SocketError when it cannot be opened."""
        self._rule = peer_rule(self._group, self._allowed_uids)
        self._listening = ListeningSocket(self._path, self._group)
        self._server = await asyncio.start_unix_server(self._on_connection, sock=self._listening.socket)

    async def close(self) -> None:
        """Take no more, let operations under way finish for a while, and close what is open. May be called twice."""
        if self._server is None or self._listening is None:
            return
        server, self._server = self._server, None
        server.close()
        self._listening.close()
        await asyncio.gather(*(connection.finish(_CLOSE_GRACE_S) for connection in tuple(self._connections)))

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if not self._rule.allows(peer):
            log.warning("refused a connection of pid %d to the agent's socket: uid %d, gid %d", *_shown(peer))
            writer.transport.abort()
            return
        if self._server is None or len(self._connections) >= self._limits.connections:
            log.warning("refused a connection of pid %d to the agent's socket: there are too many", peer.pid)
            writer.transport.abort()
            return
        connection = _Connection(reader, writer, self._operations, self._turns, self._limits.frame_bytes)
        self._connections.add(connection)
        try:
            await connection.serve()
        except MalformedMessage as error:
            log.warning("closed a connection of pid %d to the agent's socket: %s", peer.pid, error)
        finally:
            self._connections.discard(connection)


class _Connection:
    """One peer: reads its requests, performs them side by side, and sends the answers as they come."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        operations: Operations,
        turns: asyncio.Semaphore,
        frame_bytes: int,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._operations = operations
        self._turns = turns
        self._frame_bytes = frame_bytes
        self._under_way: set[asyncio.Task[None]] = set()
        self._reading = asyncio.create_task(self._read_requests(), name="admin-requests")
        self._finishing = False
        self._closed = asyncio.Event()

    async def serve(self) -> None:
        """Until the peer goes away. Raises MalformedMessage when it sends nonsense; operations begun are finished."""
        try:
            await self._reading
        except (asyncio.IncompleteReadError, OSError):
            pass  # the peer is gone
        except asyncio.CancelledError:
            if not self._finishing:
                raise
        finally:
            if self._under_way:
                await asyncio.wait(tuple(self._under_way))
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._closed.set()

    async def finish(self, grace_s: float) -> None:
        """Read no more, cancel what is not done in time, and return when the connection is closed."""
        self._finishing = True
        self._reading.cancel()
        if self._under_way:
            _, late = await asyncio.wait(tuple(self._under_way), timeout=grace_s)
            for task in late:
                task.cancel()
            if late:
                self._writer.transport.abort()
        await self._closed.wait()

    async def _read_requests(self) -> None:
        while True:
            header = await self._reader.readexactly(FRAME_HEADER.size)
            payload = await self._reader.readexactly(frame_length(header, self._frame_bytes))
            request = decode_request(payload)
            in_turn = not isinstance(request.operation, Status)
            if in_turn:
                await self._turns.acquire()
            task = asyncio.create_task(self._perform(request), name=f"admin-{request.operation.op}")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            if in_turn:
                task.add_done_callback(lambda _: self._turns.release())

    async def _perform(self, request: Request) -> None:
        sender = _PartSender(request.id, self._send)
        try:
            answer = await self._operations.perform(request, sender.take)
            await sender.flush()
            await self._send(encode_answer(request.id, answer))
        except OSError:
            pass  # the peer is gone; what was written is written
        except Exception:
            log.exception("the answer to an admin operation (%s) could not be sent", request.operation.op)
            with contextlib.suppress(OSError):
                await self._send(encode_answer(request.id, Answer(Outcome.FAILED, "internal error of the agent")))

    async def _send(self, frame: bytes) -> None:
        if self._writer.transport.is_closing():
            raise ConnectionResetError("the peer is gone")
        self._writer.write(frame)
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
            raise ConnectionResetError("the peer does not read its answers") from None


def _shown(peer: Peer) -> tuple[int, int, int]:
    return peer.pid, peer.uid, peer.gid


class _PartSender:
    """Gathers the items of one answer into parts."""

    def __init__(self, id: int, send: Callable[[bytes], Any]) -> None:
        self._id = id
        self._send = send
        self._items: list[Item] = []
        self._bytes = 0

    async def take(self, items: Sequence[Item]) -> None:
        """Add items; send what is gathered when it is enough."""
        for item in items:
            self._items.append(item)
            self._bytes += len(item.value)
            if self._bytes >= _PART_BYTES:
                await self.flush()

    async def flush(self) -> None:
        """Send what is gathered."""
        if self._items:
            frame = encode_part(self._id, self._items)
            self._items, self._bytes = [], 0
            await self._send(frame)
