"""Waiting, on behalf of clients of the Admin API, until every worker of the host serves what they wrote.

Shared memory announces nothing, so it is looked at again and again, and by the loop that also serves traffic: all who
wait share one look, and the longer one has waited, the less often it looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from gw.clock import Clock
from gw.control.served import Observed, is_served, laggards

# A look takes 50 us with 2 workers, 0.6 ms with 64 (2 shared cores, Python 3.11).
SHORTEST_PAUSE_S: Final = 0.002
LONGEST_PAUSE_S: Final = 0.02
# A pause is this part of the time waited so far: who waits 20 ms learns of it 2.5 ms late at most.
_PAUSE_SHARE: Final = 1 / 8


class ServedWait:
    """`look` reads shared memory; `is_draining` says that this worker is asked to end, so nobody should keep it."""

    def __init__(self, look: Callable[[], Observed], is_draining: Callable[[], bool], clock: Clock) -> None:
        self._look = look
        self._is_draining = is_draining
        self._clock = clock
        self._seen: Observed | None = None
        self._seen_at_s = 0.0

    async def until_served(self, revision: int, timeout_s: float) -> list[dict[str, Any]]:
        """Who does not serve the store's `revision` when the time is over; nobody as soon as every worker does."""
        began_s = self._clock.monotonic()
        while not is_served(revision, seen := self._recent_look()):
            waited_s = self._clock.monotonic() - began_s
            if waited_s >= timeout_s or self._is_draining():
                return laggards(revision, seen)
            await asyncio.sleep(min(pause_s(waited_s), timeout_s - waited_s))
        return []

    def _recent_look(self) -> Observed:
        now_s = self._clock.monotonic()
        if self._seen is None or now_s - self._seen_at_s >= SHORTEST_PAUSE_S:
            self._seen, self._seen_at_s = self._look(), now_s
        return self._seen


def pause_s(waited_s: float) -> float:
    """How long to wait for the next look."""
    return min(max(waited_s * _PAUSE_SHARE, SHORTEST_PAUSE_S), LONGEST_PAUSE_S)
