"""Messages that every request may cause: one in a while is written, and says how many it stands for."""

from __future__ import annotations

from gw.clock import Clock


class Seldom:
    """Call it for each message: 0 when it is to be left out, else how many came since the last one, it included."""

    __slots__ = ("_clock", "_count", "_every_s", "_quiet_until_s")

    def __init__(self, clock: Clock, every_s: float) -> None:
        self._clock = clock
        self._every_s = every_s
        self._count = 0
        self._quiet_until_s = 0.0

    def __call__(self, count: int = 1) -> int:
        self._count += count
        now_s = self._clock.monotonic()
        if now_s < self._quiet_until_s:
            return 0
        self._quiet_until_s = now_s + self._every_s
        told, self._count = self._count, 0
        return told
