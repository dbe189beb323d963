"""Waiting until a revision is served: when it ends, and that all who wait share their looks."""

from __future__ import annotations

import asyncio
import os

import pytest

from gw.clock import SystemClock
from gw.control.served import Observed
from gw.server.waiting import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, ServedWait, pause_s
from gw.shm.layout import AgentState, Cell, CellState, Slot
from gw.shm.process import start_time
from tests.support.admin import MovedClock
from tests.support.asynchronous import asynchronous

FOR_EVER_S = 3600.0


class Memory:
    """What is looked at: this process as the only worker, at a revision that the test moves."""

    def __init__(self) -> None:
        self.revision = 1
        self.looks = 0
        self.looked = asyncio.Event()
        self.is_draining = False

    def look(self) -> Observed:
        self.looks += 1
        self.looked.set()
        started = start_time(os.getpid()) or 0
        me = Cell(CellState.SERVING, os.getpid(), start_time=started, epoch=1, version=1, revision=self.revision)
        return Observed([(0, me)], 1, Slot(AgentState.WATCHING, epoch=1, version=1, revision=self.revision))

    def waiting(self, clock: MovedClock | SystemClock | None = None) -> ServedWait:
        return ServedWait(self.look, lambda: self.is_draining, clock or SystemClock())


@asynchronous
async def test_what_is_served_is_not_waited_for() -> None:
    memory = Memory()
    assert await memory.waiting().until_served(1, FOR_EVER_S) == []
    assert memory.looks == 1


@asynchronous
async def test_the_end_of_waiting_is_seen() -> None:
    memory = Memory()
    task = asyncio.create_task(memory.waiting().until_served(2, FOR_EVER_S))
    await memory.looked.wait()
    memory.revision = 2
    assert await task == []


@pytest.mark.parametrize("timeout_s", [0.0, 0.005])
@asynchronous
async def test_who_is_behind_when_the_time_is_over(timeout_s: float) -> None:
    [late] = await Memory().waiting().until_served(2, timeout_s)
    assert (late["pid"], late["revision"]) == (os.getpid(), 1)


@asynchronous
async def test_a_worker_that_drains_waits_no_longer() -> None:
    memory = Memory()
    task = asyncio.create_task(memory.waiting().until_served(2, FOR_EVER_S))
    await memory.looked.wait()
    memory.is_draining = True
    assert [late["pid"] for late in await task] == [os.getpid()]


@asynchronous
async def test_who_waits_can_be_cancelled() -> None:
    memory = Memory()
    task = asyncio.create_task(memory.waiting().until_served(2, FOR_EVER_S))
    await memory.looked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@asynchronous
async def test_many_who_wait_share_a_look() -> None:
    memory, clock = Memory(), MovedClock()
    waiting = memory.waiting(clock)
    tasks = [asyncio.create_task(waiting.until_served(2, FOR_EVER_S)) for _ in range(50)]
    await memory.looked.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    assert memory.looks == 1
    memory.revision = 2
    clock.wall_s += 1.0
    assert await asyncio.gather(*tasks) == [[]] * 50
    assert memory.looks == 2


@pytest.mark.parametrize(
    ("waited_s", "pause"),
    [(0, SHORTEST_PAUSE_S), (0.016, SHORTEST_PAUSE_S), (0.08, 0.01), (0.16, LONGEST_PAUSE_S), (60, LONGEST_PAUSE_S)],
)
def test_the_pause_between_looks_grows(waited_s: float, pause: float) -> None:
    assert pause_s(waited_s) == pytest.approx(pause)
