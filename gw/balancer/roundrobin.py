"""Smooth weighted round robin: nginx's and APISIX's default.

Every candidate gets its share within each period (the sum of weights over their greatest common divisor), spread as
evenly as the weights allow: 5, 1, 1 gives a a b a c a a, not a a a a a b c. The order repeats with each period, so it
is worked out once, as far as it is needed, and then only walked: a pick costs the same with 2 nodes and with 200.

A balancer that follows another begins with what that one owed to each candidate. Otherwise every change would begin
the order anew, and who stands late in it would come short where changes are frequent.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd
from typing import Final, TypeVar

from gw.balancer.base import Balancer, Listed, Weighted

T = TypeVar("T")

# Beyond this the period is not remembered but worked out pick by pick: weights like 999983 and 1000003 would
# otherwise cost megabytes. 8,192 references are 64 KB.
_MAX_REMEMBERED: Final = 8192


class Only(Balancer[T]):
    """What round robin and hashing come to with one candidate, as most upstreams have."""

    __slots__ = ("_candidate",)
    needs_key = False
    needs_done = False

    def __init__(self, candidate: T) -> None:
        self._candidate = candidate

    def pick(self, key: bytes = b"", tried: Sequence[T] = ()) -> T | None:
        """Return it, if it was not tried."""
        if tried and self._candidate in tried:
            return None
        return self._candidate


class RoundRobin(Listed[T]):
    """Picks in turn, by weight."""

    __slots__ = ("_current", "_next", "_order", "_period", "_settling", "_standing_in", "_weights")
    needs_key = False
    needs_done = False

    def __init__(self, candidates: Sequence[Weighted[T]], owed: Mapping[T, float] | None = None) -> None:
        """`owed`: see `owed` of the balancer that this one follows."""
        super().__init__(candidates)
        divisor = gcd(*(each.weight for each in candidates)) or 1
        self._weights = [each.weight // divisor for each in candidates]
        self._period = sum(self._weights)
        self._current = [0] * len(candidates)
        self._order: list[T] = []
        self._next = 0
        self._settling = 0  # picks to go until what was owed is paid, and the order that repeats begins
        self._standing_in: list[int] | None = None
        if self._period == len(candidates):
            self._order = self._candidates
        if owed:
            self._go_on(owed)

    def pick(self, key: bytes = b"", tried: Sequence[T] = ()) -> T | None:
        """Return the next candidate, None when there is none but those that were tried."""
        if tried:
            return self._pick_other(tried)
        at = self._next
        if at < len(self._order):
            self._next = at + 1
            return self._order[at]
        if not self._candidates:
            return None
        if len(self._order) == self._period:
            self._next = 1
            return self._order[0]
        picked = self._candidates[_step(self._weights, self._current)]
        if self._settling:
            self._settling -= 1
            if not self._settling:
                self._current = [0] * len(self._candidates)
        elif self._period <= _MAX_REMEMBERED:
            self._order.append(picked)
            self._next += 1
        return picked

    def owed(self) -> dict[T, float]:
        """How many turns each candidate is short of its share now, or ahead of it where negative. The sum is 0."""
        if self._settling or not self._order:
            current = self._current
        else:
            had = Counter(map(id, self._order[: self._next]))
            current = [
                self._next * weight - self._period * had[id(candidate)]
                for candidate, weight in zip(self._candidates, self._weights, strict=True)
            ]
        return {each: now / self._period for each, now in zip(self._candidates, current, strict=True)}

    def _go_on(self, owed: Mapping[T, float]) -> None:
        turns = _among(self._candidates, owed)
        if self._order:  # equal weights: who is owed most comes first, and all is paid within the first period
            self._order = [each for _, each in sorted(zip(turns, self._candidates, strict=True), key=_most_owed)]
        elif any(turns):
            self._current = [round(each * self._period) for each in turns]
            self._settling = self._period if self._period <= _MAX_REMEMBERED else 0

    def _pick_other(self, tried: Sequence[T]) -> T | None:
        """A stand-in. The turns of who stands in are counted apart, so that the order above stays as it is, and one
        dead candidate's share is spread over all the others and not given to the one behind it."""
        passed_over = self._places_of(tried)
        if len(passed_over) == len(self._candidates):
            return None
        if self._standing_in is None:
            self._standing_in = [0] * len(self._candidates)
        return self._candidates[_step(self._weights, self._standing_in, passed_over)]


def _step(weights: Sequence[int], current: list[int], passed_over: Sequence[int] = ()) -> int:
    """One step of the smooth algorithm: raise all by their weight, pick the highest, lower it by the sum."""
    best, highest, total = 0, None, 0
    for at, weight in enumerate(weights):
        if at in passed_over:
            continue
        total += weight
        current[at] += weight
        if highest is None or current[at] > highest:
            best, highest = at, current[at]
    current[best] -= total
    return best


def _among(candidates: Sequence[T], owed: Mapping[T, float]) -> list[float]:
    """What is owed to each between themselves. Newcomers stand where the others stand on average.

    What those who left were owed, or were ahead, has left with them: without taking the mean off it would be laid on
    the newcomers.
    """
    kept = [owed[each] for each in candidates if each in owed]
    mean = sum(kept) / len(kept) if kept else 0.0
    return [owed.get(each, mean) - mean for each in candidates]


def _most_owed(pair: tuple[float, T]) -> float:
    return -pair[0]
