"""Time from an Admin API write to all workers serving it, and from the answer to the write until then.

Each change gives one route another response: the client polls every worker's cell through shared memory, so that the
moment is read off the workers' own report and not off chance among requests.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench.report import progress, quantile, save
from gw.clock import SystemClock
from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from tests.support.gateway import Gateway, running_gateway


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.propagation", description=__doc__)
    parser.add_argument("--changes", type=int, default=200, help="changes measured (default 200)")
    parser.add_argument("--routes", type=int, default=1000, help="routes there besides (default 1000)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--update-jitter-ms", type=int, default=0, help="upper end of the window (default 0: no jitter)"
    )
    arguments = parser.parse_args()
    jitter = {"full_jitter_ms": [0, 0], "update_jitter_ms": [0, arguments.update_jitter_ms]}
    with (
        tempfile.TemporaryDirectory() as directory,
        running_gateway(Path(directory), {"gw": {"rebuild": jitter}}, workers=arguments.workers) as gateway,
    ):
        progress(f"putting {arguments.routes} routes")
        for number in range(arguments.routes):
            gateway.put_route(f"r{number}", f"/r{number}", 9)
        from_put, from_answer = _measure(gateway, arguments.changes)
    rows = [
        {
            "from": name,
            **{f"p{share}_ms": quantile(times, share / 100) * 1e3 for share in (50, 90, 99)},
            "max_ms": max(times) * 1e3,
        }
        for name, times in (("PUT sent", from_put), ("PUT answered", from_answer))
    ]
    save("propagation", rows, **vars(arguments))


def _measure(gateway: Gateway, changes: int) -> tuple[list[float], list[float]]:
    table = WorkerTable.open(PosixSpace(), SegmentNames(gateway.name))
    clock = SystemClock()
    from_put, from_answer = [], []

    def versions() -> set[int]:
        return {cell.version for _, cell in table.live()}

    for number in range(changes):
        if number % 50 == 0:
            progress(f"change {number} of {changes}")
        before = max(versions())
        sent_s = clock.monotonic()
        gateway.put_route("changing", f"/changing/{number}", 9)
        answered_s = clock.monotonic()
        while min(versions()) <= before:
            time.sleep(0.0002)
        served_s = clock.monotonic()
        from_put.append(served_s - sent_s)
        from_answer.append(served_s - answered_s)
    return from_put, from_answer


if __name__ == "__main__":
    main()
