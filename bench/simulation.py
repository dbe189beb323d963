"""A fleet in simulated time: the real RebuildScheduler in every worker, and models of what surrounds it.

Modelled after gw.rebuild.follower, gw.rebuild.turn and gw.server.report: a worker looks at the version every
`poll_interval_ms`, each in a phase of its own; what is due starts at a look; a full rebuild starts only with a turn, of
which a host has `max_concurrent_full`; who has none asks again at the next look. A full rebuild that comes from the log
(a new epoch, an overrun) is noticed only when the wait of an update is over, and draws its own wait then. Rebuilds
that share a host share its cores. Hosts do not know of one another: a fleet of 100 is the first 100 of 10,000. Left
out: a turn that is given up because the rebuild takes too long, and the requests that share the cores.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil

from gw.rebuild.scheduler import RebuildScheduler, Work

# What a rebuild takes, drawn for each; seconds of CPU.
Duration = Callable[[random.Random], float]


@dataclass(frozen=True, slots=True)
class Host:
    """What is the same on every host. `turns` None: no cap. `store_spread_s`: how unevenly hosts hear of a change."""

    workers: int = 8
    cores: int = 8
    turns: int | None = 1
    update_jitter_ms: tuple[int, int] = (0, 20)
    full_jitter_ms: tuple[int, int] = (0, 500)
    poll_interval_s: float = 0.005
    store_spread_s: float = 0.0
    full_s: Duration = field(default=lambda chance: 0.5)
    update_s: Duration = field(default=lambda chance: 0.0003)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One that happened. Times count from the first change; `staleness_s` from the oldest change it brought in.

    `own_staleness_s` is what the worker's cell says: from when it saw that change.
    """

    work: Work
    started_s: float
    finished_s: float
    staleness_s: float
    own_staleness_s: float
    jitter_ms: float


class SimulatedClock:
    """Time that stands still until the simulation moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s

    def cpu(self) -> float:
        return self.now_s


class _Worker:
    def __init__(self, host: Host, clock: SimulatedClock, chance: random.Random) -> None:
        self.phase_s = chance.uniform(0, host.poll_interval_s)
        self.scheduler = RebuildScheduler(
            update_jitter_ms=host.update_jitter_ms, full_jitter_ms=host.full_jitter_ms, clock=clock, chance=chance
        )
        self.served_change = 0  # how many changes are in what it serves
        self.taking_in = 0  # how many will be in when what runs is finished
        self.is_rebuilding = False
        self.has_turn = False
        self.started_s = 0.0
        self.left_s = 0.0  # CPU seconds to go


class _HostRun:
    """One host, event by event. Events are looks of one worker, or the end of the rebuild that ends next."""

    def __init__(self, host: Host, changes_s: Sequence[float], work: Work, chance: random.Random) -> None:
        self._host, self._work, self._chance = host, work, chance
        delay_s = chance.uniform(0, host.store_spread_s)
        self._changes_s = [at_s + delay_s for at_s in changes_s]
        self._published_s = list(changes_s)
        self._clock = SimulatedClock()
        self._workers = [_Worker(host, self._clock, chance) for _ in range(host.workers)]
        self._turns = host.workers if host.turns is None else host.turns
        self._waiting: list[_Worker] = []  # for a turn
        self._running: list[_Worker] = []
        self._advanced_s = 0.0
        self._events: list[tuple[float, int, _Worker | None]] = []
        self._order = itertools.count()
        self._plan = 0  # which of the planned ends still holds
        self.rebuilds: list[Rebuild] = []

    def run(self) -> list[Rebuild]:
        for worker in self._workers:
            self._look_at(worker, self._changes_s[0])
        while self._events:
            at_s, order, worker = heapq.heappop(self._events)
            if worker is None and order != self._plan:
                continue
            self._advance(at_s)
            if worker is None:
                self._finish(min(self._running, key=lambda running: running.left_s))
            else:
                self._look(worker)
        return self.rebuilds

    def _look(self, worker: _Worker) -> None:
        """What Follower._look and the start of _apply do."""
        scheduler = worker.scheduler
        if worker.is_rebuilding:
            return
        if scheduler.work is None:
            if worker.served_change == self._arrived():
                if worker.served_change < len(self._changes_s):
                    self._look_at(worker, self._changes_s[worker.served_change])
                return
            scheduler.changed()
        if scheduler.is_due and scheduler.work is Work.UPDATE:
            if self._work is Work.UPDATE:
                self._start(worker, self._host.update_s)
                return
            scheduler.changed(Work.FULL)  # the log cannot tell what changed
        if not scheduler.is_due:
            assert scheduler.due_at_s is not None
            self._look_at(worker, scheduler.due_at_s)
        elif self._turns:
            self._turns -= 1
            worker.has_turn = True
            self._start(worker, self._host.full_s)
        else:
            self._waiting.append(worker)

    def _start(self, worker: _Worker, duration: Duration) -> None:
        worker.is_rebuilding = True
        worker.taking_in = self._arrived()
        worker.started_s = self._clock.now_s
        worker.left_s = duration(self._chance)
        self._running.append(worker)
        self._plan_end()

    def _finish(self, worker: _Worker) -> None:
        now_s, scheduler = self._clock.now_s, worker.scheduler
        self._running.remove(worker)
        work = scheduler.work
        assert work is not None
        oldest_s = self._published_s[worker.served_change]
        self.rebuilds.append(
            Rebuild(work, worker.started_s, now_s, now_s - oldest_s, scheduler.staleness_s, scheduler.jitter_ms)
        )
        scheduler.finished()
        worker.served_change, worker.is_rebuilding = worker.taking_in, False
        if worker.has_turn:
            worker.has_turn = False
            self._turns += 1
            # Each asks again at its own next look: the first to look has it.
            waiting, self._waiting = self._waiting, []
            for other in waiting:
                self._look_at(other, now_s)
        self._look_at(worker, now_s)
        self._plan_end()

    def _look_at(self, worker: _Worker, at_s: float) -> None:
        """The worker's first look that is not before `at_s`."""
        interval_s = self._host.poll_interval_s
        # A hair later, so that a rounded time is not a moment before what is due.
        look_s = worker.phase_s + ceil((at_s - worker.phase_s) / interval_s) * interval_s + 1e-9
        heapq.heappush(self._events, (max(look_s, self._clock.now_s), next(self._order), worker))

    def _arrived(self) -> int:
        return sum(at_s <= self._clock.now_s for at_s in self._changes_s)

    def _advance(self, to_s: float) -> None:
        done_s = (to_s - self._advanced_s) * self._rate()
        for worker in self._running:
            worker.left_s -= done_s
        self._advanced_s = self._clock.now_s = to_s

    def _rate(self) -> float:
        """What of a core each rebuild gets now."""
        return min(1.0, self._host.cores / len(self._running)) if self._running else 1.0

    def _plan_end(self) -> None:
        if self._running:
            left_s = max(0.0, min(worker.left_s for worker in self._running))
            self._plan = next(self._order)
            heapq.heappush(self._events, (self._clock.now_s + left_s / self._rate(), self._plan, None))


def simulate(host: Host, hosts: int, changes_s: Sequence[float], work: Work, seed: int) -> list[list[Rebuild]]:
    """What each of so many hosts did about changes at these times. The same seed gives the same fleet."""
    chance = random.Random(seed)
    return [_HostRun(host, changes_s, work, chance).run() for _ in range(hosts)]


def busy_over_time(intervals: Sequence[tuple[float, float]]) -> list[tuple[float, int]]:
    """(time, how many of the (start, end) hold from then on), in order of time."""
    steps = sorted([(start_s, 1) for start_s, _ in intervals] + [(end_s, -1) for _, end_s in intervals])
    return list(zip((at_s for at_s, _ in steps), itertools.accumulate(step for _, step in steps), strict=True))


def peak(intervals: Sequence[tuple[float, float]]) -> int:
    """The most of them that hold at once. An end at the moment of a start makes room for it."""
    return max((busy for _, busy in busy_over_time(intervals)), default=0)
