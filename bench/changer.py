"""A process that makes changes at a constant pace, whatever becomes of the changes before."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final

from bench.processes import pin
from bench.report import quantile

# Changes under way at once; more are not begun, and count as late.
_MOST_UNDER_WAY: Final = 32

# Makes the change of a number. What it returns is a problem, or empty.
Change = Callable[[int], Awaitable[str]]
# Opened in the process, so it has to be something that can be pickled: a function, or a partial one.
Changes = Callable[[], AbstractAsyncContextManager[Change]]


@dataclass(slots=True)
class Made:
    """The changes of one block. Times of CLOCK_MONOTONIC; `took_ms` until a change was made."""

    at_ns: list[int] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, more: Made) -> None:
        """Those of another block besides."""
        self.at_ns += more.at_ns
        self.late_ms += more.late_ms
        self.took_ms += more.took_ms
        self.problems += more.problems

    def figures(self) -> dict[str, Any]:
        """How many changes there were, how punctual, and how long one took to write."""
        return {
            "changes": len(self.at_ns),
            "failed": len(self.problems),
            "change_late_p99_ms": quantile(self.late_ms, 0.99) if self.late_ms else 0.0,
            "write_p50_ms": quantile(self.took_ms, 0.5) if self.took_ms else 0.0,
        }


class Changer:
    """The handle on the process. `start` and `stop` enclose a block. `core`: the one it is kept on."""

    def __init__(self, changes: Changes, core: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, changes, core), name="changer", daemon=True)
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


def _serve(orders: Connection, changes: Changes, core: int | None) -> None:
    if core is not None:
        pin([os.getpid()], core)
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        asyncio.run(_obey(orders, changes))


async def _obey(orders: Connection, changes: Changes) -> None:
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(orders.fileno(), arrived.set)

    async def next_order() -> Any:
        while not orders.poll():
            arrived.clear()
            await arrived.wait()
        return orders.recv()

    async with changes() as change:
        orders.send("there")
        number = 0
        while (order := await next_order()) is not None:
            made = Made()
            changing = asyncio.create_task(_change_steadily(change, float(order), number, made))
            await next_order()
            changing.cancel()
            await asyncio.wait([changing])
            if not changing.cancelled() and (error := changing.exception()) is not None:
                made.problems.append(repr(error))
            number += len(made.at_ns)
            orders.send(made)


async def _change_steadily(change: Change, every_s: float, number: int, made: Made) -> None:
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
            task = asyncio.create_task(_make(change, number, made))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            number += 1
            due_s += every_s
    finally:
        if under_way:
            await asyncio.wait(under_way)


async def _make(change: Change, number: int, made: Made) -> None:
    began_s = time.monotonic()
    try:
        problem = await change(number)
    except Exception as error:
        problem = repr(error)
    made.took_ms.append((time.monotonic() - began_s) * 1e3)
    if problem:
        made.problems.append(problem)
