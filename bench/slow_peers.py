"""Peers that move one byte a second, of five kinds, for minutes: what a worker holds for them, how it serves others.

    python -m bench.slow_peers [--each 100] [--seconds 120] [--tick-s 1] > slow_peers.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import tempfile
from pathlib import Path

from tests.support.gateway import running_gateway
from tests.support.memory import peak_mb, resident_mb
from tests.support.slow_peers import PATHS, run_slow_peers


def main() -> int:
    """Exit code 1 when a peer was cut off or a request of the others failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=100, help="peers of each kind")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--tick-s", type=float, default=1.0, help="between two bytes of one peer")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="jwslow-") as directory,
        running_gateway(Path(directory), workers=1) as gateway,
        socket.create_server(("127.0.0.1", 0), backlog=1000) as listener,
    ):
        for path in PATHS:
            gateway.put_route(path[1:], path, listener.getsockname()[1])
        gateway.gw("status", "--wait", "10")
        (worker,) = gateway.worker_pids()
        before_mb = resident_mb(worker)
        run = run_slow_peers(
            gateway.port, listener, each=options.each, tick_s=options.tick_s, run_s=options.seconds
        )
        seen = asyncio.run(run)
        most_mb = peak_mb(worker)
    print(
        json.dumps(
            {
                "peers": options.each * len(seen.moved),
                "moved_bytes": seen.moved,
                "cut": seen.cut,
                "others": {"answered": seen.fine, "failed": seen.failed, "slowest_ms": round(seen.slowest_s * 1e3, 1)},
                "worker_mb": {"before": round(before_mb, 1), "most": round(most_mb, 1)},
            },
            indent=2,
        )
    )
    return 1 if seen.cut or seen.failed else 0


if __name__ == "__main__":
    sys.exit(main())
