"""The faster of two that chance draws, by response times in an exponentially weighted moving average.

Source: apisix/balancer/ewma.lua. Averages fade with time also where nothing is measured, so a candidate that was slow
is tried again after a while. Weights say only whether a candidate is used at all, as there.

Two things are otherwise than there, because they hurt its users. A failure is never counted as a fast answer (else who
refuses connections looks best: kubernetes/ingress-nginx issue 5540), but as slow as the slowest candidate at that
time. And who comes newly into a group begins with the mean of the others and not as the fastest of all, which would
draw all requests until it has answered one (apache/apisix issue 13175).
"""

from collections.abc import Callable, Collection, Sequence
from math import exp, inf, log
from typing import Final, Generic, TypeVar

from gw.balancer.base import Listed, Weighted

T = TypeVar("T")

# DECAY_TIME in apisix/balancer/ewma.lua: after as long without a measurement, an average is 1/e of what it was.
DECAY_S: Final = 10.0
# An answer within no time at all still has a logarithm.
_LEAST_S: Final = 1e-9


class _Cell:
    """One candidate's average.

    `level` orders cells: log(score now) = log(score when touched) - (now - touched) / DECAY_S, and as now is the same
    for all of them, log(score when touched) + touched / DECAY_S orders as the scores of any moment do. So a pick needs
    no clock and no exponential.
    """

    __slots__ = ("level", "score_s", "touched_s")

    def __init__(self) -> None:
        self.score_s = 0.0
        self.touched_s = -inf
        self.level = -inf

    def put(self, score_s: float, at_s: float) -> None:
        self.score_s = max(score_s, _LEAST_S)
        self.touched_s = at_s
        self.level = log(self.score_s) + at_s / DECAY_S

    def measure(self, taken_s: float, at_s: float) -> None:
        at_s = max(at_s, self.touched_s)
        kept = exp((self.touched_s - at_s) / DECAY_S)
        self.put(self.score_s * kept + taken_s * (1.0 - kept), at_s)

    def score_at(self, now_s: float) -> float:
        return exp(self.level - now_s / DECAY_S)


class ResponseTimes(Generic[T]):
    """The averages of an upstream, shared by the balancers that follow one another and by their groups."""

    __slots__ = ("_cells",)

    def __init__(self) -> None:
        self._cells: dict[T, _Cell] = {}

    def admit(self, candidates: Collection[T]) -> None:
        """Hold exactly these; newcomers begin with the mean of those that were measured."""
        cells = {each: self._cells.get(each) or _Cell() for each in candidates}
        measured = [cell for cell in cells.values() if cell.touched_s > -inf]
        if measured:
            now_s = max(cell.touched_s for cell in measured)
            mean_s = sum(cell.score_at(now_s) for cell in measured) / len(measured)
            for cell in cells.values():
                if cell.touched_s == -inf:
                    cell.put(mean_s, now_s)
        self._cells = cells

    def measure(self, candidate: T, taken_s: float, at_s: float, ok: bool) -> None:
        """An attempt took `taken_s` and ended at `at_s` (monotonic)."""
        cell = self._cells.get(candidate)
        if cell is None:  # gone since
            return
        if not ok:
            slowest = max(each.level for each in self._cells.values())
            taken_s = max(taken_s, exp(slowest - at_s / DECAY_S))
        cell.measure(max(taken_s, 0.0), at_s)

    def score(self, candidate: T, now_s: float) -> float:
        """The average in seconds as of `now_s`; 0 for one that was never measured. Raises KeyError for a stranger."""
        return self._cells[candidate].score_at(now_s)

    def cell(self, candidate: T) -> _Cell:
        return self._cells[candidate]


class Ewma(Listed[T]):
    """Picks the one with the shorter average of two that chance draws."""

    __slots__ = ("_cells", "_chance", "times")
    needs_key = False
    needs_done = True

    def __init__(
        self, candidates: Sequence[Weighted[T]], chance: Callable[[], float], times: ResponseTimes[T] | None = None
    ) -> None:
        """`chance`: uniform from 0 to below 1, as `random.random`. `times`: those of the balancer that this one follows
        and of the other groups beside it, with these candidates admitted."""
        super().__init__(candidates)
        self._chance = chance
        if times is None:
            times = ResponseTimes()
            times.admit(self._candidates)
        self.times = times
        self._cells = [times.cell(each) for each in self._candidates]

    def pick(self, key: bytes = b"", tried: Sequence[T] = ()) -> T | None:
        """Return the better of two, None when there is none but those that were tried."""
        passed_over = self._places_of(tried) if tried else ()
        count = len(self._cells) - len(passed_over)
        if count < 1:
            return None
        one = int(self._chance() * count)
        other = int(self._chance() * (count - 1))
        if other >= one and count > 1:
            other += 1
        for at in passed_over:  # in order: the places of those that are left close up
            one += at <= one
            other += at <= other
        return self._candidates[other if self._cells[other].level < self._cells[one].level else one]

    def done(self, candidate: T, started_s: float, ended_s: float, ok: bool) -> None:
        """Count in how long it took."""
        self.times.measure(candidate, ended_s - started_s, ended_s, ok)
