"""Where changes leave the agent: collected for a moment, published to shared memory, kept on disk.

A publish that fails (no room in /dev/shm) loses nothing: its changes wait, newer ones join them, and the heartbeat
tries again, less often the longer a try takes. The workers meanwhile serve the last version.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from gw.clock import Clock
from gw.errors import SegmentError
from gw.model.keys import ResourceKey
from gw.shm.layout import AgentState
from gw.shm.log import Change
from gw.shm.writer import Publisher
from sync_agent.last_good import LastGood

log = logging.getLogger(__name__)

# Changes that come within this time of a publish go out together. A lone change does not wait. Long enough to bundle
# a thousand writes a second into 200 versions, short beside the workers' jitter.
COLLECT_S: Final = 0.005
# A worker takes a heartbeat older than 3 s for a dead agent, so five may be late before that.
HEARTBEAT_S: Final = 0.5
# A new base is written in slices of this length, between which changes are published: no change waits longer for it.
RENEW_SLICE_S: Final = 0.001
# As long again is left to the rest of the agent and of the host: 100,000 resources then take about a second, and the
# ring, of which half is free, is not overwritten for as long as it takes to fill that (10 s at 1,000 changes a second).
RENEW_PAUSE_S: Final = 0.001
# A publish that finds no room may have prepared the whole configuration for it. At most a quarter of the agent's time
# goes into such tries, so that it goes on beating and answering between them.
RETRY_SHARE: Final = 4
# Writing the last good snapshot costs as much as the configuration is large: at most a twentieth of the agent's time
# goes there, and never more often than this.
LAST_GOOD_PAUSE_S: Final = 1.0
LAST_GOOD_SHARE: Final = 20


class Outlet:
    """Publishes what it is offered. All methods but `run` return at once; call them on the agent's event loop.

    `used_snapshots` tells which bases living workers say they use. `unjudged` are the published resources that this
    process did not judge: those taken over from another agent's shared memory.
    """

    def __init__(
        self,
        publisher: Publisher,
        used_snapshots: Callable[[], set[int]],
        last_good: LastGood,
        clock: Clock,
        *,
        unjudged: Iterable[ResourceKey],
    ) -> None:
        self._publish_problem = ""
        self._keep_problem = ""
        self._told: dict[str, str] = {}  # by work of the heartbeat: what is wrong, and has been logged
        self._publisher = publisher
        self._used_snapshots = used_snapshots
        self._last_good = last_good
        self._clock = clock
        self._state = AgentState.LOADING
        self._unjudged = set(unjudged)
        self._pending: dict[ResourceKey, Change] = {}
        self._pending_revision: int | None = None
        self._not_before_s = float("-inf")  # when the next publish may be tried
        self._due: asyncio.TimerHandle | None = None
        self._renewing = asyncio.Event()  # a new base has been begun
        self._writer = ThreadPoolExecutor(1, "last-good")
        self._kept_version = last_good.version
        self._keep_at_s = 0.0

    @property
    def published(self) -> Mapping[ResourceKey, object]:
        """What is served now."""
        return self._publisher.entries

    @property
    def problem(self) -> str:
        """Why the newest changes are not published, or else not kept on disk; empty when they are."""
        return self._publish_problem or self._keep_problem

    def set_following(self, following: bool) -> None:
        """Say whether the store is being followed, for the heartbeat to carry."""
        self._state = AgentState.WATCHING if following else AgentState.BACKING_OFF

    def offer(self, changes: Iterable[Change], revision: int) -> None:
        """Take changes in, the newest of a resource counts, and publish them now or within COLLECT_S."""
        for change in changes:
            self._pending[change.key] = change
        self._pending_revision = revision
        if self._due is not None or self._publish_problem:
            return
        wait_s = self._not_before_s - self._clock.monotonic()
        if wait_s <= 0:
            self._publish()
        else:
            self._due = asyncio.get_running_loop().call_later(wait_s, self._publish)

    async def run(self) -> None:
        """Heartbeat, retries, new and old bases and the last good file, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew(), name="outlet_renew")
                # A task each, since a slow disk must not hold up the heartbeat.
                for work in (self._beat, self._sweep, self._keep):
                    tasks.create_task(_repeat(work), name=f"outlet{work.__name__}")
        finally:
            if self._due is not None:
                self._due.cancel()

    async def close(self) -> None:
        """Publish what waits, say that the agent stopped, and keep the last version on disk."""
        self._state = AgentState.STOPPED
        if self._pending_revision is not None:
            self._publish()
        with contextlib.suppress(SegmentError):
            self._publisher.touch(self._state)
        self._keep_at_s = 0.0
        await self._keep()
        self._writer.shutdown()

    def _publish(self) -> None:
        self._due = None
        if self._pending_revision is None:
            return
        began_s = self._clock.monotonic()
        try:
            self._publisher.publish(self._pending.values(), self._pending_revision, self._state)
        except SegmentError as error:
            if not self._publish_problem:
                log.error("cannot publish: %s; the last version stays, trying again", error)
            self._publish_problem = str(error)
            now_s = self._clock.monotonic()
            self._not_before_s = now_s + (now_s - began_s) * RETRY_SHARE
            return
        if self._publish_problem:
            log.info("publishing again, at version %d", self._publisher.version)
            self._publish_problem = ""
        self._not_before_s = self._clock.monotonic() + COLLECT_S
        self._unjudged.difference_update(self._pending)
        self._pending = {}
        self._pending_revision = None
        if self._publisher.renew_step():
            self._renewing.set()

    async def _renew(self) -> None:
        """Write new bases as they become due, a slice at a time."""
        while True:
            await self._renewing.wait()
            ends_s = self._clock.monotonic() + RENEW_SLICE_S
            while (is_under_way := self._publisher.renew_step()) and self._clock.monotonic() < ends_s:
                pass
            if not is_under_way:
                self._renewing.clear()
            await asyncio.sleep(RENEW_PAUSE_S)

    async def _beat(self) -> None:
        if self._pending_revision is not None and self._due is None and self._clock.monotonic() >= self._not_before_s:
            self._publish()
        with self._told_once("beat"):
            self._publisher.touch(self._state)

    async def _sweep(self) -> None:
        """Unlink the bases that no worker uses any more."""
        with self._told_once("sweep"):
            numbers = self._publisher.find_unneeded(self._used_snapshots())
            if numbers:
                await asyncio.to_thread(self._publisher.unlink_bases, numbers)

    @contextlib.contextmanager
    def _told_once(self, work: str) -> Iterator[None]:
        """Log a SegmentError of the block, and not again while it stays the same."""
        try:
            yield
        except SegmentError as error:
            if str(error) != self._told.get(work):
                log.error("shared memory: %s", error)
            self._told[work] = str(error)
        else:
            self._told.pop(work, None)

    async def _keep(self) -> None:
        """Write the last good file, if there is something new and the last time is long enough ago."""
        publisher = self._publisher
        if publisher.version == self._kept_version or self._clock.monotonic() < self._keep_at_s:
            return
        version, revision = publisher.version, publisher.revision
        began_s = self._clock.monotonic()
        try:
            save = partial(
                self._last_good.save, publisher.entries.copy(), version, revision, is_judged=not self._unjudged
            )
            await asyncio.get_running_loop().run_in_executor(self._writer, save)
        except OSError as error:
            problem = f"cannot keep the last good configuration at {self._last_good.path}: {error}"
            if problem != self._keep_problem:
                log.error("%s; trying again", problem)
            self._keep_problem = problem
        else:
            self._kept_version = version
            self._keep_problem = ""
        took_s = self._clock.monotonic() - began_s
        self._keep_at_s = self._clock.monotonic() + max(LAST_GOOD_PAUSE_S, took_s * LAST_GOOD_SHARE)


async def _repeat(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        await work()
        await asyncio.sleep(HEARTBEAT_S)
