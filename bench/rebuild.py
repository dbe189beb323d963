"""What applying a change holds a worker's event loop, by number of routes and size of the change.

A real Follower on uvloop over real shared memory, wired as a worker wires it; the publisher runs in a process of its
own. Two witnesses: the follower's own account (`held`: its longest slice, `cpu`), and a ticker that runs on the same
loop whenever nothing else does and measures how long it was kept from it (`stall`): as wall time, in which whatever
else the machine does shows as well, and as CPU time of the thread, in which it does not (`stall_cpu`: the figure to
trust on a shared machine; the collector and everything else on the loop is in it). `idle_stall` is what the ticker sees
while nothing changes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable
from typing import Any

import uvloop

from bench.follower import Following, PublisherProcess, running_follower
from bench.isolated import in_child
from bench.plot import figure
from bench.report import progress, save
from bench.routeset import NODES, routes
from bench.stopping import clean_up_when_told_to_stop
from gw.rebuild.follower import Applied

SIZES = (1, 10, 1_000)
# How long the ticker watches a loop on which nothing changes.
IDLE_S = 0.5
# A change that takes part in nothing must still be new each time.
_Resources = list[tuple[str, str, dict[str, Any]]]


def main() -> None:
    clean_up_when_told_to_stop()
    parser = argparse.ArgumentParser(
        prog="python -m bench.rebuild", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int, nargs="+", default=[1, 1_000, 10_000, 100_000])
    parser.add_argument("--repeats", type=int, default=20, help="of each update (default 20)")
    parser.add_argument("--full-repeats", type=int, default=3, help="of each full rebuild (default 3)")
    parser.add_argument(
        "--service-routes", type=int, default=10_000, help="routes of the service, 0: leave it out (default 10000)"
    )
    parser.add_argument("--quick", action="store_true", help="up to 1,000 routes, few repeats: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.routes, arguments.repeats, arguments.full_repeats, arguments.service_routes = [1, 1_000], 5, 2, 1_000
    rows: list[dict[str, Any]] = []
    for count in arguments.routes:
        # A worker of its own for each number of routes: the heap of another would be in the way.
        rows += in_child(_measure, count, arguments.repeats, arguments.full_repeats, arguments.service_routes)
    save("rebuild", rows, repeats=arguments.repeats, full_repeats=arguments.full_repeats)
    _plot(rows)


def _measure(count: int, repeats: int, full_repeats: int, service_routes: int) -> list[dict[str, Any]]:
    with PublisherProcess() as publisher:
        progress(f"{count} routes: publishing them")
        publisher.ask(publisher.fill(count))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_measured(publisher, count, repeats, full_repeats, service_routes))


async def _measured(
    publisher: PublisherProcess, count: int, repeats: int, full_repeats: int, service_routes: int
) -> list[dict[str, Any]]:
    rows = []
    made = list(routes(count))
    async with running_follower(publisher.name) as following:

        async def row(label: str, times: int, what: Callable[[int], bytes]) -> None:
            progress(f"{count} routes: {label}, {times} times")
            watched = [await _watched(publisher, following, what(number)) for number in range(times)]
            rows.append(_row(count, label, watched, idle_s))

        first = _Ticker()
        with first:
            loaded = await following.applied()
        with _Ticker() as idle:
            await asyncio.sleep(IDLE_S)
        idle_s = idle.worst_s
        rows.append(_row(count, "first load", [(loaded, first)], idle_s))
        for size in SIZES:
            if size <= count:
                label = f"{size:,} route{'s' * (size > 1)}"
                await row(label, repeats, lambda number, size=size: publisher.put(_changed(made, size, number)))
        await row("full rebuild", full_repeats, lambda _: publisher.begin_epoch())
        if service_routes and service_routes <= count:
            publisher.ask(publisher.put([_service(0)]))
            for some in _pieces(service_routes):
                publisher.ask(publisher.put(some))
            # What was published meanwhile comes in one or in several applications.
            while True:
                try:
                    await following.applied(timeout_s=1)
                except TimeoutError:
                    break
            of = f"of a service with {service_routes:,} routes"
            await row(f"hosts {of}", full_repeats, lambda number: publisher.put([_service(0, hosts=number + 1)]))
            await row(f"upstream {of}", repeats, lambda number: publisher.put([_service(number + 1, full_repeats)]))
    return rows


async def _watched(publisher: PublisherProcess, following: Following, what: bytes) -> tuple[Applied, _Ticker]:
    """One change and its application, with the ticker on the loop meanwhile."""
    with _Ticker() as ticker:
        # In a thread: the publisher is another process, and the loop must run while it works.
        await asyncio.to_thread(publisher.ask, what)
        applied = await following.applied()
    return applied, ticker


class _Ticker:
    """Runs on the loop whenever nothing else does; keeps the longest time between two runs.

    call_soon and no timer: uvloop's timers count in milliseconds.
    """

    def __init__(self) -> None:
        self.worst_s = 0.0
        self.worst_cpu_s = 0.0
        self._is_running = False
        self._at_s = self._at_cpu_s = 0.0

    def __enter__(self) -> _Ticker:
        self._loop = asyncio.get_running_loop()
        self._is_running = True
        self._at_s, self._at_cpu_s = time.monotonic(), time.thread_time()
        self._loop.call_soon(self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_running = False

    def _tick(self) -> None:
        if not self._is_running:
            return
        now_s, now_cpu_s = time.monotonic(), time.thread_time()
        self.worst_s = max(self.worst_s, now_s - self._at_s)
        self.worst_cpu_s = max(self.worst_cpu_s, now_cpu_s - self._at_cpu_s)
        self._at_s, self._at_cpu_s = now_s, now_cpu_s
        self._loop.call_soon(self._tick)


def _row(count: int, label: str, watched: list[tuple[Applied, _Ticker]], idle_s: float) -> dict[str, Any]:
    held_ms = [applied.cost.held_s * 1e3 for applied, _ in watched]
    stall_ms = [ticker.worst_s * 1e3 for _, ticker in watched]
    stall_cpu_ms = [ticker.worst_cpu_s * 1e3 for _, ticker in watched]
    return {
        "routes": count,
        "change": label,
        "applied_as": "/".join(sorted({applied.work.value for applied, _ in watched})),
        "held_ms": statistics.median(held_ms),
        "held_worst_ms": max(held_ms),
        "stall_ms": statistics.median(stall_ms),
        "stall_worst_ms": max(stall_ms),
        "stall_cpu_ms": statistics.median(stall_cpu_ms),
        "stall_cpu_worst_ms": max(stall_cpu_ms),
        "idle_stall_ms": idle_s * 1e3,
        "cpu_ms": statistics.median(applied.cost.cpu_s * 1e3 for applied, _ in watched),
        "wall_ms": statistics.median(applied.duration_s * 1e3 for applied, _ in watched),
    }


def _changed(made: list[dict[str, Any]], size: int, number: int) -> _Resources:
    """So many routes, spread over all, each with another uri: what a route costs most."""
    step = max(1, len(made) // size)
    chosen = [made[(place * step + number) % len(made)] for place in range(size)]
    changed: _Resources = []
    for route in chosen:
        head, star = (route["uri"][:-1], "*") if route["uri"].endswith("*") else (route["uri"], "")
        changed.append(("routes", route["id"], {**route, "uri": f"{head}/changed-{size}-{number}{star}"}))
    return changed


def _service(weight: int, hosts: int = 0) -> tuple[str, str, dict[str, Any]]:
    upstream = {"type": "roundrobin", "nodes": {next(iter(NODES)): weight + 1}}
    return "services", "large", {"hosts": [f"large-{hosts}.example.com"], "upstream": upstream}


def _pieces(count: int, at_once: int = 2_000) -> list[_Resources]:
    made: _Resources = [
        ("routes", f"of-large-{number}", {"uri": f"/of-large/{number}/*", "service_id": "large"})
        for number in range(count)
    ]
    return [made[start : start + at_once] for start in range(0, count, at_once)]


def _plot(rows: list[dict[str, Any]]) -> None:
    """Longest hold of the loop by number of routes, a line for each size of change."""
    with figure("rebuild") as axes:
        labels = list(dict.fromkeys(row["change"] for row in rows))
        for number, label in enumerate(labels):
            own = [row for row in rows if row["change"] == label]
            counts = [row["routes"] for row in own]
            axes.plot(counts, [row["stall_cpu_ms"] for row in own], "-o", color=f"C{number}", label=label)
            axes.plot(counts, [row["stall_cpu_worst_ms"] for row in own], "^", color=f"C{number}", markersize=4)
        axes.axhline(0.2, color="grey", linestyle=":", linewidth=1)
        axes.axhline(3, color="grey", linestyle=":", linewidth=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("routes (dotted: targets, 0.2 ms for one change, 3 ms for a full rebuild)")
        axes.set_ylabel("ms of CPU the loop was held at once\n(median; triangles: worst)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")


if __name__ == "__main__":
    main()
