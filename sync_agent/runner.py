"""Drives the machine: owns the store's list and watch, the back-off timer, and the outlet that publishes.

One task steps the machine; a list or a watch runs in a task of its own and reports through the queue. Each start gets
a number, and a report of an earlier start is dropped, so that a stopped watch cannot speak again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Final

from gw.collector import settle_heap
from gw.errors import Compacted, StoreError
from sync_agent.intake import Intake
from sync_agent.machine import (
    Action,
    Changed,
    Event,
    HistoryGone,
    Listed,
    Lost,
    Machine,
    PublishAll,
    PublishChanges,
    SetTimer,
    Started,
    StartList,
    StartWatch,
    State,
    StopWatch,
    TimerFired,
    WatchOpened,
)
from sync_agent.outlet import Outlet
from sync_agent.stores.base import Store

log = logging.getLogger(__name__)

# Keys asked for at a time: keeps a page of ordinary resources well under gRPC's 4 MiB.
PAGE_KEYS: Final = 500
# Keys of a page judged without a break (about 50 us each): how long the admin socket and the heartbeat wait.
JUDGED_KEYS: Final = 50
# Batches of the watch that may wait to be taken in; beyond it the watch itself waits, and the store keeps them.
WAITING_EVENTS: Final = 1000


class Runner:
    """Follows the store until cancelled."""

    def __init__(self, machine: Machine, store: Store, intake: Intake, outlet: Outlet) -> None:
        self._machine = machine
        self._store = store
        self._intake = intake
        self._outlet = outlet
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue(WAITING_EVENTS)
        self._start_number = 0
        self._is_settled = False
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Step the machine for ever. Cancel to stop; the store is left open."""
        await self._events.put((self._start_number, Started()))
        try:
            while True:
                number, event = await self._events.get()
                if number != self._start_number:
                    continue
                before = self._machine.state
                actions = self._machine.step(event)
                self._log(before, event)
                for action in actions:
                    await self._perform(action)
                self._outlet.set_following(self._machine.state is State.WATCHING)
        finally:
            await self._stop_task()

    async def _perform(self, action: Action) -> None:
        match action:
            case StartList():
                await self._start(self._list)
            case StartWatch(revision):
                await self._start(partial(self._watch, revision))
            case SetTimer(delay_s):
                await self._start(partial(self._wait, delay_s))
            case StopWatch():
                await self._stop_task()
            case PublishAll(head, content):
                self._outlet.offer(content.finish(self._outlet.published), head.revision)
                if not self._is_settled:
                    # Once, and at a moment at which nobody waits for a change: later the collector would stop the loop.
                    self._is_settled = True
                    settle_heap()
            case PublishChanges(head, events):
                self._outlet.offer(self._intake.take_events(events), head.revision)

    async def _start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        await self._stop_task()
        self._start_number += 1
        self._task = asyncio.create_task(self._guard(work()), name=f"store-{self._start_number}")

    async def _guard(self, work: Coroutine[None, None, None]) -> None:
        """Report what goes wrong: whatever it is, the agent goes on trying and the workers go on serving."""
        try:
            await work
        except Compacted as gone:
            await self._report(HistoryGone(gone.revision))
        except StoreError as error:
            await self._report(Lost(str(error)))
        except Exception as error:
            log.exception("following the store failed in a way that was not foreseen")
            await self._report(Lost(f"{type(error).__name__}: {error}"))

    async def _stop_task(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            # A task that has just reported is about to end by itself; cancelling it does no harm.
            task.cancel()
            await asyncio.wait([task])

    async def _report(self, event: Event) -> None:
        await self._events.put((self._start_number, event))

    async def _list(self) -> None:
        reload = self._intake.begin_reload()
        head = None
        async for page in self._store.list(PAGE_KEYS):
            for start in range(0, len(page.items), JUDGED_KEYS):
                reload.add_page(page.items[start : start + JUDGED_KEYS])
                await asyncio.sleep(0)
            head = page.head
        assert head is not None, "a store's list has at least one page"
        await self._report(Listed(head, reload))

    async def _watch(self, revision: int) -> None:
        stands = False
        async with contextlib.aclosing(self._store.watch(revision)) as batches:
            async for batch in batches:
                if stands:
                    await self._report(Changed(batch.head, batch.events))
                else:
                    stands = True
                    await self._report(WatchOpened(batch.head))
        raise StoreError("the store ended the watch")

    async def _wait(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await self._report(TimerFired())

    def _log(self, before: State, event: Event) -> None:
        after = self._machine.state
        if isinstance(event, Lost) and before not in (State.LISTING, State.OPENING):
            log.warning("the store is lost: %s; what is published stays", event.reason)
        elif isinstance(event, HistoryGone) or (after is State.LISTING and before is not State.WAITING_TO_LIST):
            log.info("loading everything from the store %s", self._machine.problem and f"({self._machine.problem})")
        elif isinstance(event, WatchOpened) and after is State.WATCHING:
            log.info("watching the store from revision %d on", event.head.revision + 1)
