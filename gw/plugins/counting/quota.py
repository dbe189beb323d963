"""What a counter is asked and what it answers."""

from __future__ import annotations

from typing import NamedTuple

from gw.errors import JitterwayError


class Quota(NamedTuple):
    """So many requests in so many seconds."""

    limit: int
    window_s: int


class Verdict(NamedTuple):
    """Whether a request is within its quota, how many more are, and in how many seconds that begins anew."""

    is_within: bool
    remaining: int
    reset_s: float


class CountingFailed(JitterwayError):
    """The count is not known: Redis is away, refuses, or is too slow; shared state cannot be made."""


def fixed_verdict(quota: Quota, consumed: int, reset_s: float) -> Verdict:
    """For a fixed window in which `consumed` requests were counted, this one included."""
    remaining = quota.limit - consumed
    if remaining >= 0:
        return Verdict(True, remaining, reset_s)
    return Verdict(False, 0, reset_s)
