"""One timer for a connection whose deadline moves with everything that happens on it.

Moving the deadline costs an attribute; the loop's timer is touched only when it fires, or when it would fire too late.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """`at_s`: when it is over, as the loop counts (CLOCK_MONOTONIC); `math.inf`: never. May be set to a later time.

    `on_due` is called once the deadline has passed, and may set another one. It is a method of who owns this, hence a
    cycle, which lasts until `stop`.
    """

    __slots__ = ("_loop", "_on_due", "_timer", "_timer_at_s", "at_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._on_due: Callable[[], None] | None = on_due
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self.at_s = math.inf

    def after(self, seconds: float) -> None:
        """Let it be in so many seconds."""
        self.move_to(self._loop.time() + seconds)

    def move_to(self, at_s: float) -> None:
        """Let it be then."""
        self.at_s = at_s
        if self._timer is None or self._timer_at_s > at_s:
            self._set_timer(at_s)

    def stop(self) -> None:
        """Never again."""
        self._on_due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._on_due is None else self._loop.call_at(at_s, self._on_timer)
        self._timer_at_s = at_s

    def _on_timer(self) -> None:
        self._timer = None
        if self.at_s == math.inf or self._on_due is None:
            return
        if self.at_s > self._loop.time():
            self._set_timer(self.at_s)
        else:
            self._on_due()
