"""Memory of a worker, of the agent and of /dev/shm, by number of routes and by what the worker has been through.

Real gateways, one for each number of routes. Private memory is what would be free again if the worker alone ended
(Private_Clean + Private_Dirty), the mean of the workers; `over_empty_mb` is the difference to a worker without any
routes. Stages: fresh; after each worker answered a request for each route; after a time of changes; after a number of
changes. Changes go round over the same few routes, so that what a changed route costs is paid in the first round:
`bytes_per_change` counts from the end of that round, and must be about 0.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.backend import running_backend
from bench.cells import CellWatch, watching_cells
from bench.filling import StoreWriter, fill
from bench.memory_of import mapped_shm_mb, private_mb, segments_mb
from bench.one_worker import OneWorker
from bench.plot import figure
from bench.report import progress, save
from bench.routeset import request_for, routes
from bench.stopping import clean_up_when_told_to_stop
from tests.support.gateway import Gateway, running_gateway

MODE = "radixtree_host_uri"
# Design section 10, for 50,000 routes, in MB over an empty worker.
TARGETED_ROUTES, TARGETS_MB = 50_000, {"fresh": 40, "every route hit": 120}
# What a publish or a load leaves to do: the last good file, the cell of a worker that is idle.
SETTLE_S = 1.5


def main() -> None:
    clean_up_when_told_to_stop()
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--routes", type=int, nargs="+", default=[1_000, 10_000, 50_000], help="default 1000 10000 50000; 0 always"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--change-seconds", type=float, default=10, help="a time of changes (default 10; a minute: 60)")
    parser.add_argument("--changes-per-s", type=float, default=50, help="during it (default 50)")
    parser.add_argument("--changes", type=int, default=10_000, help="then so many, as fast as they go (default 10000)")
    parser.add_argument("--changed-routes", type=int, default=500, help="that they go round over (default 500)")
    parser.add_argument("--quick", action="store_true", help="up to 1,000 routes, few changes: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.routes, arguments.change_seconds, arguments.changes = [100, 1_000], 2, 1_000
        arguments.changed_routes = 100
    rows: list[dict[str, Any]] = []
    with running_backend() as port:
        for count in [0, *(count for count in arguments.routes if count)]:
            rows += _measure(count, port, arguments, rows[0]["private_mb"] if rows else None)
    save("memory", rows, workers=arguments.workers, change_seconds=arguments.change_seconds, changes=arguments.changes)
    _plot([row for row in rows if row["routes"]])


def _measure(count: int, backend: int, arguments: argparse.Namespace, empty_mb: float | None) -> list[dict[str, Any]]:
    made = list(routes(count, nodes={f"127.0.0.1:{backend}": 1}))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        progress(f"filling the store with {count} routes")
        fill(Gateway(Path(directory)).config_path, made)
        with (
            running_gateway(Path(directory), workers=arguments.workers) as gateway,
            StoreWriter(gateway.config_path) as store,
            watching_cells(gateway.name) as watch,
        ):
            pids, agent = gateway.worker_pids(), gateway.agent_pid()

            def stage(name: str, bytes_per_change: float | None = None) -> float:
                time.sleep(SETTLE_S)
                row = _row(count, name, gateway.name, pids, agent, empty_mb)
                row["bytes_per_change"] = "-" if bytes_per_change is None else round(bytes_per_change)
                rows.append(row)
                return float(row["private_mb"])

            stage("fresh")
            if not count:
                return rows
            progress(f"{count} routes: a request for each, to each of {len(pids)} workers")
            _hit_all(gateway.port, pids, made)
            stage("every route hit")
            changes = _Changes(store, watch, made[: arguments.changed_routes])
            progress(f"{count} routes: {arguments.changes_per_s:g} changes a second for {arguments.change_seconds:g} s")
            changes.make_for(arguments.change_seconds, arguments.changes_per_s)
            stage(f"{arguments.change_seconds:g} s of changes")
            progress(f"{count} routes: {arguments.changes} changes")
            changes.make(arguments.changed_routes)
            before_mb = stage("one round of changes")
            changes.make(arguments.changes)
            grown_mb = stage(f"{arguments.changes} changes") - before_mb
            rows[-1]["bytes_per_change"] = round(grown_mb * 2**20 / arguments.changes)
    return rows


def _hit_all(port: int, pids: list[int], made: Iterable[dict[str, Any]]) -> None:
    requests = [(path, host) for path, host, _ in (request_for(route, MODE) for route in made)]
    workers = [OneWorker(pid, port) for pid in pids]
    try:
        with ThreadPoolExecutor(len(workers)) as threads:
            list(threads.map(lambda worker: worker.get_all(requests), workers))
    finally:
        for worker in workers:
            worker.close()


class _Changes:
    """Changes of a few routes in turn: priority and weight, so that entry, index and upstream are new each time."""

    def __init__(self, store: StoreWriter, watch: CellWatch, made: list[dict[str, Any]]) -> None:
        self._store = store
        self._watch = watch
        self._made = made
        self._count = 0

    def make(self, changes: int) -> None:
        """So many, and wait until all workers serve the last one."""
        for _ in range(changes):
            revision = self._one()
        self._watch.wait_served(revision)

    def make_for(self, seconds: float, per_s: float) -> None:
        begun_s = time.monotonic()
        for number in range(max(1, int(seconds * per_s))):
            time.sleep(max(0.0, begun_s + number / per_s - time.monotonic()))
            revision = self._one()
        self._watch.wait_served(revision)

    def _one(self) -> int:
        route = self._made[self._count % len(self._made)]
        self._count += 1
        # Of one width, so that a route is as large after a change as before it.
        weight = 100 + self._count % 900
        upstream = {**route["upstream"], "nodes": dict.fromkeys(route["upstream"]["nodes"], weight)}
        return self._store.put(f"routes/{route['id']}", {**route, "priority": weight, "upstream": upstream})


def _row(count: int, stage: str, name: str, pids: list[int], agent: int, empty_mb: float | None) -> dict[str, Any]:
    private = statistics.fmean(private_mb(pid) for pid in pids)
    shm_mb, segments = segments_mb(name)
    target_mb = TARGETS_MB.get(stage) if count == TARGETED_ROUTES else None
    return {
        "routes": count,
        "stage": stage,
        "private_mb": private,
        "over_empty_mb": 0.0 if empty_mb is None else private - empty_mb,
        "target_mb": "-" if target_mb is None else target_mb,
        "mapped_shm_mb": statistics.fmean(mapped_shm_mb(pid, name) for pid in pids),
        "agent_mb": private_mb(agent),
        "shm_mb": shm_mb,
        "segments": segments,
    }


def _plot(rows: list[dict[str, Any]]) -> None:
    with figure("memory") as axes:
        for stage in dict.fromkeys(row["stage"] for row in rows):
            own = [row for row in rows if row["stage"] == stage]
            axes.plot([row["routes"] for row in own], [row["over_empty_mb"] for row in own], "-o", label=stage)
        fresh = [row for row in rows if row["stage"] == "fresh"]
        axes.plot([row["routes"] for row in fresh], [row["shm_mb"] for row in fresh], "--", label="/dev/shm, all")
        for target_mb in TARGETS_MB.values():
            axes.plot(TARGETED_ROUTES, target_mb, "k_", markersize=14)
        axes.set_xscale("log")
        axes.set_xlabel(f"routes (bars: targets for {TARGETED_ROUTES})")
        axes.set_ylabel("private MB of a worker over an empty one")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")


if __name__ == "__main__":
    main()
