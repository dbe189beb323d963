"""Entries on their way to a place of their own: gathered, sent together, tried again, never waited for.

`Gathering` decides when a batch is due, as APISIX's batch processor (apisix/utils/batch-processor.lua): when it is
full, when no entry has come for a while, or when its oldest one has waited long enough. `Batches` owns the timer and
the tasks.

What waits is bounded by a `Room`, in entries and in bytes, and counts until it is delivered or given up: a place that
is slow or away costs entries, and never memory or a request. As in APISIX, all configurations of a plugin in one
worker share a room.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from gw.plugins.api import Environment
from gw.plugins.shared.seldom import Seldom

log: Final = logging.getLogger(__name__)

# As APISIX 3.19. With entries of 1 KB that is 8 MB a worker.
MAX_PENDING_ENTRIES: Final = 8192
# Entries with bodies are larger: a bound on their number alone would be none on memory.
MAX_PENDING_BYTES: Final = 64 << 20
# A batch is full with so many bytes, too: servers refuse bodies that are much larger.
MAX_BATCH_BYTES: Final = 4 << 20
# Batches that are on their way at once: with batches of one entry, a place that answers in 10 ms takes 1,600 a second.
MAX_SENDING: Final = 16
# What a worker that stops waits for its last batches, at most: a place that is there takes them in far less.
PATIENCE_S: Final = 3.0
# One line in this time for what a place that is away causes.
_QUIET_S: Final = 5.0
_STOPPED: Final = "the worker stops"


class BatchSettings(NamedTuple):
    """APISIX's batch_max_size, inactive_timeout, buffer_duration, max_retry_count, retry_delay."""

    max_entries: int
    inactive_s: float
    oldest_s: float
    retries: int
    retry_delay_s: float


class Sink(Protocol):
    """Where batches go. Its text says where that is, without what must not be in a log."""

    async def send(self, entries: Sequence[bytes]) -> None:
        """Deliver a batch, whole. What it raises says why it was not delivered."""
        ...


class Gathering:
    """Entries that wait to become a batch. Decides only; times are of one clock, in seconds."""

    __slots__ = ("_bytes", "_entries", "_first_s", "_last_s", "_settings")

    def __init__(self, settings: BatchSettings) -> None:
        self._settings = settings
        self._entries: list[bytes] = []
        self._bytes = 0
        self._first_s = 0.0
        self._last_s = 0.0

    def add(self, entry: bytes, now_s: float) -> bool:
        """Whether it is a full batch now."""
        if not self._entries:
            self._first_s = now_s
        self._last_s = now_s
        self._entries.append(entry)
        self._bytes += len(entry)
        return len(self._entries) >= self._settings.max_entries or self._bytes >= MAX_BATCH_BYTES

    @property
    def due_s(self) -> float | None:
        """When it is a batch though it is not full; None while there is no entry."""
        if not self._entries:
            return None
        return min(self._last_s + self._settings.inactive_s, self._first_s + self._settings.oldest_s)

    def take(self) -> list[bytes]:
        """What there is; it begins anew."""
        entries, self._entries = self._entries, []
        self._bytes = 0
        return entries


class Room:
    """What waits: entries that are not delivered and not given up, of all that share it."""

    __slots__ = ("bytes", "entries")

    def __init__(self) -> None:
        self.entries = 0
        self.bytes = 0

    def has(self, size_bytes: int, max_entries: int) -> bool:
        """Whether one more entry may come in."""
        return self.entries < max_entries and self.bytes + size_bytes <= MAX_PENDING_BYTES


class Batches:
    """The entries of one configuration. `add` never waits; `dropped` counts what was never taken in, `lost` what was
    given up.
    """

    __slots__ = (
        "_env",
        "_gathering",
        "_is_closed",
        "_max_pending",
        "_name",
        "_room",
        "_seldom_dropped",
        "_seldom_lost",
        "_sending",
        "_settings",
        "_sink",
        "_timer",
        "_waiting",
        "dropped",
        "lost",
    )

    def __init__(
        self,
        name: str,
        settings: BatchSettings,
        sink: Sink,
        env: Environment,
        room: Room,
        max_pending: Callable[[], int],
    ) -> None:
        """`name` is for the log; `max_pending` is asked for each entry: how many may wait in `room`."""
        self._name = name
        self._settings = settings
        self._sink = sink
        self._env = env
        self._max_pending = max_pending
        self._gathering = Gathering(settings)
        self._waiting: deque[list[bytes]] = deque()
        self._sending = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._room = room
        self.dropped = 0
        self.lost = 0
        self._seldom_dropped = Seldom(env.clock, _QUIET_S)
        self._seldom_lost = Seldom(env.clock, _QUIET_S)

    def add(self, entry: bytes) -> bool:
        """Take an entry in; False when there is no room for it."""
        room = self._room
        if not room.has(len(entry), self._max_pending()):
            self.dropped += 1
            if count := self._seldom_dropped():
                waiting = f"{room.entries} entries, {room.bytes} bytes, wait already"
                log.error("%s for %s: %d entries dropped: %s", self._name, self._sink, count, waiting)
            return False
        room.entries += 1
        room.bytes += len(entry)
        loop = self._env.loop
        if self._gathering.add(entry, loop.time()) or self._is_closed:
            self.flush()
        elif self._timer is None:
            self._arm()
        return True

    def flush(self) -> None:
        """Let what there is be a batch, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if entries := self._gathering.take():
            self._waiting.append(entries)
            if self._sending < MAX_SENDING and self._env.spawn is not None:
                self._sending += 1
                self._env.spawn(self._send_all(), f"batches of {self._name}", patience_s=PATIENCE_S)

    def close(self) -> None:
        """Nothing more is expected: send what there is. What comes all the same is sent at once."""
        self._is_closed = True
        self.flush()

    def _arm(self) -> None:
        due_s = self._gathering.due_s
        if due_s is not None:
            self._timer = self._env.loop.call_at(due_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        due_s = self._gathering.due_s
        if due_s is None:
            return
        # Entries that came since have put it off: the timer is moved here, not for each of them.
        if due_s <= self._env.loop.time():
            self.flush()
        else:
            self._arm()

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._deliver(self._waiting.popleft())
        except asyncio.CancelledError:
            while self._waiting:
                self._give_up(self._waiting.popleft(), _STOPPED)
            raise
        finally:
            self._sending -= 1

    async def _deliver(self, entries: list[bytes]) -> None:
        problem = ""
        try:
            for tried in range(self._settings.retries + 1):
                if tried:
                    await asyncio.sleep(self._settings.retry_delay_s)
                try:
                    await self._sink.send(entries)
                except Exception as error:
                    problem = str(error) or type(error).__name__
                else:
                    self._leave_room(entries)
                    return
        except asyncio.CancelledError:
            self._give_up(entries, _STOPPED)
            raise
        self._give_up(entries, problem)

    def _give_up(self, entries: list[bytes], problem: str) -> None:
        self._leave_room(entries)
        self.lost += len(entries)
        if count := self._seldom_lost(len(entries)):
            tries = self._settings.retries + 1
            log.error("%s for %s: %d entries lost (%d tries): %s", self._name, self._sink, count, tries, problem)

    def _leave_room(self, entries: list[bytes]) -> None:
        self._room.entries -= len(entries)
        self._room.bytes -= sum(map(len, entries))
