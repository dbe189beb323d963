"""How changes reach a gateway.

`agent`: through the agent's Unix socket, as the Admin API writes and without its cost to the worker that is measured.
`admin`: through the Admin API, whose HTTP is served by that worker. `store`: to the store directly, as another program
(SQLite has to be asked, every 10 ms, so faster changes arrive in bundles). `full` is no change: it
unlinks the control segment, whereupon the agent begins a new epoch at its next heartbeat, and every worker rebuilds in
full.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.changer import Change
from bench.changes import change
from gw.admin.agent_client import AgentClient
from gw.clock import SystemClock
from gw.model.operations import Outcome, Put
from gw.settings import load_agent_settings, load_settings
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from sync_agent.stores import open_store
from tests.support.gateway import ADMIN_KEY

WAYS: Final = ("agent", "admin", "store")
FULL: Final = "full"

# Writes a value under a key of the store; what it returns is a problem, or empty.
Write = Callable[[str, dict[str, Any]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Target:
    """Which gateway is changed, and how. `routes` are those that changes go to.

    `first` is the number of the first change: the same numbers once more, on the same store, would change nothing.
    """

    config: Path
    admin_port: int
    way: str
    routes: list[dict[str, Any]]
    nodes: dict[str, int]
    first: int = 0


@contextlib.asynccontextmanager
async def gateway_changes(target: Target) -> AsyncIterator[Change]:
    """For `Changer`: the changes of `bench.changes`, or what `full` does."""
    async with _writer(target) as write:

        async def make(number: int) -> str:
            return await write(*change(target.first + number, target.routes, target.nodes))

        yield make


@contextlib.asynccontextmanager
async def _writer(target: Target) -> AsyncIterator[Write]:
    if target.way == "agent":
        client = AgentClient(load_settings(target.config).socket_path)

        async def write(key: str, body: dict[str, Any]) -> str:
            kind, _, id = key.partition("/")
            answer = await client.call(Put(kind, id, body), ADMIN_KEY)
            return "" if answer.outcome in (Outcome.OK, Outcome.CREATED) else f"{answer.outcome}: {answer.reason}"

        yield write
        await client.close()
    elif target.way == "admin":
        yield _admin_writer(target.admin_port)
    elif target.way == "store":
        store = open_store(load_agent_settings(target.config), SystemClock())

        async def write(key: str, body: dict[str, Any]) -> str:
            written = await store.put(key, json.dumps(body).encode())
            return "" if written.succeeded else "the store refused"

        yield write
        await store.close()
    else:
        space = PosixSpace()
        names = SegmentNames(load_settings(target.config).gw.shm.name)

        async def write(key: str, body: dict[str, Any]) -> str:
            space.unlink(names.control)
            return ""

        yield write


def _admin_writer(port: int) -> Write:
    async def write(key: str, body: dict[str, Any]) -> str:
        raw = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(
                f"PUT /apisix/admin/{key} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {ADMIN_KEY}\r\n"
                f"Connection: close\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
                + raw
            )
            answer = await reader.read()
        finally:
            writer.close()
        return "" if answer[9:12] in (b"200", b"201") else answer[:400].decode(errors="replace")

    return write
