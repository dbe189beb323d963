"""Counts in the state that all workers of this host share: one limit a host, whatever the number of workers."""

from __future__ import annotations

import struct
from typing import Any, Final, Protocol

from gw.clock import Clock
from gw.errors import SegmentError
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict, fixed_verdict
from gw.plugins.counting.sliding import Windows, is_within, judge, left_s, window_number

# number, current, previous
_WINDOWS: Final = struct.Struct("<qqq")


class Counter(Protocol):
    """Counts a request under a key. Raises CountingFailed."""

    def count(self, key: str, quota: Quota, cost: int = 1) -> Verdict: ...


class FixedCounter:
    """A window begins with the first request under a key, and ends `window_s` later (resty.limit.count)."""

    __slots__ = ("_shared",)

    def __init__(self, shared: Any) -> None:
        """`shared`: gw.shared.store.SharedStore."""
        self._shared = shared

    def count(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        try:
            consumed, reset_s = self._shared.increment(key.encode("utf-8", "surrogateescape"), cost, quota.window_s)
        except SegmentError as error:
            raise CountingFailed(str(error)) from error
        return fixed_verdict(quota, consumed, reset_s)


class SlidingCounter:
    """See `sliding`. Both windows are one value, so a request is judged and counted with nobody in between."""

    __slots__ = ("_clock", "_shared")

    def __init__(self, shared: Any, clock: Clock) -> None:
        self._shared = shared
        self._clock = clock

    def count(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        now_s = self._clock.monotonic()
        number, rest_s = window_number(quota, now_s), left_s(quota, now_s)
        seen, within = Windows(number, 0, 0), False

        def change(value: bytes | None) -> tuple[bytes, float]:
            nonlocal seen, within
            kept = Windows(*_WINDOWS.unpack(value)) if value is not None and len(value) == _WINDOWS.size else None
            seen = (kept or Windows(number, 0, 0)).at(number)
            within = is_within(quota, seen.current, seen.previous, rest_s)
            counted = cost if within else 0
            return _WINDOWS.pack(seen.number, seen.current + counted, seen.previous), quota.window_s * 2.0

        try:
            self._shared.update(key.encode("utf-8", "surrogateescape"), change)
        except SegmentError as error:
            raise CountingFailed(str(error)) from error
        return judge(quota, seen.current, seen.previous, rest_s, is_within=within, cost=cost)
