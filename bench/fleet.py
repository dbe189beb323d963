"""How many workers of a fleet rebuild at once, and how stale the slowest is, by jitter window and cap: simulated.

The simulation runs the gateway's own RebuildScheduler in simulated time (bench/simulation.py) for up to 10,000 hosts
that hear of one change at the same moment. `peak` is the most workers of the fleet that rebuild at one time; staleness
counts from the change to the worker serving it. First, the simulation of one host is held against a real one
(bench/fleet_check.py), side by side, unless --no-check.

What a rebuild takes comes from --full-ms and --update-ms, or else from the last run of bench.rebuild.
"""

from __future__ import annotations

import argparse
import bisect
import dataclasses
import json
from typing import Any

from bench.fleet_check import check
from bench.plot import figure
from bench.report import RESULTS, progress, quantile, save, table
from bench.simulation import Host, Rebuild, busy_over_time, peak, simulate
from bench.stopping import clean_up_when_told_to_stop
from gw.rebuild.scheduler import Work

SEED = 20260101
# The targets of the design for 100,000 routes, where nothing was measured yet.
TARGET_FULL_MS, TARGET_UPDATE_MS = 500.0, 0.2
# What happens over time is drawn for a fleet of this many hosts, or the largest below it.
DRAWN_HOSTS = 1_000
DRAWN_POINTS = 200
# Changes that keep coming: so long, and on so many hosts, as hosts do not differ in it.
STREAM_S, STREAM_HOSTS = 4.0, 20
_Measured = dict[tuple[Work, int, int | None], list[list[Rebuild]]]


def main() -> None:
    clean_up_when_told_to_stop()
    arguments = _arguments()
    full_ms, update_ms = _durations_ms(arguments)
    host = Host(workers=arguments.workers, cores=arguments.cores, store_spread_s=arguments.store_spread_ms / 1e3)
    host = dataclasses.replace(host, full_s=lambda chance: full_ms / 1e3, update_s=lambda chance: update_ms / 1e3)
    checked: list[dict[str, Any]] = []
    if not arguments.no_check:
        turns = 1 if arguments.caps[0] == 0 else arguments.caps[0]
        checked = check(
            arguments.check_routes,
            Host(workers=arguments.workers, turns=turns),
            arguments.check_fulls,
            arguments.check_updates,
        ).rows
        print(f"one host of {arguments.workers} workers, real beside simulated:\n{table(checked)}\n")

    measured: _Measured = {}
    for work in (Work.FULL, Work.UPDATE):
        # An update takes no turn, so the cap is nothing to it.
        for cap in arguments.caps if work is Work.FULL else [None]:
            for window_ms in arguments.jitter_ms:
                shown = "" if cap is None else f", at most {cap or 'all'} of a host at once"
                progress(f"{work.value}, {max(arguments.hosts)} hosts, jitter [0, {window_ms}] ms{shown}")
                jitter = {"full_jitter_ms" if work is Work.FULL else "update_jitter_ms": (0, window_ms)}
                fleet = dataclasses.replace(host, turns=cap or None, **jitter)
                measured[work, window_ms, cap] = simulate(fleet, max(arguments.hosts), [0.0], work, SEED)
    bundled = [
        _bundling(host, window_ms, rate)
        for window_ms in arguments.jitter_ms
        if window_ms <= STREAM_S * 1e3
        for rate in arguments.changes_per_s
    ]
    print(f"changes that keep coming for {STREAM_S} s, {STREAM_HOSTS} hosts:\n{table(bundled)}\n")
    rows = [
        _row(work, hosts, window_ms, cap, rebuilds[:hosts], arguments.workers)
        for (work, window_ms, cap), rebuilds in measured.items()
        for hosts in arguments.hosts
    ]
    save(
        "fleet",
        rows,
        workers=arguments.workers,
        cores=arguments.cores,
        full_ms=full_ms,
        update_ms=update_ms,
        store_spread_ms=arguments.store_spread_ms,
        check=checked,
        bundling=bundled,
    )
    _plot(measured, arguments.hosts, arguments.caps, full_ms, update_ms, arguments.workers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--workers", type=int, default=8, help="of a host (default 8)")
    parser.add_argument("--cores", type=int, default=8, help="of a host, shared by its rebuilds (default 8)")
    parser.add_argument(
        "--jitter-ms",
        type=int,
        nargs="+",
        default=[0, 20, 100, 500, 2_000, 5_000, 20_000],
        help="upper ends of the window (default 0 20 100 500 2000 5000 20000)",
    )
    parser.add_argument(
        "--caps", type=int, nargs="+", default=[1, 2, 0], help="max_concurrent_full; 0: none (default 1 2 0)"
    )
    parser.add_argument("--full-ms", type=float, help="CPU of a full rebuild")
    parser.add_argument("--update-ms", type=float, help="CPU of an update")
    parser.add_argument(
        "--store-spread-ms", type=float, default=0, help="by how much hosts hear later than others (default 0)"
    )
    parser.add_argument(
        "--changes-per-s", type=int, nargs="+", default=[1, 10, 100], help="of updates that keep coming"
    )
    parser.add_argument("--no-check", action="store_true", help="leave the real host out")
    parser.add_argument("--check-routes", type=int, default=5_000, help="of the real host (default 5000)")
    parser.add_argument("--check-fulls", type=int, default=15, help="full rebuilds of the real host (default 15)")
    parser.add_argument("--check-updates", type=int, default=100, help="updates of the real host (default 100)")
    parser.add_argument("--quick", action="store_true", help="100 hosts, few events: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.hosts, arguments.jitter_ms = [10, 100], [0, 20, 500, 5_000]
        arguments.check_routes, arguments.check_fulls, arguments.check_updates = 1_000, 4, 20
    return arguments


def _durations_ms(arguments: argparse.Namespace) -> tuple[float, float]:
    """(a full rebuild, an update): as told, as measured by bench.rebuild with the most routes, or as designed."""
    path = RESULTS / "rebuild.json"
    cpu_ms = {}
    if path.exists() and None in (arguments.full_ms, arguments.update_ms):
        rows = json.loads(path.read_text())["rows"]
        most = max(row["routes"] for row in rows)
        cpu_ms = {row["change"]: row["cpu_ms"] for row in rows if row["routes"] == most}
        progress(f"what bench.rebuild measured with {most} routes stands in for what is not told")
    full_ms = arguments.full_ms or cpu_ms.get("full rebuild", TARGET_FULL_MS)
    return full_ms, arguments.update_ms or cpu_ms.get("1 route", TARGET_UPDATE_MS)


def _row(
    work: Work, hosts: int, window_ms: int, cap: int | None, rebuilds: list[list[Rebuild]], workers: int
) -> dict[str, Any]:
    staleness_ms = [done.staleness_s * 1e3 for host in rebuilds for done in host]
    most = peak(_intervals(rebuilds))
    return {
        "work": work.value,
        "hosts": hosts,
        "jitter_ms": window_ms,
        "cap": "-" if cap is None else cap or "none",
        "peak": most,
        "peak_share": most / (hosts * workers),
        "stale_p50_ms": quantile(staleness_ms, 0.5),
        "stale_p99_ms": quantile(staleness_ms, 0.99),
        "slowest_ms": max(staleness_ms),
    }


def _bundling(host: Host, window_ms: int, changes_per_s: int) -> dict[str, Any]:
    """What a window saves while changes keep coming, and what it costs."""
    progress(f"{changes_per_s} changes a second, jitter [0, {window_ms}] ms")
    changes_s = [number / changes_per_s for number in range(int(STREAM_S * changes_per_s))]
    fleet = dataclasses.replace(host, update_jitter_ms=(0, window_ms))
    rebuilds = simulate(fleet, STREAM_HOSTS, changes_s, Work.UPDATE, SEED)
    staleness_ms = [done.staleness_s * 1e3 for of_host in rebuilds for done in of_host]
    applications = len(staleness_ms) / (STREAM_HOSTS * host.workers)
    return {
        "changes_per_s": changes_per_s,
        "jitter_ms": window_ms,
        "applications_per_s": applications / STREAM_S,
        "stale_p50_ms": quantile(staleness_ms, 0.5),
        "stale_p99_ms": quantile(staleness_ms, 0.99),
        "slowest_ms": max(staleness_ms),
    }


def _intervals(rebuilds: list[list[Rebuild]]) -> list[tuple[float, float]]:
    return [(done.started_s, done.finished_s) for host in rebuilds for done in host]


def _plot(
    measured: _Measured, hosts: list[int], caps: list[int], full_ms: float, update_ms: float, workers: int
) -> None:
    with figure("fleet", rows=2, columns=2, height=1.9) as axes:
        (peaks, slowest), (over_time, updates) = axes
        cap = caps[0]
        for number, size in enumerate(hosts):
            for cap_, style in zip(sorted({cap, caps[-1]}, key=caps.index), ("-", ":"), strict=False):
                points = _by_window(measured, Work.FULL, cap_, size, _peak)
                _line(peaks, points, f"{size} hosts, cap {cap_ or 'none'}", f"C{number}", style)
            _line(updates, _by_window(measured, Work.UPDATE, None, size, _peak), f"{size} hosts", f"C{number}")
        for number, size in enumerate((hosts[0], hosts[-1])):
            for cap_, style in zip(caps, ("-", "--", ":"), strict=False):
                points = _by_window(measured, Work.FULL, cap_, size, _slowest_s)
                _line(slowest, points, f"{size} hosts, cap {cap_ or 'none'}", f"C{number}", style)
        drawn = max((size for size in hosts if size <= DRAWN_HOSTS), default=hosts[0])
        for (work, window_ms, cap_), rebuilds in measured.items():
            if work is Work.FULL and cap_ == cap:
                times_s, busy = _sampled(busy_over_time(_intervals(rebuilds[:drawn])))
                over_time.plot(times_s, busy, label=f"[0, {window_ms}] ms", linewidth=1)
        peaks.set_title(f"full rebuild of {full_ms:.3g} ms: rebuilding at once", fontsize="medium")
        slowest.set_title("full rebuild: until the slowest worker serves it", fontsize="medium")
        over_time.set_title(
            f"full rebuild: {drawn} hosts x {workers} over time, cap {cap or 'none'}", fontsize="medium"
        )
        updates.set_title(f"update of {update_ms:.3g} ms: applying at once", fontsize="medium")
        smallest_ms = min(window_ms for _, window_ms, _ in measured if window_ms)
        for drawing, xlabel, ylabel in (
            (peaks, "full_jitter_ms [0, x]", "workers"),
            (slowest, "full_jitter_ms [0, x]", "seconds"),
            (updates, "update_jitter_ms [0, x]", "workers"),
        ):
            drawing.set_xscale("symlog", linthresh=smallest_ms)  # shows 0 as well
            drawing.set_yscale("log")
            drawing.set_xlabel(xlabel)
            drawing.set_ylabel(ylabel)
        over_time.set_xscale("log")
        over_time.set_xlabel("seconds after the change")
        over_time.set_ylabel("workers rebuilding")
        # Room for a legend of many lines above the highest.
        peaks.set_ylim(top=peaks.get_ylim()[1] * 30)
        for drawing in axes.flat:
            drawing.grid(alpha=0.3)
            drawing.legend(fontsize="x-small", ncols=2 if drawing is peaks else 1)


def _sampled(steps: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    """A curve of few points for a picture: at each, how many are busy then."""
    first_s, last_s = steps[0][0], steps[-1][0]
    at = [first_s * (last_s / first_s) ** (place / DRAWN_POINTS) for place in range(DRAWN_POINTS + 1)]
    starts = [step_s for step_s, _ in steps]
    return at, [steps[max(0, bisect.bisect_right(starts, at_s) - 1)][1] for at_s in at]


def _by_window(measured: _Measured, work: Work, cap: int | None, hosts: int, figure_of: Any) -> list[tuple[int, float]]:
    return sorted(
        (window_ms, figure_of(rebuilds[:hosts]))
        for (of, window_ms, cap_), rebuilds in measured.items()
        if of is work and cap_ == cap
    )


def _peak(rebuilds: list[list[Rebuild]]) -> float:
    return peak(_intervals(rebuilds))


def _slowest_s(rebuilds: list[list[Rebuild]]) -> float:
    return max(done.staleness_s for host in rebuilds for done in host)


def _line(axes: Any, points: list[tuple[int, float]], label: str, colour: str, style: str = "-") -> None:
    xs, ys = zip(*points, strict=True)
    axes.plot(xs, ys, style, marker=".", label=label, color=colour)


if __name__ == "__main__":
    main()
