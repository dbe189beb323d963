"""When a worker takes up what changed. Decides only: touches no router, sleeps nowhere; time and chance come in.

The first change that is seen sets a due time, now plus a random wait. Later changes ride along and never push it back,
so staleness is bounded under any rate of change. A wait drawn for a small update may turn out too short when the log
cannot tell what changed: then the wait of a full rebuild is drawn, once, counted from the same first change.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from gw.clock import Clock


class Chance(Protocol):
    """The part of random.Random that is used."""

    def uniform(self, a: float, b: float) -> float: ...


class Work(Enum):
    """What there is to do. A full rebuild contains any update."""

    UPDATE = "update"
    FULL = "full"


class RebuildScheduler:
    """One worker's due time. `*_jitter_ms` are (least, most); `(0, 0)` turns waiting off."""

    def __init__(
        self,
        *,
        update_jitter_ms: tuple[int, int],
        full_jitter_ms: tuple[int, int],
        clock: Clock,
        chance: Chance,
    ) -> None:
        self._window_ms = {Work.UPDATE: update_jitter_ms, Work.FULL: full_jitter_ms}
        self._clock = clock
        self._chance = chance
        self._changed_at_s: float | None = None
        self._due_at_s = 0.0
        self.work: Work | None = None  # what is waited for; None when nothing is
        self.jitter_ms = 0.0  # the wait drawn last
        self.worst_staleness_s = 0.0  # the longest a seen change has ever waited for `finished`, the first one left out
        self._is_serving = False

    @property
    def due_at_s(self) -> float | None:
        """When to start, on the clock's monotonic time; None when there is nothing to do."""
        return None if self.work is None else self._due_at_s

    @property
    def staleness_s(self) -> float:
        """For how long a change has been seen and not served. 0 when there is none."""
        return 0.0 if self._changed_at_s is None else self._clock.monotonic() - self._changed_at_s

    @property
    def is_due(self) -> bool:
        return self.work is not None and self._clock.monotonic() >= self._due_at_s

    def changed(self, work: Work = Work.UPDATE) -> None:
        """Take note that there is something to do. Only what is heavier than what is waited for draws a new wait."""
        if self.work is work or self.work is Work.FULL:
            return
        if self._changed_at_s is None:
            self._changed_at_s = self._clock.monotonic()
        self.work = work
        self.jitter_ms = self._chance.uniform(*self._window_ms[work])
        self._due_at_s = self._changed_at_s + self.jitter_ms / 1000

    def at_once(self) -> None:
        """Make what is waited for due now: a worker that serves nothing yet disturbs nobody by starting."""
        self.jitter_ms = 0.0
        self._due_at_s = self._clock.monotonic()

    def spread_s(self) -> float:
        """A wait for work as large as a full rebuild that no change waits for: drawn from the same window."""
        return self._chance.uniform(*self._window_ms[Work.FULL]) / 1000

    def finished(self) -> None:
        """What was due is served."""
        if self._is_serving:
            self.worst_staleness_s = max(self.worst_staleness_s, self.staleness_s)
        self._is_serving = True  # what was served before there was anything to serve cannot have been stale
        self._changed_at_s = None
        self.work = None

    def retry(self, after_s: float) -> None:
        """What was due failed: due again in `after_s`, without a new wait, still counted from the first change."""
        self._due_at_s = self._clock.monotonic() + after_s
