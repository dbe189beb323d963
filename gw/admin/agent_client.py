"""The worker's end of the agent's Unix socket: one connection, many operations under way on it at once.

Nothing is opened before the first call; a connection that is lost is opened again by the next call. A call that was
under way when the connection went is not repeated, because the agent may have carried it out: its caller is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from gw.errors import AgentUnavailable
from gw.model.operations import (
    FRAME_HEADER,
    Answer,
    Item,
    MalformedMessage,
    Operation,
    Request,
    decode_reply,
    encode_request,
    frame_length,
)

# Longer than the agent gives the store (30 s), so that its word on what happened is heard.
CALL_TIMEOUT_S: Final = 35.0
# A Unix socket of this host is answered at once, or its agent is stopped or overrun.
CONNECT_TIMEOUT_S: Final = 2.0
# The agent sends parts of 256 KiB, a single larger resource (64 MiB is the most the settings allow) as one.
_FRAME_BYTES: Final = 72 * 1024 * 1024
# A list in memory for one request. 100,000 routes of 1 KB are 100 MB; who has more asks by page.
_ANSWER_BYTES: Final = 256 * 1024 * 1024


class AgentClient:
    """Asks the agent. For one event loop; make it after the fork."""

    def __init__(self, socket_path: str | os.PathLike[str], *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self._path = Path(socket_path)
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connecting = asyncio.Lock()
        self._ids = itertools.count(1)

    async def call(self, operation: Operation, api_key: str | None = None) -> Answer:
        """The agent's answer to an operation of the holder of `api_key`.

        Raises AgentUnavailable when the agent is away or silent; ValueError, OverflowError or TypeError for a body that
        cannot be carried.
        """
        request = Request(next(self._ids), operation, api_key)
        frame = encode_request(request)
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._open()
                return await connection.exchange(request.id, frame)
        except TimeoutError:
            raise AgentUnavailable(
                f"the sync agent did not answer within {self._timeout_s:g} s; a write may still be made"
            ) from None

    async def close(self) -> None:
        """Close the connection; calls under way fail. The next call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _open(self) -> _Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.is_lost:
                await self.close()
            if self._connection is None:
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
        except TimeoutError:
            raise AgentUnavailable("the sync agent does not take connections; changes are not possible now") from None
        except OSError as error:
            raise AgentUnavailable(
                f"the sync agent is away ({error.strerror or error}); traffic goes on, changes are not possible now"
            ) from error
        return _Connection(reader, writer)


@dataclass(slots=True)
class _Call:
    """A request whose answer is awaited, with the items that have come so far."""

    answer: asyncio.Future[Answer]
    items: list[Item] = field(default_factory=list)
    bytes: int = 0


class _Connection:
    """Sends requests and hands each reply to who waits for it, until the agent goes away."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, _Call] = {}
        self.is_lost = False
        self._reading = asyncio.create_task(self._read_replies(), name="agent-replies")

    async def exchange(self, id: int, frame: bytes) -> Answer:
        """Send a request and await its answer."""
        if self.is_lost:
            raise _gone()
        call = _Call(asyncio.get_running_loop().create_future())
        self._calls[id] = call
        try:
            self._writer.write(frame)
            with contextlib.suppress(OSError):  # the reading side notices too, and says so to every call
                await self._writer.drain()
            return await call.answer
        finally:
            del self._calls[id]
            if call.answer.done() and not call.answer.cancelled():
                call.answer.exception()  # seen: a call that was cancelled meanwhile awaits it no more

    async def close(self) -> None:
        """Close and let every call fail."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read_replies(self) -> None:
        try:
            while True:
                header = await self._reader.readexactly(FRAME_HEADER.size)
                payload = await self._reader.readexactly(frame_length(header, _FRAME_BYTES))
                self._take(payload)
        except (asyncio.IncompleteReadError, OSError):
            self._fail(_gone())
        except MalformedMessage as error:
            self._fail(AgentUnavailable(f"the sync agent speaks another language; restart both ({error})"))
        finally:
            self._fail(_gone())
            self._writer.close()

    def _take(self, payload: bytes) -> None:
        reply = decode_reply(payload)
        call = self._calls.get(reply.id)
        if call is None or call.answer.done():
            return  # who asked has given up
        call.items += reply.items
        call.bytes += len(payload)
        if call.bytes > _ANSWER_BYTES:
            call.items.clear()
            call.answer.set_exception(AgentUnavailable("the list is too long for one answer; use page and page_size"))
        elif reply.answer is not None:
            call.answer.set_result(replace(reply.answer, items=tuple(call.items)))

    def _fail(self, error: AgentUnavailable) -> None:
        self.is_lost = True
        for call in self._calls.values():
            if not call.answer.done():
                call.answer.set_exception(error)


def _gone() -> AgentUnavailable:
    return AgentUnavailable("the sync agent went away before it answered; a write may have been made")
