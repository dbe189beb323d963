"""The simulation of one host beside a real host: the same workers and windows, the durations that the real one had.

A full rebuild is forced as it happens in life: somebody removes the control segment, and the agent begins a new epoch
at its next heartbeat. Time counts from when the agent published, which the slot says; when a worker started and was
done, its cell says.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cells import LOOK_EVERY_S, CellWatch, watching_cells
from bench.filling import StoreWriter, fill
from bench.report import progress, quantile
from bench.routeset import NODES, routes
from bench.simulation import Duration, Host, Rebuild, peak, simulate
from gw.rebuild.scheduler import Work
from gw.shm.layout import Cell, RebuildKind
from tests.support.gateway import Gateway, running_gateway

# So many simulated hosts that their percentiles are those of the model, not of luck.
SIMULATED_EVENTS = 2_000
EPOCH_DEADLINE_S = 10.0
# A pause between changes that no timer has.
LONGEST_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Check:
    """What was compared: a table's rows, and how long the real rebuilds took, in seconds."""

    rows: list[dict[str, Any]]
    full_s: list[float]
    update_s: list[float]


def check(count: int, host: Host, fulls: int, updates: int) -> Check:
    """A real gateway with `count` routes and the workers and windows of `host`, and the simulation of it."""
    config = {
        "gw": {
            "rebuild": {
                "full_jitter_ms": list(host.full_jitter_ms),
                "update_jitter_ms": list(host.update_jitter_ms),
                "max_concurrent_full": host.turns or host.workers,
            }
        }
    }
    with tempfile.TemporaryDirectory() as directory:
        progress(f"a real host: {count} routes, {host.workers} workers")
        fill(Gateway(Path(directory)).config_path, routes(count))
        with running_gateway(Path(directory), config, workers=host.workers) as gateway:
            updated = _updates(gateway, updates)
            rebuilt = _full_rebuilds(gateway, fulls)
    rows, durations = [], {}
    for work, events in ((Work.UPDATE, updated), (Work.FULL, rebuilt)):
        durations[work] = [done.finished_s - done.started_s for event in events for done in event]
        progress(f"simulating {SIMULATED_EVENTS} times the same ({work.value})")
        # The durations are wall time on that host: that its workers shared its cores is in them already.
        drawn = _drawn_from(durations[work])
        model = dataclasses.replace(host, cores=host.workers, full_s=drawn, update_s=drawn)
        rows += _compared(work, events, simulate(model, SIMULATED_EVENTS, [0.0], work, seed=1))
    return Check(rows, durations[Work.FULL], durations[Work.UPDATE])


def _updates(gateway: Gateway, updates: int) -> list[list[Rebuild]]:
    """What the workers did about each of so many changes of one route."""
    events = []
    chance = random.Random(1)
    with watching_cells(gateway.name) as watch, StoreWriter(gateway.config_path) as store:
        for number in range(updates + 1):
            if number % 50 == 0:
                progress(f"real updates: {number} of {updates}")
            time.sleep(chance.uniform(0, LONGEST_PAUSE_S))
            version = watch.slot().version
            upstream = {"type": "roundrobin", "nodes": NODES}
            revision = store.put(
                "routes/changing", {"id": "changing", "uri": f"/changing/{number}", "upstream": upstream}
            )
            published_ns = _published_ns(watch, lambda version=version: watch.slot().version > version)
            watch.wait_served(revision)
            if number:  # the first one makes the route
                events.append([_rebuild(cell, published_ns) for cell in watch.cells()])
    return events


def _full_rebuilds(gateway: Gateway, fulls: int) -> list[list[Rebuild]]:
    events = []
    for number in range(fulls):
        progress(f"real full rebuilds: {number} of {fulls}")
        with watching_cells(gateway.name) as watch:
            epoch = watch.slot().epoch
            (Path("/dev/shm") / f"{gateway.name}.v2.control").unlink()
            published_ns = _published_ns(watch, lambda epoch=epoch, watch=watch: watch.slot().epoch != epoch)
            new = watch.slot().epoch
            while any(cell.epoch != new for cell in watch.cells()):
                time.sleep(LOOK_EVERY_S)
            cells = watch.cells()
        assert all(cell.rebuild_kind is RebuildKind.FULL for cell in cells), "a new epoch is a full rebuild"
        events.append([_rebuild(cell, published_ns) for cell in cells])
    return events


def _published_ns(watch: CellWatch, is_there: Callable[[], bool]) -> int:
    """When what is waited for was published: the slot carries the agent's time of writing it, until the next beat."""
    end_s = time.monotonic() + EPOCH_DEADLINE_S
    while not is_there():
        if time.monotonic() > end_s:
            raise RuntimeError(f"the agent published nothing within {EPOCH_DEADLINE_S} s")
        time.sleep(LOOK_EVERY_S)
    return watch.slot().heartbeat_ns


def _rebuild(cell: Cell, published_ns: int) -> Rebuild:
    """What a cell says of its last application. `staleness_ms` of the cell is 0 by then, its worst one is not."""
    finished_s = (cell.applied_ns - published_ns) / 1e9
    work = Work.FULL if cell.rebuild_kind is RebuildKind.FULL else Work.UPDATE
    started_s = finished_s - cell.rebuild_ns / 1e9
    return Rebuild(work, started_s, finished_s, finished_s, cell.worst_staleness_ms / 1e3, float(cell.jitter_ms))


def _drawn_from(durations_s: Sequence[float]) -> Duration:
    return lambda chance: chance.choice(durations_s)


def _compared(work: Work, real: list[list[Rebuild]], simulated: list[list[Rebuild]]) -> list[dict[str, Any]]:
    """Each figure of both, side by side."""
    measures: dict[str, Callable[[list[list[Rebuild]]], list[float]]] = {
        "jitter drawn, ms": lambda events: [done.jitter_ms for event in events for done in event],
        "rebuild, ms": lambda events: [(done.finished_s - done.started_s) * 1e3 for event in events for done in event],
        "published -> started, ms": lambda events: [done.started_s * 1e3 for event in events for done in event],
        "published -> served, ms": lambda events: [done.finished_s * 1e3 for event in events for done in event],
        "-> served by the slowest, ms": lambda events: [
            max(done.finished_s for done in event) * 1e3 for event in events
        ],
        "rebuilding at once, peak": lambda events: [
            float(peak([(done.started_s, done.finished_s) for done in event])) for event in events
        ],
    }
    compared = [(name, values_of(real), values_of(simulated)) for name, values_of in measures.items()]
    if work is Work.FULL:  # in the updates' rows it would be that of starting
        # A cell keeps the worst of its life, so the last event has it of all.
        here = [done.own_staleness_s * 1e3 for done in real[-1]]
        compared.append(("worst staleness of a worker's life, ms", here, _worst_of_lives(simulated, len(real))))
    rows = []
    for name, here, there in compared:
        both = {f"real_{share}": value for share, value in _spread(here).items()}
        both |= {f"simulated_{share}": value for share, value in _spread(there).items()}
        rows.append({"work": work.value, "figure": name, **both})
    return rows


def _worst_of_lives(simulated: list[list[Rebuild]], events: int) -> list[float]:
    """The worst staleness, in ms, of workers that live through so many events; who is who is drawn for each event."""
    chance = random.Random(1)
    worst = []
    for first in range(0, len(simulated) - events + 1, events):
        life = [chance.sample(event, len(event)) for event in simulated[first : first + events]]
        worst += [max(done.own_staleness_s for done in of_worker) * 1e3 for of_worker in zip(*life, strict=True)]
    return worst


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": statistics.fmean(values),
        "p50": quantile(values, 0.5),
        "p90": quantile(values, 0.9),
        "max": max(values),
    }
