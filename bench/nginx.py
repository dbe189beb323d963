"""nginx as a reference for bench.churn: as many locations, under the same load and the same changes.

Each change rewrites the file with the changed location and tells the master to reload (SIGHUP: what `nginx -s reload`
does, without reading the configuration a second time in the process that says so). A master that is still reading takes
several such signals as one. Blocks, load and cores are those of bench.churn: nginx's worker has core 0, its master the
other, where load (and backend) come first.

Memory is the most that all its processes together had: `private_mb` what each has for itself, `total_mb` with what
they share counted once. Old workers count as long as they drain.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.block import Block
from bench.blocks import details, in_turn, latency_rows, verdict
from bench.changer import Change, Changer, Made
from bench.latency_plot import draw_latencies
from bench.load_options import add_load_options, duration_text, ending_cleanly
from bench.nginx_cost import NginxCost
from bench.nginx_routes import RouteFiles, http_text, route_files
from bench.openloop import OpenLoop, request_bytes
from bench.processes import Nginx, pin, raise_priority, running_backend
from bench.report import progress, save, table
from bench.routeset import request_for, routes
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

WORKER_CORE, LOAD_CORE = 0, 1
# nginx has no parameters in paths: `:name` is text to it, as it is to us in this mode.
MODE: Final = "radixtree_host_uri"
# A location with a proxy_pass takes 19 KB (measured, nginx 1.22). A reload has two configurations, and each old worker
# that drains keeps alive what it alone still uses.
_LOCATION_BYTES: Final = 20_000
_CONFIGURATIONS: Final = 4
_START_DEADLINE_S: Final = 180
# Writing files, reading them, and each location once: for 100,000.
_SETUP_S: Final = 45
# No new worker for so long, and reloading is over.
_QUIET_S: Final = 1.0


def main() -> None:
    arguments = _arguments()
    ending_cleanly()
    _check_memory(arguments.routes)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nginx-")))
        backend = stack.enter_context(running_backend(directory / "backend", arguments.body_bytes))
        pin(backend.worker_pids, LOAD_CORE)
        raise_priority(backend.worker_pids)
        wanted = list(routes(arguments.routes))
        (port,) = free_ports(1)
        files = route_files(directory / "proxy", port, wanted)
        progress(f"writing and reading {arguments.routes} locations")
        nginx = _started(files, backend.port)
        stack.callback(nginx.close)
        pin([nginx.master_pid, os.getpid()], LOAD_CORE)
        requests = [request_bytes(*request_for(route, MODE)) for route in wanted]
        load = stack.enter_context(OpenLoop(port, requests, core=LOAD_CORE, late_limit_ms=arguments.late_ms))
        changer = stack.enter_context(Changer(partial(_reloads, _Target(files, nginx.master_pid)), LOAD_CORE))
        progress("each location once")
        load.warm_up()
        measured = [_measure(arguments, nginx, load, changer, every_ms) for every_ms in arguments.every_ms]
    latencies = [row for each in measured for row in each.latencies]
    work = [each.work for each in measured]
    for rows in (latencies, work):
        print(table(rows), end="\n\n")
    verdicts, conditions = [each.verdict for each in measured], [each.details for each in measured]
    save("nginx", verdicts, measured_with=vars(arguments), latencies=latencies, work=work, conditions=conditions)


@dataclass(frozen=True, slots=True)
class _Measured:
    """One pace of change, as rows of tables."""

    latencies: list[dict[str, Any]]
    verdict: dict[str, Any]
    work: dict[str, Any]
    details: dict[str, Any]


def _measure(
    arguments: argparse.Namespace, nginx: Nginx, load: OpenLoop, changer: Changer, every_ms: float
) -> _Measured:
    made, costs = Made(), {False: _Spent(), True: _Spent()}
    changing_cost = NginxCost(nginx)

    def run(changing: bool) -> Block:
        cost = changing_cost if changing else NginxCost(nginx)
        before_s = cost.cpu_s(), cost.master_cpu_s()
        if changing:
            changer.start(every_ms / 1e3)
        try:
            block = load.run(arguments.rate, arguments.block_s, meanwhile=cost.poll)
        finally:
            if changing:
                made.add(changer.stop())
                _settle(cost)
        costs[changing].add(cost, cost.cpu_s() - before_s[0], cost.master_cpu_s() - before_s[1])
        return block

    label = f"nginx, a reload every {every_ms:g} ms"
    turns = in_turn(run, arguments.pairs, label)
    idle, changing = costs[False], costs[True]
    reloads = len(changing_cost.reloads)
    about = {"every_ms": every_ms}
    work = {
        **about,
        **made.figures(),
        "reloads": reloads,
        "cpu_s_per_reload": (changing.cpu_s - idle.cpu_s / idle.blocks * changing.blocks) / max(1, reloads),
        "master_cpu_s_per_reload": changing.master_cpu_s / max(1, reloads),
        "most_workers": changing.most_workers,
        "idle_private_mb": idle.private_mb,
        "idle_total_mb": idle.total_mb,
        "private_mb": changing.private_mb,
        "total_mb": changing.total_mb,
    }
    title = f"nginx, {arguments.routes} locations, {arguments.rate:g} requests/s, a reload every {every_ms:g} ms"
    marks = [(at_ns, "reload") for at_ns in changing_cost.reloads]
    draw_latencies(f"nginx-{every_ms:g}ms", title, turns, marks)
    more = {**about, **details(turns), "problems": made.problems[:20]}
    return _Measured(latency_rows(turns, **about), {**about, **verdict(turns)}, work, more)


@dataclass(slots=True)
class _Spent:
    """What blocks of one sort cost: sums of CPU time, and the most of the rest."""

    blocks: int = 0
    cpu_s: float = 0.0
    master_cpu_s: float = 0.0
    most_workers: int = 0
    private_mb: float = 0.0
    total_mb: float = 0.0

    def add(self, cost: NginxCost, cpu_s: float, master_cpu_s: float) -> None:
        self.blocks += 1
        self.cpu_s += cpu_s
        self.master_cpu_s += master_cpu_s
        for name in ("most_workers", "private_mb", "total_mb"):
            setattr(self, name, max(getattr(self, name), getattr(cost, name)))


def _settle(cost: NginxCost) -> None:
    """Let the last reload come to its end: one that was asked for shows as a new worker, the old ones go."""
    seen, quiet_since_s = len(cost.reloads), time.monotonic()

    def is_over() -> bool:
        nonlocal seen, quiet_since_s
        busy_s = cost.master_cpu_s()
        time.sleep(0.1)
        cost.poll()
        if len(cost.reloads) != seen or cost.master_cpu_s() != busy_s:
            seen, quiet_since_s = len(cost.reloads), time.monotonic()
        return time.monotonic() - quiet_since_s >= _QUIET_S

    wait_until(is_over, what="nginx to finish reloading", deadline_s=_START_DEADLINE_S, every_s=0)


@dataclass(frozen=True, slots=True)
class _Target:
    files: RouteFiles
    master_pid: int


@contextlib.asynccontextmanager
async def _reloads(target: _Target) -> AsyncIterator[Change]:
    """For `Changer`."""
    names = list(target.files.files)

    async def change(number: int) -> str:
        name = names[number * 7919 % len(names)]
        target.files.write(name, number * 104729 % len(target.files.files[name]), number + 1)
        os.kill(target.master_pid, signal.SIGHUP)
        return ""

    yield change


def _started(files: RouteFiles, backend_port: int) -> Nginx:
    files.directory.mkdir(parents=True)
    for name in files.files:
        files.write(name)
    core = f"worker_cpu_affinity {1 << WORKER_CORE:0{os.cpu_count() or 1}b};"
    text = http_text(files, backend_port)
    return Nginx(files.directory, files.port, text, main=core, deadline_s=_START_DEADLINE_S)


def _check_memory(locations: int) -> None:
    needed_kb = locations * _LOCATION_BYTES * _CONFIGURATIONS // 1024
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    if int(line.split()[1]) < needed_kb:
        raise SystemExit(f"{locations} locations may take {needed_kb // 1024} MB while nginx reloads: too many here")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.nginx", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_load_options(parser)
    parser.add_argument(
        "--every-ms", type=float, nargs="+", default=None, help="intervals of change (default 1000 100)"
    )
    parser.epilog = f"Defaults take {duration_text(_duration_s(_completed(parser.parse_args([]))))}; --quick takes "
    parser.epilog += f"{duration_text(_duration_s(_completed(parser.parse_args(['--quick']))))}."
    arguments = _completed(parser.parse_args())
    if shutil.which("nginx") is None:
        raise SystemExit("this benchmark measures nginx, and there is none: apt-get install nginx")
    progress(f"this takes {duration_text(_duration_s(arguments))}")
    return arguments


def _completed(arguments: argparse.Namespace) -> argparse.Namespace:
    arguments.every_ms = arguments.every_ms or [1000, 100]
    return arguments


def _duration_s(arguments: argparse.Namespace) -> float:
    conditions: Sequence[float] = arguments.every_ms
    per_pair_s = 2 * arguments.block_s + _QUIET_S + 5 * arguments.routes / 100_000
    return len(conditions) * (arguments.pairs * per_pair_s + arguments.block_s) + _SETUP_S * arguments.routes / 100_000


if __name__ == "__main__":
    main()
