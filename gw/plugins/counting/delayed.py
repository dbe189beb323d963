"""Counts here at once, and in Redis now and then (`sync_interval`): only a window's first request waits for Redis.

What is known of a key lies in the state that the host's workers share:

    consumed    by all gateways, as Redis said last
    delta       here since then, not told yet
    resets_s    when the window ends, syncs_s  when the delta is told next; CLOCK_MONOTONIC

So gateways may let through together what comes in during one interval. Without Redis the host counts alone.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from gw.clock import Clock
from gw.errors import SegmentError
from gw.plugins.counting.clients import Spawn
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict, fixed_verdict
from gw.plugins.counting.remote import RemoteCounter

_KNOWN: Final = struct.Struct("<qqdd")
# A process that was to tell the delta may have died: when it is late by so many intervals, another one does.
_LATE_INTERVALS: Final = 2

log: Final = logging.getLogger(__name__)


class Known(NamedTuple):
    """See the module."""

    consumed: int
    delta: int
    resets_s: float
    syncs_s: float


class DelayedCounter:
    """`interval_s`: how long a count may be untold. Raises CountingFailed only when shared state cannot be made."""

    def __init__(self, remote: RemoteCounter, shared: Any, clock: Clock, spawn: Spawn, *, interval_s: float) -> None:
        self._remote = remote
        self._shared = shared
        self._clock = clock
        self._spawn = spawn
        self._interval_s = interval_s

    async def count(self, key: str, quota: Quota, cost: int = 1) -> Verdict:
        now_s = self._clock.monotonic()
        known, telling_in_s = self._count_here(key, quota, cost, now_s)
        if known is None:
            return await self._begin(key, quota, cost, now_s)
        if telling_in_s is not None:
            self._spawn(self._tell(key, quota, telling_in_s))
        return fixed_verdict(quota, known.consumed + known.delta + cost, known.resets_s - now_s)

    def close(self, spawn: Spawn | None) -> None:
        """As RemoteCounter.close."""
        self._remote.close(spawn)

    def _count_here(self, key: str, quota: Quota, cost: int, now_s: float) -> tuple[Known | None, float | None]:
        """What was known before this request, None for nothing; in how many seconds we are to tell, None for not us."""
        before: Known | None = None
        telling_in_s: float | None = None

        def change(known: Known | None) -> Known | None:
            nonlocal before, telling_in_s
            before = known if known is not None and known.resets_s > now_s else None
            if before is None:
                return None
            # What is over the limit is refused, and refused requests are not told.
            is_within = before.consumed + before.delta + cost <= quota.limit
            telling_in_s = None
            if now_s >= before.syncs_s + _LATE_INTERVALS * self._interval_s:
                telling_in_s = 0.0
            elif before.delta == 0 and is_within:
                telling_in_s = self._interval_s
            syncs_s = before.syncs_s if telling_in_s is None else now_s + telling_in_s
            return before._replace(delta=before.delta + (cost if is_within else 0), syncs_s=syncs_s)

        self._update(key, change, now_s)
        return before, telling_in_s

    async def _begin(self, key: str, quota: Quota, cost: int, now_s: float) -> Verdict:
        """The first request of a window asks Redis how much of it is left."""
        try:
            verdict = await self._remote.count(key, quota, cost)
        except CountingFailed as error:
            log.warning("limit-count: counting on this host alone: %s", error)
            verdict = fixed_verdict(quota, cost, float(quota.window_s))
        consumed = quota.limit - verdict.remaining
        self._update(key, lambda known: self._told(known, 0, consumed, now_s + verdict.reset_s, now_s), now_s)
        return verdict

    async def _tell(self, key: str, quota: Quota, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        now_s = self._clock.monotonic()
        known = self._update(key, lambda known: known, now_s)
        if known is None:
            return
        try:
            verdict = await self._remote.count(key, quota, known.delta)
        except CountingFailed as error:
            log.warning("limit-count: %d requests are not told yet: %s", known.delta, error)
            return
        consumed, told = quota.limit - verdict.remaining, known.delta
        self._update(key, lambda known: self._told(known, told, consumed, now_s + verdict.reset_s, now_s), now_s)

    def _told(self, known: Known | None, told: int, consumed: int, resets_s: float, now_s: float) -> Known:
        delta = 0 if known is None else max(known.delta - told, 0)
        return Known(consumed, delta, resets_s, now_s + self._interval_s)

    def _update(self, key: str, change: Callable[[Known | None], Known | None], now_s: float) -> Known | None:
        after: Known | None = None

        def packed(value: bytes | None) -> tuple[bytes | None, float]:
            nonlocal after
            after = change(None if value is None or len(value) != _KNOWN.size else Known(*_KNOWN.unpack(value)))
            if after is None:
                return None, 0.0
            return _KNOWN.pack(*after), max(after.resets_s - now_s, 0.0)

        try:
            self._shared.update(b"delayed/" + key.encode("utf-8", "surrogateescape"), packed)
        except SegmentError as error:
            raise CountingFailed(str(error)) from error
        return after
