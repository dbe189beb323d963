"""Time from `gw start` to ready and to the first answer, with a store full of routes.

Twice: from the store alone, and from what the last run left on disk (the last good snapshot) beside the store.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench.filling import fill
from bench.report import progress, save
from bench.routeset import routes
from tests.support.gateway import Gateway, request
from tests.support.waiting import wait_until


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.startup", description=__doc__)
    parser.add_argument(
        "--routes", type=int, nargs="+", default=[0, 10_000], help="routes in the store (default 0 10000)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for count in arguments.routes:
        with tempfile.TemporaryDirectory() as directory:
            gateway = Gateway(Path(directory))
            progress(f"filling the store with {count} routes")
            fill(gateway.config_path, routes(count))
            for label in ("store alone", "last good"):
                times = []
                for number in range(arguments.rounds):
                    progress(f"{count} routes, {label}: start {number + 1} of {arguments.rounds}")
                    if label == "store alone":
                        for path in (gateway.directory / "data").glob("last-good.*"):
                            path.unlink()
                    times.append(_start_s(gateway))
                rows.append(
                    {
                        "routes": count,
                        "from": label,
                        "ready_s_median": sorted(times)[len(times) // 2],
                        "ready_s_max": max(times),
                    }
                )
    save("startup", rows)


def _start_s(gateway: Gateway) -> float:
    began_s = time.monotonic()
    gateway.start(ready=False)
    try:
        wait_until(lambda: _is_ready(gateway), what="ready", deadline_s=120, every_s=0.005)
        return time.monotonic() - began_s
    finally:
        gateway.stop()


def _is_ready(gateway: Gateway) -> bool:
    return request(gateway.status_port, "GET", "/status/ready").status == 200


if __name__ == "__main__":
    main()
