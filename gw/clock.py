"""The seam for time. Whoever waits, measures or stamps gets a Clock; tests pass one they move by hand."""

import time
from typing import Protocol


class Clock(Protocol):
    """A time to measure with, one to show people, and the CPU time of our own thread. All in seconds."""

    def monotonic(self) -> float:
        """Seconds on CLOCK_MONOTONIC: the same for every process of a host, never set back."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, for people and for stored timestamps."""
        ...

    def cpu(self) -> float:
        """User and system time this thread has used: what work costs, whoever else uses the core."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    cpu = staticmethod(time.thread_time)
