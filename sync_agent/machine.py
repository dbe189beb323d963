"""How the agent follows the store: list, watch, back off, list again. Decides only: no I/O, no clock, no sleep.

Events go in, actions come out; `sync_agent.runner` owns the store, the timer and the publisher. The rules:

- A watch starts at the revision after the last one seen, whether that came from a list or from the watch before it.
  A lost stream is resumed there and never skipped ahead.
- Only a full list is true when history is gone (compaction), when the store is another one (its id changed), or when
  its revision went back (restored from a backup). The runner publishes the difference, which is mostly nothing.
- What has been published stays until something newer is known, so no failure here takes anything away from a worker.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sync_agent.stores.base import Event as StoreEvent
from sync_agent.stores.base import Head

# The first wait is short because a restarted store is mostly back at once; the longest is under a second so that a
# host is back in service within a second of the store's answer. Each wait is drawn from the upper half of its range,
# so that the hosts of a fleet do not come back together.
FIRST_BACK_OFF_S: Final = 0.05
LONGEST_BACK_OFF_S: Final = 0.8


class State(enum.Enum):
    """Where the agent stands with its store."""

    STARTING = "starting"
    LISTING = "loading"  # a full list is under way
    OPENING = "resuming"  # a watch has been asked for and does not stand yet
    WATCHING = "watching"
    WAITING_TO_LIST = "backing off"
    WAITING_TO_WATCH = "backing off to resume"


# --- events: what happened


@dataclass(frozen=True, slots=True)
class Started:
    """The runner is ready."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A full list came in. `content` is the runner's: the machine only passes it on."""

    head: Head
    content: Any


@dataclass(frozen=True, slots=True)
class WatchOpened:
    """The watch stands; `head` is the store's present state."""

    head: Head


@dataclass(frozen=True, slots=True)
class Changed:
    """The watch delivered a batch; without events it only says how far the store has got."""

    head: Head
    events: tuple[StoreEvent, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """A list or a watch failed: the store is away, refused, or ended the stream."""

    reason: str


@dataclass(frozen=True, slots=True)
class HistoryGone:
    """The revision to watch from has been compacted away."""

    revision: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The back-off is over."""


Event = Started | Listed | WatchOpened | Changed | Lost | HistoryGone | TimerFired

# --- actions: what to do


@dataclass(frozen=True, slots=True)
class StartList:
    """List everything below the prefix; answer with Listed or Lost."""


@dataclass(frozen=True, slots=True)
class StartWatch:
    """Watch from this revision on; answer with WatchOpened, then Changed, then Lost or HistoryGone."""

    revision: int


@dataclass(frozen=True, slots=True)
class StopWatch:
    """End the watch; nothing of it may arrive afterwards."""


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Answer with TimerFired after this long."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class PublishAll:
    """The list is the truth: publish how it differs from what is published."""

    head: Head
    content: Any


@dataclass(frozen=True, slots=True)
class PublishChanges:
    """Publish these events, and that everything up to `head` has been seen."""

    head: Head
    events: tuple[StoreEvent, ...]


Action = StartList | StartWatch | StopWatch | SetTimer | PublishAll | PublishChanges


class Machine:
    """The agent's state towards its store. `rng` gives the chance in the back-off."""

    def __init__(self, rng: random.Random) -> None:
        self.state = State.STARTING
        self.problem = ""  # why the store is not being followed, for people; empty while it is
        self._rng = rng
        self._failures = 0
        self._seen: Head | None = None

    @property
    def seen(self) -> Head | None:
        """The newest state of the store that has been handed on for publishing."""
        return self._seen

    def step(self, event: Event) -> list[Action]:
        """What follows from `event`. An event that cannot happen in this state is a bug, and says so."""
        try:
            handler = TABLE[self.state, type(event)]
        except KeyError:
            raise RuntimeError(f"{type(event).__name__} cannot happen while the agent is {self.state.name}") from None
        return handler(self, event)

    def _list(self, event: Event) -> list[Action]:
        if isinstance(event, HistoryGone):
            self.problem = f"the store compacted its history up to revision {event.revision}: loading everything again"
        self.state = State.LISTING
        return [StartList()]

    def _listed(self, event: Listed) -> list[Action]:
        self._seen = event.head
        self.problem = ""
        self.state = State.OPENING
        return [PublishAll(event.head, event.content), StartWatch(event.head.revision + 1)]

    def _list_lost(self, event: Lost) -> list[Action]:
        self.state = State.WAITING_TO_LIST
        return [self._back_off(event.reason)]

    def _opened(self, event: WatchOpened) -> list[Action]:
        if self._is_another_past(event.head):
            return self._relist_instead(event.head)
        self.problem = ""
        self.state = State.WATCHING
        return []

    def _changed(self, event: Changed) -> list[Action]:
        if self._is_another_past(event.head):
            return self._relist_instead(event.head)
        # Only a watch that delivers is a success: one that opens and falls at once must not be tried without a pause.
        self._failures = 0
        self._seen = event.head
        return [PublishChanges(event.head, event.events)]

    def _watch_lost(self, event: Lost) -> list[Action]:
        self.state = State.WAITING_TO_WATCH
        return [self._back_off(event.reason)]

    def _resume(self, _event: TimerFired) -> list[Action]:
        assert self._seen is not None, "a watch is only ever resumed after a list"
        self.state = State.OPENING
        return [StartWatch(self._seen.revision + 1)]

    def _is_another_past(self, head: Head) -> bool:
        """Whether the store's history is not the one that was followed so far."""
        assert self._seen is not None, "a watch only ever follows a list"
        return head.store_id != self._seen.store_id or head.revision < self._seen.revision

    def _relist_instead(self, head: Head) -> list[Action]:
        assert self._seen is not None
        reason = (
            f"the store went from {self._seen.store_id} at revision {self._seen.revision} to {head.store_id} at "
            f"revision {head.revision} (restored from a backup?): loading everything again"
        )
        # After a pause: a cluster whose members lag behind one another answers so again and again.
        self.state = State.WAITING_TO_LIST
        return [StopWatch(), self._back_off(reason)]

    def _back_off(self, reason: str) -> SetTimer:
        self.problem = reason
        ceiling = min(LONGEST_BACK_OFF_S, FIRST_BACK_OFF_S * 2**self._failures)
        self._failures = min(self._failures + 1, 16)  # 2^16 times the first wait is past any ceiling
        return SetTimer(self._rng.uniform(ceiling / 2, ceiling))


Handler = Callable[[Machine, Any], list[Action]]

TABLE: Final[dict[tuple[State, type], Handler]] = {
    (State.STARTING, Started): Machine._list,
    (State.LISTING, Listed): Machine._listed,
    (State.LISTING, Lost): Machine._list_lost,
    (State.LISTING, HistoryGone): Machine._list,  # compacted between two pages: their revision is gone, start over
    (State.WAITING_TO_LIST, TimerFired): Machine._list,
    (State.OPENING, WatchOpened): Machine._opened,
    (State.OPENING, Lost): Machine._watch_lost,  # history is intact as far as we know: resume, do not list
    (State.OPENING, HistoryGone): Machine._list,  # history is gone: only a full list is true
    (State.WATCHING, Changed): Machine._changed,
    (State.WATCHING, Lost): Machine._watch_lost,
    (State.WATCHING, HistoryGone): Machine._list,
    (State.WAITING_TO_WATCH, TimerFired): Machine._resume,
}
