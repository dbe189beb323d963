"""Time from a write to the first and to the last worker serving it, by jitter window, number of routes and way in.

Written either through the Admin API (time counts from sending the PUT) or straight into the store, as other hosts of a
fleet do (from before the write). etcd tells the agent at once what others wrote; SQLite has to be asked, every 10 ms,
which shows in its rows. Each change gives one route another uri. Workers say in their cells when they were done, to the
nanosecond: nothing is read off chance among requests. A pause of random length before each write keeps it out of step
with whoever looks at intervals.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.cells import CellWatch, watching_cells
from bench.filling import StoreWriter, fill
from bench.plot import figure
from bench.report import progress, quantile, save
from bench.routeset import NODES, routes
from bench.stopping import clean_up_when_told_to_stop
from tests.support.etcd import Etcd, has_etcd
from tests.support.gateway import Gateway, running_gateway

# (seconds to the first worker, to the last) of one write
Served = tuple[float, float]
Write = Callable[[int], int]
# As long as the slowest look on the way: a worker's at the version, the agent's at SQLite for what others wrote.
LONGEST_PAUSE_S = {"admin": 0.02, "store": 0.25}


def main() -> None:
    clean_up_when_told_to_stop()
    parser = argparse.ArgumentParser(prog="python -m bench.propagation", description=__doc__)
    parser.add_argument(
        "--routes", type=int, nargs="+", default=[1_000, 10_000], help="routes there besides (default 1000 10000)"
    )
    parser.add_argument(
        "--jitter-ms",
        type=int,
        nargs="+",
        default=[0, 20, 200, 1000],
        help="upper ends of gw.rebuild.update_jitter_ms (default 0 20 200 1000; 20 is the default of the gateway)",
    )
    parser.add_argument("--via", nargs="+", choices=["admin", "store"], default=["admin", "store"])
    parser.add_argument("--store", choices=["sqlite", "etcd"], default="sqlite", help="which store (default sqlite)")
    parser.add_argument("--changes", type=int, default=200, help="changes for each row (default 200) ...")
    parser.add_argument("--seconds", type=float, default=10, help="... or as many as fit into so long (default 10)")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="100 routes, three windows, 2 s each: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.routes, arguments.jitter_ms, arguments.seconds = [100], [0, 20, 200], 2
    measured: dict[tuple[int, int, str], list[Served]] = {}
    for count in arguments.routes:
        with tempfile.TemporaryDirectory() as directory, _store(arguments.store, Path(directory)) as config:
            progress(f"filling the store with {count} routes")
            fill(Gateway(Path(directory), config).config_path, routes(count))
            for jitter_ms in arguments.jitter_ms:
                progress(f"{count} routes, jitter [0, {jitter_ms}] ms: starting {arguments.workers} workers")
                config["gw"] = {"rebuild": {"full_jitter_ms": [0, 0], "update_jitter_ms": [0, jitter_ms]}}
                for via, served in _measure(Path(directory), config, arguments).items():
                    measured[count, jitter_ms, via] = served
    rows = []
    for (count, jitter_ms, via), served in measured.items():
        about = {"routes": count, "jitter_ms": jitter_ms, "via": via}
        rows += [
            _row({**about, "worker": worker}, [times[place] for times in served])
            for place, worker in enumerate(("first", "last"))
        ]
    save("propagation", rows, workers=arguments.workers, store=arguments.store)
    _plot(measured, arguments.workers)


@contextmanager
def _store(name: str, directory: Path) -> Iterator[dict[str, Any]]:
    """A store, as the configuration that names it. SQLite lies in the gateway's own directory and needs none."""
    if name == "sqlite":
        yield {}
        return
    if not has_etcd():
        raise SystemExit("this needs etcd: make .venv/.bench-installed")
    with Etcd(directory) as etcd:
        provider = {"role_traditional": {"config_provider": "etcd"}}
        yield {"deployment": {**provider, "etcd": {"host": [etcd.endpoint], "prefix": "/apisix"}}}


def _measure(directory: Path, config: dict[str, Any], arguments: argparse.Namespace) -> dict[str, list[Served]]:
    measured = {}
    with (
        running_gateway(directory, config, workers=arguments.workers) as gateway,
        StoreWriter(gateway.config_path) as store,
        watching_cells(gateway.name) as watch,
    ):
        writes: dict[str, Write] = {
            "admin": lambda number: _put_through_admin(gateway, number),
            "store": lambda number: store.put("routes/changing", _changed(number)),
        }
        for via in arguments.via:
            progress(f"writes through the {via}")
            measured[via] = _changes(watch, writes[via], LONGEST_PAUSE_S[via], arguments.changes, arguments.seconds)
    return measured


def _changes(watch: CellWatch, write: Write, longest_pause_s: float, changes: int, seconds: float) -> list[Served]:
    served = []
    chance = random.Random(1)
    end_s = time.monotonic() + seconds
    for number in range(changes + 1):
        time.sleep(chance.uniform(0, longest_pause_s))
        sent_ns = time.monotonic_ns()
        # Never a value that was written before in this directory: that would change nothing.
        times_ns = watch.serve_times_ns(write(sent_ns), sent_ns)
        if number:  # the first one warms connections and caches
            served.append(((times_ns[0] - sent_ns) / 1e9, (times_ns[-1] - sent_ns) / 1e9))
        if served and time.monotonic() > end_s:
            break
    return served


def _changed(number: int) -> dict[str, Any]:
    return {"id": "changing", "uri": f"/changing/{number}", "upstream": {"type": "roundrobin", "nodes": NODES}}


def _put_through_admin(gateway: Gateway, number: int) -> int:
    reply = gateway.admin("PUT", "/routes/changing", _changed(number))
    if reply.status not in (200, 201):
        raise RuntimeError(f"the Admin API refused a change: {reply}")
    return int(reply.headers["x-jitterway-revision"])


def _row(about: dict[str, Any], times_s: list[float]) -> dict[str, Any]:
    shares = {f"p{share}_ms": quantile(times_s, share / 100) * 1e3 for share in (50, 90, 99)}
    return {**about, "changes": len(times_s), **shares, "max_ms": max(times_s) * 1e3}


def _plot(measured: dict[tuple[int, int, str], list[Served]], workers: int) -> None:
    """Left: the windows at the largest number of routes. Right: the numbers of routes at the smallest window."""
    most, narrowest = max(count for count, _, _ in measured), min(jitter_ms for _, jitter_ms, _ in measured)
    via = "admin" if any(way == "admin" for _, _, way in measured) else "store"
    windows = sorted({jitter_ms for _, jitter_ms, _ in measured})
    counts = sorted({count for count, _, _ in measured})
    with figure("propagation", columns=2) as (left, right):
        for number, jitter_ms in enumerate(windows):
            for place, worker, style in ((0, "first", ":"), (1, "last", "-")):
                times_s = [times[place] for times in measured[most, jitter_ms, via]]
                _cdf(left, times_s, f"[0, {jitter_ms}] {worker}", style, f"C{number}")
        for number, count in enumerate(counts):
            for way, style in (("admin", "-"), ("store", "--")):
                if served := measured.get((count, narrowest, way)):
                    _cdf(right, [last for _, last in served], f"{count} routes, {way}", style, f"C{number}")
        left.set_title(f"by update_jitter_ms: {most} routes, {via}, {workers} workers", fontsize="medium")
        right.set_title(f"last worker by routes, update_jitter_ms [0, {narrowest}]", fontsize="medium")
        for axes in (left, right):
            axes.set_xscale("log")
            axes.set_xlabel("ms from the write to serving it")
            axes.set_ylabel("share of changes")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="xx-small", loc="upper left")


def _cdf(axes: Any, times_s: list[float], label: str, style: str, colour: str) -> None:
    ordered_ms = sorted(time_s * 1e3 for time_s in times_s)
    shares = [(place + 1) / len(ordered_ms) for place in range(len(ordered_ms))]
    axes.step(ordered_ms, shares, style, where="post", label=label, color=colour, linewidth=1.3)


if __name__ == "__main__":
    main()
