"""Rounds of one group: each server in turn under each load, so that a noisy neighbour hits them all alike."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.processes import TICKS_PER_S, cpu_s, pin
from bench.report import progress
from bench.routeset import request_for
from bench.throughput.groups import ONE_ROUTE, REFERENCE, SERVERS, Group, Load
from bench.throughput.ours import missing_plugins
from bench.throughput.scene import Running, Scene
from bench.throughput.wrk import LoadFailed, Run, run_wrk
from tests.support.gateway import request
from tests.support.waiting import wait_until

_MODE: Final = "radixtree_host_uri"
# Longer than that, and a tick is less than 1 % of what is counted.
_ENOUGH_CPU_S: Final = 100 / TICKS_PER_S
# The first request to a route costs more than the others; as many a second as the slowest answers surely.
_FIRST_REQUESTS_PER_S: Final = 2_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often. `warm_up_s` is before each round."""

    seconds: float
    rounds: int
    warm_up_s: float = 1.0


class Round(NamedTuple):
    """What one server did under one load in one round: CPU of its workers, requests, requests per second."""

    cpu_s: float
    requests: int
    per_s: float

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of a request."""
        return self.cpu_s / self.requests * 1e6


@dataclass(slots=True)
class Measured:
    """One server under one load. `rounds` by their number: one that failed is missing, and named in `failures`.

    `reference`: nginx under the same load, which may be this one; `base`: the same server without what is looked at,
    plugins or many routes.
    """

    group: str
    server: str
    load: str
    rounds: dict[int, Round] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    reference: Measured | None = None
    base: Measured | None = None

    def ratios(self) -> list[float]:
        """Times nginx, of the rounds that both have."""
        return [own.cpu_us / other.cpu_us for own, other in self._beside(self.reference)]

    def over_base_us(self) -> list[float]:
        """What the plugin of this load costs, or the routes, of the rounds that both have."""
        return [own.cpu_us - other.cpu_us for own, other in self._beside(self.base)]

    def base_ratios(self) -> list[float]:
        """The same in times the base."""
        return [own.cpu_us / other.cpu_us for own, other in self._beside(self.base)]

    def _beside(self, other: Measured | None) -> list[tuple[Round, Round]]:
        if other is None:
            return []
        return [(each, other.rounds[number]) for number, each in self.rounds.items() if number in other.rounds]

    def row(self) -> dict[str, Any]:
        """Medians, and the range from the lowest to the highest round. There must be a round."""
        ratios, over_us, times_base = self.ratios(), self.over_base_us(), self.base_ratios()
        return {
            "group": self.group,
            "load": self.load,
            "server": self.server,
            "cpu_us_per_request": statistics.median(each.cpu_us for each in self.rounds.values()),
            "times_nginx": statistics.median(ratios) if ratios else None,
            "times_nginx_range": _range(ratios),
            "over_base_us": statistics.median(over_us) if over_us else None,
            "over_base_range": _range(over_us),
            "times_base": statistics.median(times_base) if times_base else None,
            "requests_per_s": statistics.median(each.per_s for each in self.rounds.values()),
            "rounds": len(self.rounds),
            "tick_below_1%": min(each.cpu_s for each in self.rounds.values()) >= _ENOUGH_CPU_S,
        }


def measured_group(group: Group, scene: Scene, servers: list[str], pace: Pace) -> list[Measured]:
    """Start the servers, measure all rounds, stop them. What fails under load is in `failures`, and said at once."""
    loads = [load for load in group.loads if not (group.plugins and _is_reported_missing(load.name))]
    measured: dict[tuple[str, str], Measured] = {}
    with contextlib.ExitStack() as stack:
        running = {}
        for name in servers:
            progress(f"{group.name}: starting {name}")
            running[name] = stack.enter_context(SERVERS[name].run(scene))
        runner = _Runner(group, scene, pace)
        for name, load in _combinations(running, loads, group):
            if runner.is_right(name, running[name], load):
                measured[name, load.name] = Measured(group.name, name, load.name)
        for number in range(pace.rounds):
            for name, load in _combinations(running, loads, group):
                if (entry := measured.get((name, load.name))) is not None:
                    progress(f"{group.name}: round {number + 1} of {pace.rounds}: {load.name}, {name}")
                    runner.measure(entry, running[name], load, number)
    for (name, load_name), entry in measured.items():
        entry.reference = measured.get((REFERENCE, loads[0].name if group.plugins else load_name))
        if group.plugins and load_name != loads[0].name:
            entry.base = measured.get((name, loads[0].name))
        elif group.many_routes:
            entry.base = measured.get((name + ONE_ROUTE, load_name))
    return list(measured.values())


def warm_up_of_all_s(routes: int) -> float:
    """About how long it takes until each route was asked for once."""
    return routes / _FIRST_REQUESTS_PER_S


def cores(workers: int) -> tuple[tuple[int, ...], int]:
    """Those of the proxy, and the one of load and origin: the last. Two workers share one core where there are two."""
    last = (os.cpu_count() or 1) - 1
    return tuple(range(max(1, min(workers, last)))), last


def cpu_and_run(
    scene: Scene, running: Running, load: Load, seconds: float, script: Sequence[str] = ()
) -> tuple[float, Run]:
    """One run, and the CPU seconds that the server's processes took in it."""
    proxy_cores, load_core = cores(scene.workers)
    pin(running.pids, *proxy_cores)
    pin(scene.origin.worker_pids, load_core)
    url = f"http://127.0.0.1:{running.port}{load.path}"
    before_s = cpu_s(running.pids)
    run = run_wrk(url, connections=load.connections, seconds=seconds, core=load_core, script=script)
    return cpu_s(running.pids) - before_s, run


class _Runner:
    """Loads servers of one scene; knows the files that wrk's script reads."""

    def __init__(self, group: Group, scene: Scene, pace: Pace) -> None:
        self._group = group
        self._scene = scene
        self._pace = pace
        self._chance = random.Random(1)
        self._paths = scene.directory / "paths.txt"
        if scene.routes:
            asked = [request_for(route, _MODE) for route in scene.routes]
            self._chance.shuffle(asked)
            self._paths.write_text("".join(f"{path}\t{host}\n" for path, host, _ in asked))

    def is_right(self, name: str, running: Running, load: Load) -> bool:
        """Whether it answers as it should. With many routes, each was asked for once then."""
        if load.every_route:
            try:
                if SERVERS[name].is_lazy:
                    progress(f"{self._group.name}: the first requests to all routes of {name}")
                    self._ask_for_all(running, load)
            except LoadFailed as error:
                _say(f"skipped: {self._group.name}, {load.name} on {name}: {error}")
                return False
            return True
        body = _body_path(self._scene, load).read_bytes() if load.body else None
        shown = ""

        def is_served() -> bool:
            nonlocal shown
            reply = request(running.port, "POST" if load.body else "GET", load.path, body, timeout=30)
            shown = f"{reply.status} with {len(reply.body)} bytes"
            return reply.status == 200 and load.answer_bytes in (None, len(reply.body))

        try:
            wait_until(is_served, what=f"{name} to answer {load.name} rightly", deadline_s=10, every_s=0.2)
        except AssertionError:
            _say(f"skipped: {self._group.name}, {load.name} on {name}: it answers {shown}")
            return False
        return True

    def _ask_for_all(self, running: Running, load: Load) -> None:
        count, asked = len(self._scene.routes), 0
        while asked < count:
            # What is under way at the end of a run is not counted: then it is asked for once more.
            _, run = self._load(running, load, min(10.0, warm_up_of_all_s(count)), first=asked)
            asked += run.requests

    def measure(self, entry: Measured, running: Running, load: Load, number: int) -> None:
        """One round. A failure costs this round alone: it may be the machine's."""
        try:
            self._load(running, load, self._pace.warm_up_s)
            taken_s, run = self._load(running, load, self._pace.seconds)
        except LoadFailed as error:
            entry.failures.append(f"round {number + 1}: {error}")
            _say(f"failed: {entry.group}, {entry.load} on {entry.server}, round {number + 1}:\n{error}")
            return
        entry.rounds[number] = Round(taken_s, run.requests, run.per_s)

    def _load(self, running: Running, load: Load, seconds: float, first: int | None = None) -> tuple[float, Run]:
        """One run. `first`: the route to begin with, None for any."""
        script: list[str] = []
        if load.every_route:
            begin = self._chance.randrange(len(self._scene.routes)) if first is None else first
            script = ["routes", str(self._paths), str(begin)]
        elif load.body:
            script = ["body", str(_body_path(self._scene, load))]
        return cpu_and_run(self._scene, running, load, seconds, script)


def _body_path(scene: Scene, load: Load) -> Path:
    return scene.directory / "origin" / "down" / load.body


def _combinations(running: Mapping[str, Running], loads: list[Load], group: Group) -> Iterator[tuple[str, Load]]:
    """Who is measured under what, in turn. nginx knows no plugins, so it has their first load alone."""
    for load in loads:
        for name in running:
            if not (group.plugins and name == REFERENCE and load is not loads[0]):
                yield name, load


def _is_reported_missing(label: str) -> bool:
    missing = missing_plugins(label)
    if missing:
        _say(f"skipped: plugins, {label}: not installed: {', '.join(missing)}")
    return bool(missing)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _range(values: list[float]) -> str:
    return f"{min(values):.2f}..{max(values):.2f}" if values else "-"
