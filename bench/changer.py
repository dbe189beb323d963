"""A process that changes the configuration at a constant pace, whatever becomes of the changes before.

Ways to write: `agent`, the agent's Unix socket, as the Admin API writes and without its cost to the worker that is
measured; `admin`, the Admin API, whose HTTP is served by that worker; `store`, the store directly, as another program
(SQLite shows that to the agent four times a second, so faster changes arrive in bundles).
`full` is no change: it unlinks the control segment, whereupon the agent begins a new epoch at its next heartbeat, and
every worker rebuilds in full.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from bench.changes import change
from bench.processes import pin
from gw.admin.agent_client import AgentClient
from gw.clock import SystemClock
from gw.model.operations import Outcome, Put
from gw.settings import load_agent_settings, load_settings
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from sync_agent.stores import open_store
from tests.support.gateway import ADMIN_KEY

WAYS: Final = ("agent", "admin", "store", "full")
# Changes under way at once; more are not begun, and count as late.
_MOST_UNDER_WAY: Final = 32

Write = Callable[[str, dict[str, Any]], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Target:
    """Which gateway is changed, and how."""

    config: Path
    admin_port: int
    way: str
    routes: list[dict[str, Any]]
    nodes: dict[str, int]
    core: int | None


@dataclass(slots=True)
class Made:
    """The changes of one block. Times of CLOCK_MONOTONIC; `took_ms` until the answer to a write."""

    at_ns: list[int] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Changer:
    """The handle on the process. `start` and `stop` enclose a block."""

    def __init__(self, target: Target) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, target), name="changer", daemon=True)
        self._process.start()
        theirs.close()
        self._orders.recv()  # it is there

    def __enter__(self) -> Changer:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._orders.send(None)
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._orders.close()

    def start(self, every_s: float) -> None:
        """Begin to change, at this interval, until `stop`."""
        self._orders.send(every_s)

    def stop(self) -> Made:
        """End it; what was done since `start`."""
        self._orders.send("stop")
        made = self._orders.recv()
        assert isinstance(made, Made)
        return made


def _serve(orders: Connection, target: Target) -> None:
    if target.core is not None:
        pin([os.getpid()], target.core)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        asyncio.run(_obey(orders, target))


async def _obey(orders: Connection, target: Target) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(orders.fileno(), arrived.set)

    async def next_order() -> Any:
        while not orders.poll():
            arrived.clear()
            await arrived.wait()
        return orders.recv()

    async with _writer(target) as write:
        orders.send("there")
        number = 0
        while (order := await next_order()) is not None:
            made = Made()
            changing = asyncio.create_task(_change_steadily(write, target, float(order), number, made))
            await next_order()
            changing.cancel()
            await asyncio.wait([changing])
            if not changing.cancelled() and (error := changing.exception()) is not None:
                made.problems.append(repr(error))
            number += len(made.at_ns)
            orders.send(made)


async def _change_steadily(write: Write, target: Target, every_s: float, number: int, made: Made) -> None:
    under_way: set[asyncio.Task[None]] = set()
    # The first change half an interval on, so that a block holds seconds / interval of them, none at its edges.
    due_s = time.monotonic() + every_s / 2
    try:
        while True:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            while len(under_way) >= _MOST_UNDER_WAY:
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            made.late_ms.append((time.monotonic() - due_s) * 1e3)
            made.at_ns.append(time.monotonic_ns())
            key, body = change(number, target.routes, target.nodes)
            task = asyncio.create_task(_make(write, key, body, made))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            due_s += every_s
    finally:
        if under_way:
            await asyncio.wait(under_way)


async def _make(write: Write, key: str, body: dict[str, Any], made: Made) -> None:
    began_s = time.monotonic()
    try:
        problem = await write(key, body)
    except Exception as error:
        problem = repr(error)
    made.took_ms.append((time.monotonic() - began_s) * 1e3)
    if problem:
        made.problems.append(problem)


@contextlib.asynccontextmanager
async def _writer(target: Target) -> AsyncIterator[Write]:
    """How a change is written; what it returns is a problem, or empty."""
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
