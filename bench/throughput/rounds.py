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
from typing import Any, Final

from bench.processes import TICKS_PER_S, cpu_s, pin
from bench.report import progress
from bench.routeset import request_for
from bench.throughput.groups import REFERENCE, SERVERS, Group, Load
from bench.throughput.ours import PLUGINS, missing_plugins
from bench.throughput.scene import Running, Scene
from bench.throughput.wrk import Run, run_wrk
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


@dataclass(slots=True)
class Measured:
    """One server under one load, a figure for each round. `ratios`: to nginx in the same round."""

    group: Group
    server: str
    load: str
    cpu_us: list[float] = field(default_factory=list)
    per_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    over_none_us: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Medians, and the range from the lowest to the highest round."""
        return {
            "group": self.group.name,
            "load": self.load,
            "server": self.server,
            "cpu_us_per_request": statistics.median(self.cpu_us),
            "times_nginx": statistics.median(self.ratios) if self.ratios else None,
            "times_nginx_range": _range(self.ratios),
            "over_none_us": statistics.median(self.over_none_us) if self.over_none_us else None,
            "over_none_range": _range(self.over_none_us),
            "requests_per_s": statistics.median(self.per_s),
            "tick_below_1%": min(self.cpu_s) >= _ENOUGH_CPU_S,
        }


def measured_group(group: Group, scene: Scene, servers: list[str], pace: Pace) -> list[Measured]:
    """Start the servers, measure all rounds, stop them. Raises LoadFailed when one answers wrongly under load."""
    loads = [load for load in group.loads if not group.plugins or not _reported_missing(load.name)]
    with contextlib.ExitStack() as stack:
        running = {}
        for name in servers:
            progress(f"{group.name}: starting {name}")
            running[name] = stack.enter_context(SERVERS[name].run(scene))
        runner = _Runner(group, scene, pace)
        measured: dict[tuple[str, str], Measured] = {}
        for name, load in _combinations(running, loads, group):
            if runner.prepare(name, running[name], load):
                measured[name, load.name] = Measured(group, name, load.name)
        for number in range(pace.rounds):
            for name, load in _combinations(running, loads, group):
                if (entry := measured.get((name, load.name))) is not None:
                    progress(f"{group.name}: round {number + 1} of {pace.rounds}: {load.name}, {name}")
                    runner.measure(entry, running[name], load)
            _compare(measured, group)
    return list(measured.values())


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

    def prepare(self, name: str, running: Running, load: Load) -> bool:
        """Whether it answers as it should; then each route was asked for once."""
        if load.every_route:
            self._load(running, load, len(self._scene.routes) / _FIRST_REQUESTS_PER_S)
            return True
        body = _body_path(self._scene, load).read_bytes() if load.body else None
        answer = {"last": b""}

        def is_served() -> bool:
            reply = request(running.port, "POST" if load.body else "GET", load.path, body, timeout=30)
            answer["last"] = b"%d, %d bytes" % (reply.status, len(reply.body))
            is_right = load.answer_bytes is None or len(reply.body) == load.answer_bytes
            return reply.status == 200 and is_right

        try:
            wait_until(is_served, what=f"{name} to answer {load.name} rightly", deadline_s=10)
        except AssertionError:
            _say(f"skipped: {self._group.name}, {load.name} on {name}: it answers {answer['last'].decode()}")
            return False
        return True

    def measure(self, entry: Measured, running: Running, load: Load) -> None:
        self._load(running, load, self._pace.warm_up_s)
        taken_s, run = self._load(running, load, self._pace.seconds)
        entry.cpu_us.append(taken_s / run.requests * 1e6)
        entry.per_s.append(run.per_s)
        entry.cpu_s.append(taken_s)

    def _load(self, running: Running, load: Load, seconds: float) -> tuple[float, Run]:
        script: list[str] = []
        if load.every_route:
            script = ["routes", str(self._paths), str(self._chance.randrange(len(self._scene.routes)))]
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


def _compare(measured: Mapping[tuple[str, str], Measured], group: Group) -> None:
    """Add what the last round was beside nginx's, and beside no plugins."""
    first = group.loads[0].name
    for (name, load), entry in measured.items():
        if (reference := measured.get((REFERENCE, first if group.plugins else load))) is not None:
            entry.ratios.append(entry.cpu_us[-1] / reference.cpu_us[-1])
        none = measured.get((name, first))
        if group.plugins and none is not None and none is not entry:
            entry.over_none_us.append(entry.cpu_us[-1] - none.cpu_us[-1])


def _reported_missing(label: str) -> bool:
    missing = missing_plugins(label) if label in PLUGINS else []
    if missing:
        _say(f"skipped: plugins, {label}: not installed: {', '.join(missing)}")
    return bool(missing)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _range(values: list[float]) -> str:
    return f"{min(values):.2f}..{max(values):.2f}" if values else "-"
