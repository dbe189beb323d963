"""Active checks: the worker that holds the lease probes what any worker of the host has registered.

One loop and, for each probe that is under way, a task; nothing runs between probes. What a probe comes to goes on the
board, unless it says nothing new: probes of healthy nodes write nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from gw.clock import Clock
from gw.health.board import Board
from gw.health.checker import Checker
from gw.health.lease import RENEW_S, Lease
from gw.health.probe import Probe
from gw.health.schedule import Chance, Due, ProbeSchedule
from gw.health.state import Event, State, is_counted

log: Final = logging.getLogger(__name__)

# How often the board is looked at by who probes: half the shortest interval, so that a node that goes down by its
# traffic is probed within its own interval and a half.
LOOK_S: Final = 0.5
# Checkers taken up between two turns of the loop: some 50 us each.
TAKEN: Final = 20


class Prober:
    """One per worker, whether it comes to probe or not. `run` is a task of its own.

    `on_change` is told the mark of a checker when a state changed by a probe: `HealthView.changed`.
    """

    def __init__(
        self,
        board: Board,
        lease: Lease,
        probe: Probe,
        *,
        clock: Clock,
        chance: Chance,
        on_change: Callable[[bytes], None],
    ) -> None:
        self._board = board
        self._lease = lease
        self._probe = probe
        self._clock = clock
        self._chance = chance
        self._on_change = on_change
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_ended = asyncio.Event()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._schedule = ProbeSchedule(self._chance)
        self._feed = self._board.feed()

    async def run(self) -> None:
        """Probe whenever this worker is the one, until cancelled."""
        try:
            while True:
                if self._lease.hold():
                    await self._take_up_news()
                    self._begin_probes()
                    await self._wait()
                else:
                    if self._schedule or self._tasks:
                        await self._rest()
                    await asyncio.sleep(RENEW_S)
        finally:
            await self._rest()
            self._lease.release()

    async def _rest(self) -> None:
        """Another worker probes now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._begin_anew()

    async def _take_up_news(self) -> None:
        news = self._feed.news()
        if news is None:
            await self._take_up_all()
            return
        for number, mark in enumerate(news):
            checker = self._board.find_checker(mark)
            if checker is None:
                self._schedule.drop(mark)
            else:
                self._take_up(checker)
            if number % TAKEN == TAKEN - 1:
                await asyncio.sleep(0)

    async def _take_up_all(self) -> None:
        gone = set(self._schedule.marks)
        for part in self._board.checkers():
            for checker in part:
                gone.discard(checker.mark)
                self._take_up(checker)
            await asyncio.sleep(0)
        for mark in gone:
            self._schedule.drop(mark)

    def _take_up(self, checker: Checker) -> None:
        healths = self._board.healths(checker)
        states: Mapping[str, State] = {name: health.state for name, health in healths.items()}
        self._schedule.put(checker, states, self._clock.monotonic())

    def _begin_probes(self) -> None:
        now_s = self._clock.monotonic()
        for due in self._schedule.start_due(now_s):
            if not self._board.is_registered(due.checker.mark):  # lapsed, which nobody announces
                self._schedule.drop(due.checker.mark)
                self._schedule.finished(due, due.state, now_s)
                continue
            task = asyncio.create_task(self._run_probe(due), name=f"probe {due.target.name}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run_probe(self, due: Due) -> None:
        state = None
        try:
            event = await self._see(due)
            if event is not None and is_counted(due.state, event):
                state = self._report(due, event)
        except Exception:
            # A fault of ours tells nothing of the node. The others go on being probed.
            log.exception("probe of %s for %s", due.target.name, due.checker.key)
        finally:
            self._schedule.finished(due, due.state if state is None else state, self._clock.monotonic())
            self._has_ended.set()

    async def _see(self, due: Due) -> Event | None:
        """What a probe shows; None for a status that counts as neither."""
        active = due.checker.checks.active
        try:
            status = await self._probe(due.target, active)
        except TimeoutError:
            return Event.TIMEOUT
        except OSError:
            return Event.TCP_FAILURE
        return Event.SUCCESS if status is None else active.verdicts.events.get(status)

    def _report(self, due: Due, event: Event) -> State:
        thresholds = due.checker.checks.active.verdicts.thresholds
        reported = self._board.report(due.checker, due.target.name, event, thresholds, "active")
        if reported.is_change:
            self._on_change(due.checker.mark)
        return reported.after.state

    async def _wait(self) -> None:
        """Until a probe is due or ended, at most LOOK_S."""
        next_due_s = self._schedule.next_due_s()
        wait_s = LOOK_S if next_due_s is None else min(next_due_s - self._clock.monotonic(), LOOK_S)
        self._has_ended.clear()
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._has_ended.wait()
            except TimeoutError:
                return
        else:
            await asyncio.sleep(0)
