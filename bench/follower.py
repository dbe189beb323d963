"""A worker's Follower over real shared memory, and the publisher that it follows in a process of its own.

What `gw.server.lifecycle` wires for a worker stands here in one function, so that a change there is followed here.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import os
import pickle
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from bench.routeset import routes
from gw.clock import SystemClock
from gw.collector import calm_collector, settle_heap
from gw.rebuild.follower import Applied, Follower
from gw.rebuild.scheduler import RebuildScheduler
from gw.rebuild.state import ConfigState
from gw.rebuild.turn import Turn
from gw.shm.layout import AgentState
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from gw.shm.writer import Publisher
from tests.support.workers import change

LOG_BYTES = 8 << 20  # the default of gw.shm.log_size
POLL_INTERVAL_MS, SLICE_MS, FULL_TIMEOUT_MS = 5, 1, 60_000
ROUTER_MODE = "radixtree_host_uri"
_numbers = itertools.count()


def _follower(name: str, on_applied: Callable[[Applied], None]) -> tuple[Follower, Callable[[], None]]:
    """As gw.server.lifecycle._follow, without jitter, cap and cell; and what closes it."""
    clock = SystemClock()
    reader = SnapshotReader(PosixSpace(), SegmentNames(name), clock)
    turn = Turn(())
    follower = Follower(
        reader=reader,
        state=ConfigState(ROUTER_MODE),
        scheduler=RebuildScheduler(
            update_jitter_ms=(0, 0), full_jitter_ms=(0, 0), clock=clock, chance=random.SystemRandom()
        ),
        clock=clock,
        poll_interval_ms=POLL_INTERVAL_MS,
        slice_ms=SLICE_MS,
        turn=turn,
        full_timeout_ms=FULL_TIMEOUT_MS,
        on_applied=on_applied,
    )

    def close() -> None:
        turn.close()
        reader.close()

    return follower, close


class Following:
    """A follower that runs. `applied()` waits for its next application and gives it."""

    def __init__(self) -> None:
        self._applications: asyncio.Queue[Applied] = asyncio.Queue()
        self._is_settled = False

    def note(self, applied: Applied) -> None:
        """As a worker's on_applied: with the first configuration the heap is settled."""
        if not self._is_settled:
            self._is_settled = True
            settle_heap()
        self._applications.put_nowait(applied)

    async def applied(self, timeout_s: float = 120) -> Applied:
        return await asyncio.wait_for(self._applications.get(), timeout_s)


@asynccontextmanager
async def running_follower(name: str) -> AsyncIterator[Following]:
    """Follow what is published under this name, as a worker does."""
    calm_collector()
    following = Following()
    follower, close = _follower(name, following.note)
    task = asyncio.create_task(follower.run(), name="follow-configuration")
    try:
        yield following
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        close()


class PublisherProcess:
    """The agent's publisher, alone in a process. `ask` returns when what it was asked is published.

    What to ask is made beforehand: packing 1,000 routes while a loop is watched would be seen as a stall of the loop.
    """

    def __init__(self) -> None:
        self.name = f"jwbench-{os.getpid()}-{next(_numbers)}"
        context = multiprocessing.get_context("fork")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_publish, args=(self.name, self._here, there), daemon=True)
        self._process.start()
        there.close()

    @staticmethod
    def put(resources: Sequence[tuple[str, str, Mapping[str, Any]]]) -> bytes:
        """(kind, id, resource) each: all of them one version."""
        return pickle.dumps(("put", resources))

    @staticmethod
    def fill(count: int, kind: str = "mixed") -> bytes:
        """The routes of bench.routeset."""
        return pickle.dumps(("fill", count, kind))

    @staticmethod
    def begin_epoch() -> bytes:
        """What happens when somebody removes a segment: everything is written anew, and each worker rebuilds."""
        return pickle.dumps(("begin epoch",))

    def ask(self, what: bytes) -> None:
        self._here.send_bytes(what)
        if (failure := self._here.recv()) is not None:
            raise RuntimeError(f"the publisher failed: {failure}")

    def close(self) -> None:
        self._here.close()
        self._process.join(10)
        self._process.kill()
        space, names = PosixSpace(), SegmentNames(self.name)
        for segment in space.list(names.prefix):
            space.unlink(segment)

    def __enter__(self) -> PublisherProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _publish(name: str, here: Connection, there: Connection) -> None:
    here.close()  # the fork's copy: with it open, the other end's closing would never be seen
    logging.getLogger("gw").setLevel(logging.ERROR)  # it warns of removed segments, which is what we ask for
    space, names = PosixSpace(), SegmentNames(name)
    publisher = Publisher.attach(space, names, log_size_bytes=LOG_BYTES, clock=SystemClock())
    while True:
        try:
            what, *arguments = pickle.loads(there.recv_bytes())
        except EOFError:
            publisher.close()
            return
        try:
            _do(publisher, space, names, what, *arguments)
        except Exception as error:
            there.send(repr(error))
        else:
            there.send(None)


def _do(publisher: Publisher, space: PosixSpace, names: SegmentNames, what: str, *arguments: Any) -> None:
    if what == "put":
        (resources,) = arguments
        publisher.publish([change(*resource) for resource in resources], publisher.revision + 1, AgentState.WATCHING)
    elif what == "fill":
        count, kind = arguments
        # All at once: a base, and none before it that would be half of it.
        made = [change("routes", route["id"], route) for route in routes(count, kind)]
        publisher.publish(made, publisher.revision + 1, AgentState.WATCHING)
    elif what == "begin epoch":
        space.unlink(names.control)
        publisher.touch(AgentState.WATCHING)
    # As the agent: not the one the follower may still read from. Who lets go of an unlinked base last frees its pages.
    publisher.sweep({publisher.slot.snapshot_number - 1})
