"""One timer for a connection whose deadline moves with everything that happens on it.

Moving the deadline costs an attribute; the loop's timer is touched only when it fires, or when it would fire too late.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """`at_s`: when it is over, as the loop counts (CLOCK_MONOTONIC); `math.inf`: never. May be set to a later time.

    `fires_at_s`: when the loop's timer does, `math.inf` without one. PERF: who moves a deadline with each request looks
    at it, and calls `set_timer` only where that is too late.

    `on_due` is called once the deadline has passed, and may set another one. It is a method of who owns this, hence a
    cycle, which lasts until `stop`.
    """

    __slots__ = ("_loop", "_on_due", "_timer", "at_s", "fires_at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due: Callable[[], None] | None = on_due
        self._timer: asyncio.TimerHandle | None = None
        self.fires_at_s = math.inf
        self.at_s = math.inf

    def after(self, seconds: float) -> None:
        """Let it be in so many seconds."""
        at_s = self.at_s = self._loop.time() + seconds
        if self.fires_at_s > at_s:
            self.set_timer(at_s)

    def stop(self) -> None:
        """Never again."""
        self._on_due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.fires_at_s = math.inf

    def set_timer(self, at_s: float) -> None:
        """Let the loop's timer fire then."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._on_due is not None:
            self._timer = self._loop.call_at(at_s, self._on_timer)
            self.fires_at_s = at_s

    def _on_timer(self) -> None:
        self._timer = None
        self.fires_at_s = math.inf
        if self.at_s == math.inf or self._on_due is None:
            return
        if self.at_s > self._loop.time():
            self.set_timer(self.at_s)
        else:
            self._on_due()
