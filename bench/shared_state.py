"""What a count in shared state costs: alone, with others at once, and when every key is a new one.

    python -m bench.shared_state [--processes 2] [--seconds 1]

Prints JSON: microseconds of one operation, and whether every increment of all processes was kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from gw.clock import SystemClock
from gw.shared.store import SharedStore
from gw.shm.segment import SHM_DIR

SIZE_BYTES = 32 << 20
AT_ONCE = 1000


def timed(operation: Callable[[int], object], seconds: float) -> tuple[float, int]:
    """(us of one, how many)."""
    count, begun_s = 0, time.perf_counter()
    while (now_s := time.perf_counter()) < begun_s + seconds:
        for number in range(count, count + AT_ONCE):
            operation(number)
        count += AT_ONCE
    return (now_s - begun_s) / count * 1e6, count


def increment_beside_others(directory: Path, seconds: float, start: object, told: Connection) -> None:
    store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
    start.wait()  # type: ignore[attr-defined]
    told.send(timed(lambda _: store.increment(b"shared", 1, ttl_s=3600), seconds))
    store.close()


def together(directory: Path, processes: int, seconds: float) -> tuple[list[float], int]:
    """(us of one in each process, how many in all)."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes)
    found = []
    started = []
    for _ in range(processes):
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=increment_beside_others, args=(directory, seconds, start, there))
        child.start()
        started.append((child, here))
    for child, here in started:
        found.append(here.recv())
        child.join()
    return [us for us, _ in found], sum(count for _, count in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    directory = SHM_DIR / f"bench-shared-{time.time_ns()}"
    try:
        store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
        alone_us, _ = timed(lambda _: store.increment(b"alone", 1, ttl_s=3600), arguments.seconds)
        get_us, _ = timed(lambda _: store.get(b"alone"), arguments.seconds)
        new_us, new = timed(lambda number: store.increment(b"new %d" % number, 1, ttl_s=60), arguments.seconds)
        usage = store.usage()
        beside_us, told = together(directory, arguments.processes, arguments.seconds)
        kept = store.increment(b"shared", 0, ttl_s=3600).value
        store.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    result = {
        "increment_alone_us": round(alone_us, 2),
        f"increment_{arguments.processes}_processes_us": [round(us, 2) for us in beside_us],
        "every_increment_kept": kept == told,
        "increment_of_a_new_key_us": round(new_us, 2),
        "get_us": round(get_us, 2),
        "bytes_per_counter": round(usage.used_bytes / usage.entries),
        "new_keys": new,
        "evictions": usage.evictions,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
