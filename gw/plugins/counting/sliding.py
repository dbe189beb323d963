"""The sliding window, estimated from two fixed ones (apisix/plugins/limit-count/sliding-window of 3.18). Pure.

    previous window            current window
    |-----------------------|--------------|--------|
              previous                  now         end

Requests of the previous window count by the share of it that the sliding one still covers, which takes them as spread
evenly. A refused request is not counted.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gw.plugins.counting.quota import Quota, Verdict


class Windows(NamedTuple):
    """What was counted in the window with this number, and in the one before it."""

    number: int
    current: int
    previous: int

    def at(self, number: int) -> Windows:
        """The same counts seen from a later window (an earlier one is taken for the same)."""
        if number <= self.number:
            return self
        return Windows(number, 0, self.current if number == self.number + 1 else 0)


def window_number(quota: Quota, now_s: float) -> int:
    """Windows are counted from the clock's zero, so all who share the clock share the windows."""
    return int(now_s // quota.window_s)


def left_s(quota: Quota, now_s: float) -> float:
    """Seconds until the current window ends."""
    return quota.window_s - now_s % quota.window_s


def is_within(quota: Quota, current: int, previous: int, left_s: float) -> bool:
    """Whether one more request is. `sliding.lua` in `scripts` says the same."""
    return min(previous, quota.limit) * left_s / quota.window_s + current < quota.limit


def judge(quota: Quota, current: int, previous: int, left_s: float, *, is_within: bool, cost: int) -> Verdict:
    """What follows from `is_within`. `current`: what was counted before this request, which costs `cost`."""
    # More than the limit may have been counted where several did so at once: nobody is punished for that.
    rate = min(previous, quota.limit) / quota.window_s
    if is_within:
        return Verdict(True, max(math.floor(quota.limit - current - cost - rate * left_s), 0), left_s)
    if current >= quota.limit or rate == 0:
        return Verdict(False, 0, left_s)
    return Verdict(False, 0, max(left_s - (quota.limit - current) / rate, 0.0))
