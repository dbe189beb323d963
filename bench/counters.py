"""What counting costs a request: the calls of one proxied request, and each of them, in ns of one core.

The best of many short rounds counts, because shared cores are noisy; `call` is a method that does nothing, which says
how fast the machine was meanwhile. Written behind, as in a worker; `flush` is what writing costs, at most every
WRITE_BEHIND_S. `read` is what a look at all rows costs, such as a scrape takes, by workers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from bench.report import save
from gw.clock import SystemClock
from gw.shm.counters import CounterTable, TrafficCounters
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace, unlink_all

CALLS = 2_000  # some 0.5 ms: short enough to fall between two interruptions
WORKERS = (2, 64)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.counters", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1_000)
    rounds: int = parser.parse_args().rounds
    space, names = PosixSpace(), SegmentNames(f"bench-counters-{int(SystemClock().wall())}")
    table = CounterTable.open_or_create(space, names)
    try:
        counters = table.take(0)
        counters.write_behind(lambda delay_s, flush: None)
        rows = [{"what": what, "ns": best_ns(calls, rounds)} for what, calls in measured(counters).items()]
        loop_ns = rows.pop(0)["ns"]
        rows = [{"what": row["what"], "ns": float(row["ns"]) - float(loop_ns)} for row in rows]
        rows.append({"what": "flush", "ns": best_ns(lambda _: _counted(counters), 200) * CALLS})
        for workers in WORKERS:
            for index in range(workers):
                table.take(index)
            rows.append({"what": f"read, {workers} workers", "ns": best_ns(lambda _: table.read(), 200) * CALLS})
    finally:
        unlink_all(space, names)
    save("counters", rows, calls=CALLS, rounds=rounds)


class Idle:
    """What a call costs by itself."""

    __slots__ = ()

    def call(self) -> None:
        """Nothing."""


def measured(counters: TrafficCounters) -> dict[str, Callable[[int], object]]:
    """What is measured, by its name; the loop around each comes first."""
    idle = Idle()

    def loop(calls: int) -> None:
        for _ in range(calls):
            pass

    def call(calls: int) -> None:
        for _ in range(calls):
            idle.call()

    def request(calls: int) -> None:
        for _ in range(calls):
            counters.request_started()
            counters.upstream_reused()
            counters.request_done(200, 412, 3_271, 0.0014)

    def started(calls: int) -> None:
        for _ in range(calls):
            counters.request_started()

    def done(calls: int) -> None:
        for _ in range(calls):
            counters.request_done(200, 412, 3_271, 0.0014)

    def slow(calls: int) -> None:
        for _ in range(calls):
            counters.request_done(200, 412, 3_271, 0.4)

    return {
        "loop": loop,
        "call": call,
        "request: started, reused, done": request,
        "started": started,
        "done": done,
        "done after 0.4 s": slow,
    }


def _counted(counters: TrafficCounters) -> None:
    counters.request_done(200, 412, 3_271, 0.0014)
    counters.flush()


def best_ns(calls: Callable[[int], object], rounds: int) -> float:
    """The shortest time of a call, of `rounds` rounds."""
    best_s = float("inf")
    for _ in range(rounds):
        since_s = time.perf_counter()
        calls(CALLS)
        best_s = min(best_s, time.perf_counter() - since_s)
    return best_s * 1e9 / CALLS


if __name__ == "__main__":
    main()
