"""Smooth weighted round robin: nginx's and APISIX's default.

Every candidate gets its share within each period (the sum of weights over their greatest common divisor), spread as
evenly as the weights allow: 5, 1, 1 gives a a b a c a a, not a a a a a b c. The order repeats with each period, so it
is worked out once, as far as it is needed, and then only walked: a pick costs the same with 2 nodes and with 200.
"""

from collections.abc import Sequence
from math import gcd
from typing import Final, Generic, TypeVar

from gw.balancer.base import Weighted, eligible

T = TypeVar("T")

# Beyond this the period is not remembered but worked out pick by pick: weights like 999983 and 1000003 would
# otherwise cost megabytes. 8,192 references are 64 KB.
_MAX_REMEMBERED: Final = 8192


class Only(Generic[T]):
    """What round robin comes to with one candidate, as most upstreams have."""

    __slots__ = ("_candidate",)

    def __init__(self, candidate: T) -> None:
        self._candidate = candidate

    def pick(self) -> T | None:
        """Return it."""
        return self._candidate


class RoundRobin(Generic[T]):
    """Picks in turn, by weight."""

    __slots__ = ("_candidates", "_current", "_next", "_order", "_period", "_weights")

    def __init__(self, candidates: Sequence[Weighted[T]]) -> None:
        able = eligible(candidates)
        self._candidates = [each.candidate for each in able]
        divisor = gcd(*(each.weight for each in able)) or 1
        self._weights = [each.weight // divisor for each in able]
        self._period = sum(self._weights)
        self._current = [0] * len(able)
        self._order: list[T] = []
        self._next = 0

    def pick(self) -> T | None:
        """Return the next candidate, None when no candidate has a weight."""
        if self._next < len(self._order):
            picked = self._order[self._next]
            self._next += 1
            return picked
        if not self._candidates:
            return None
        if len(self._order) == self._period:
            self._next = 1
            return self._order[0]
        picked = self._work_out()
        if self._period <= _MAX_REMEMBERED:
            self._order.append(picked)
            self._next += 1
        return picked

    def _work_out(self) -> T:
        """One step of the smooth algorithm: raise all by their weight, pick the highest, lower it by the sum."""
        current = self._current
        best = 0
        for at, weight in enumerate(self._weights):
            current[at] += weight
            if current[at] > current[best]:
                best = at
        current[best] -= self._period
        return self._candidates[best]
