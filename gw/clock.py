"""The seam for time. Whoever waits, measures or stamps gets a Clock; tests pass one they move by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two times: one to measure with, one to show people. Both in seconds."""

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC: the same for every process of a host, never set back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for people and for stored timestamps."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
