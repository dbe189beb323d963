"""Keeps one worker at the newest version: looks, waits as the scheduler says, applies in slices, says what it did.

Looking is a timer's callback that reads a few bytes. Applying is one task, so that two applications never meet, and
it gives the loop back after each slice. What fails leaves the worker with what it has, is logged, and is tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Final, Generic, Protocol, TypeVar

from gw.clock import Clock
from gw.collector import keep_objects
from gw.errors import SegmentError
from gw.rebuild.scheduler import RebuildScheduler, Work
from gw.rebuild.state import ConfigState
from gw.rebuild.turn import Turn
from gw.shm.base import Base
from gw.shm.layout import Slot
from gw.shm.reader import Changes, Cursor, Loaded

log = logging.getLogger(__name__)

T = TypeVar("T")

# What could not be applied is tried again after this. Long beside a publish, short beside a person's patience.
RETRY_S: Final = 0.1
# What no change waits for is tried again after this.
MOVE_RETRY_S: Final = 5.0


class Reader(Protocol):
    """The part of gw.shm.reader.SnapshotReader that is used."""

    def peek(self) -> Slot | None: ...
    def load_steps(self) -> Generator[None, None, Loaded]: ...
    def changes_steps(self, cursor: Cursor) -> Generator[None, None, Changes | None]: ...
    def open_base(self, slot: Slot) -> Base: ...


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """Steps came to their end, with this result."""

    result: T


@dataclass(slots=True)
class Cost:
    """What one application took of the worker: CPU time, and the longest slice for which it held the loop."""

    cpu_s: float = 0.0
    held_s: float = 0.0


@dataclass(slots=True)
class Counts:
    """What a follower did since it started. `worst_held_s` is the longest slice of all."""

    updates: int = 0
    fulls: int = 0
    mismatches: int = 0
    failures: int = 0
    worst_held_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Applied:
    """What is served, and how the worker came to it. `digest` is ours; `slot` says which one was published."""

    slot: Slot
    digest: int
    work: Work
    jitter_ms: float
    duration_s: float
    at_s: float
    at_wall_s: float
    cost: Cost


class Follower:
    """`on_applied` is called after each application. `applied` is None until there was one."""

    def __init__(
        self,
        *,
        reader: Reader,
        state: ConfigState,
        scheduler: RebuildScheduler,
        clock: Clock,
        poll_interval_ms: int,
        slice_ms: int,
        turn: Turn,
        full_timeout_ms: int,
        on_applied: Callable[[Applied], None],
    ) -> None:
        self._reader = reader
        self._state = state
        self._scheduler = scheduler
        self._clock = clock
        self._poll_interval_s = poll_interval_ms / 1000
        self._slice_s = slice_ms / 1000
        self._turn = turn
        self._full_timeout_s = full_timeout_ms / 1000
        self._on_applied = on_applied
        self._cursor: Cursor | None = None
        self._seen: tuple[int, int, int] | None = None  # identity of the version that was taken up last
        self._timer: asyncio.TimerHandle | None = None
        self._move_at_s: float | None = None  # when to read from the newest base; None: we do, or nobody has seen it
        self._due = asyncio.Event()
        self._problem = ""
        self.applied: Applied | None = None
        self.revision = 0  # the store revision that what is served stands for
        self.counts = Counts()
        self._cost = Cost()

    async def run(self) -> None:
        """Follow until cancelled."""
        self._look()
        try:
            while True:
                await self._due.wait()
                if self._scheduler.is_due:
                    await self._try_to_apply()
                    self._due.clear()
                else:
                    self._due.clear()
                    await self._move()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _look(self) -> None:
        """Read the version, and wake the task when something is due."""
        self._timer = asyncio.get_running_loop().call_later(self._poll_interval_s, self._look)
        if self._due.is_set():
            return
        slot = self._reader.peek()
        if slot is not None and slot.version:
            if slot.identity != self._seen:
                self._note_change()
            elif self.applied is not None:
                self.revision = slot.revision
            if self.applied is not None:
                self._note_base(slot)
        if self._may_start() or self._may_move():
            self._due.set()

    def _may_start(self) -> bool:
        """Whether it is time for what waits. A full rebuild takes turns with those of the host's other workers, unless
        nothing is served yet; whoever has no turn asks again when the timer comes round.
        """
        if not self._scheduler.is_due:
            return False
        return self._scheduler.work is not Work.FULL or self._turn.take() or self._cursor is None

    def _may_move(self) -> bool:
        return self._move_at_s is not None and self._clock.monotonic() >= self._move_at_s

    def _note_base(self, slot: Slot) -> None:
        """A newer base: what is served is read from there without haste, and not by all workers at once."""
        if slot.snapshot_number == self._state.snapshot:
            self._move_at_s = None
        elif self._move_at_s is None:
            self._move_at_s = self._clock.monotonic() + self._scheduler.spread_s()

    def _note_change(self) -> None:
        if self._scheduler.work is not None:
            return
        if self._cursor is None:
            # Nothing is served yet: no request waits for this rebuild, and all of them for its end.
            self._scheduler.changed(Work.FULL)
            self._scheduler.at_once()
        else:
            self._scheduler.changed()

    async def _try_to_apply(self) -> None:
        try:
            await self._apply()
        except SegmentError as error:
            self._fail(str(error))
        except Exception as error:
            if repr(error) != self._problem:
                log.exception("applying the configuration")
            self._fail(repr(error))
            # A change that cannot be applied to what is there may still be part of a whole.
            self._scheduler.changed(Work.FULL)

    async def _apply(self) -> None:
        began_s = self._clock.monotonic()
        self._cost = Cost()
        if self._cursor is not None and self._scheduler.work is Work.UPDATE:
            changes = await self._in_slices(self._reader.changes_steps(self._cursor))
            if changes is not None:
                await self._in_slices(_to_end(self._state.update(changes.changes)))
                self._finish(changes.slot, changes.cursor, Work.UPDATE, began_s)
                return
            log.info("the change log does not reach back to what is served here: full rebuild")
            self._scheduler.changed(Work.FULL)
            if not self._may_start():
                return
        with self._turn_given_up_when_late():
            loaded = await self._in_slices(self._reader.load_steps())
            left = await self._in_slices(self._state.rebuild(loaded), keep_objects)
        self._finish(loaded.slot, loaded.cursor, Work.FULL, began_s)
        await self._in_slices(_to_end(left))

    async def _move(self) -> None:
        """Read from the newest base what is read from an older one, which can go then. Changes that fall due go first.

        What is served stays as it is, so a failure is of no consequence but that the old base stays too.
        """
        self._move_at_s = None
        slot, before = self._reader.peek(), self._state.snapshot
        if slot is None or self._cursor is None or slot.snapshot_number == before:
            return
        if slot.epoch != self._cursor.epoch or slot.snapshot_version > self._cursor.version:
            return
        try:
            base = self._reader.open_base(slot)
            steps = _to_end(chain(base.check_steps(), self._state.move_to(base)))
            while self._slice(steps) is None:
                await asyncio.sleep(0)
                keep_objects()
                if self._may_start():
                    await self._try_to_apply()
                    self._due.clear()
                    if self._state.snapshot != before:
                        return
        except Exception as error:
            log.warning("what is served goes on being read from the base before: %r", error)
            self._move_at_s = self._clock.monotonic() + MOVE_RETRY_S

    @contextmanager
    def _turn_given_up_when_late(self) -> Iterator[None]:
        """Release the turn at the end of the block, or before that when the block takes too long."""
        late = asyncio.get_running_loop().call_later(self._full_timeout_s, self._give_up_turn)
        try:
            yield
        finally:
            late.cancel()
            self._turn.release()

    def _give_up_turn(self) -> None:
        if self._turn.is_held:
            log.warning("a full rebuild takes longer than %g s: giving up its turn", self._full_timeout_s)
            self._turn.release()

    def _finish(self, slot: Slot, cursor: Cursor, work: Work, began_s: float) -> None:
        now_s = self._clock.monotonic()
        self._cursor, self._seen, self.revision, self._problem = cursor, slot.identity, slot.revision, ""
        self._scheduler.finished()
        self.applied = Applied(
            slot=slot,
            digest=self._state.digest,
            work=work,
            jitter_ms=self._scheduler.jitter_ms,
            duration_s=now_s - began_s,
            at_s=now_s,
            at_wall_s=self._clock.wall(),
            cost=self._cost,
        )
        if work is Work.FULL:
            self.counts.fulls += 1
        else:
            self.counts.updates += 1
        if self._state.digest != slot.digest:
            self._heal(slot, work)
        self._on_applied(self.applied)
        self._cost = Cost()  # what follows (letting go of the old, moving) is no part of it

    def _heal(self, slot: Slot, work: Work) -> None:
        """What is held is not what was published: rebuild. If a rebuild made it so, another one would not help."""
        log.error(
            "version %d has digest %016x, here it is %016x after %s",
            *(slot.version, slot.digest, self._state.digest),
            "an update: full rebuild" if work is Work.UPDATE else "a full rebuild: waiting for another version",
        )
        self.counts.mismatches += 1
        if work is Work.UPDATE:
            self._scheduler.changed(Work.FULL)

    def _fail(self, problem: str) -> None:
        self.counts.failures += 1
        if problem != self._problem:
            log.error("the configuration cannot be taken up: %s; serving what is there, trying again", problem)
            self._problem = problem
        self._scheduler.retry(RETRY_S)

    async def _in_slices(self, steps: Generator[None, None, T], after_slice: Callable[[], None] | None = None) -> T:
        """Run steps to their end, and whatever else waits on the loop between two slices. Their result."""
        while (ended := self._slice(steps)) is None:
            if after_slice is not None:
                after_slice()
            await asyncio.sleep(0)
        return ended.result

    def _slice(self, steps: Generator[None, None, T]) -> Ended[T] | None:
        """Run steps for as long as a slice may take. What they end with, None when there are more."""
        began_s, began_cpu_s = self._clock.monotonic(), self._clock.cpu()
        try:
            while self._clock.monotonic() < began_s + self._slice_s:
                next(steps)
        except StopIteration as done:
            # Not the exception itself: its traceback leads to the caller's frame, and from there back to it.
            return Ended(done.value)
        finally:
            self._count(self._clock.monotonic() - began_s, self._clock.cpu() - began_cpu_s)
        return None

    def _count(self, held_s: float, cpu_s: float) -> None:
        self._cost.cpu_s += cpu_s
        self._cost.held_s = max(self._cost.held_s, held_s)
        self.counts.worst_held_s = max(self.counts.worst_held_s, held_s)


def _to_end(steps: Iterator[None]) -> Generator[None, None, None]:
    yield from steps
