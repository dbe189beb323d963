"""A worker as far as health goes: `python -m tests.support.health_worker DIRECTORY UPSTREAM_JSON [KIND ID]`.

Without KIND and ID it watches nothing, and is there to probe. On stdout: `ready`, `probe <target>` before each probe,
`down <names>` when that changed. On stdin: `report <node> <status>` reports a request; the end of it ends the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from pathlib import Path

from gw.clock import SystemClock
from gw.health.board import Board
from gw.health.checker import Target
from gw.health.checks import ActiveChecks
from gw.health.lease import OWNER_BYTES
from gw.health.probe import StreamProbe
from gw.health.prober import Prober
from gw.health.view import HealthView
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.shared.store import SharedStore

SIZE_BYTES = 4 << 20


def owner_of(pid: int) -> bytes:
    """In the lease: who holds it, for a test to see."""
    return b"%d" % pid + bytes(OWNER_BYTES - len(b"%d" % pid))


def say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


async def main(directory: Path, upstream: Upstream, key: ResourceKey | None) -> None:
    clock = SystemClock()
    store = SharedStore.open(directory, SIZE_BYTES, clock)
    board = Board(store, clock)
    view = HealthView(board, clock)
    stream_probe = StreamProbe()

    async def probe(target: Target, active: ActiveChecks) -> int | None:
        say("probe", target.name)
        return await stream_probe(target, active)

    lease = board.lease(owner_of(os.getpid()))
    prober = Prober(board, lease, probe, clock=clock, chance=random.Random(), on_change=view.changed)
    tasks = [asyncio.create_task(view.run()), asyncio.create_task(prober.run())]
    watch = view.watch(key, upstream, lambda down: say("down", *sorted(down))) if key is not None else None
    say("ready")
    while line := await asyncio.to_thread(sys.stdin.readline):
        _, node, status = line.split()
        assert watch is not None
        watch.report_http(node, int(status))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    store.close()


if __name__ == "__main__":
    key = ResourceKey(sys.argv[3], sys.argv[4]) if len(sys.argv) > 3 else None
    asyncio.run(main(Path(sys.argv[1]), Upstream.from_dict(json.loads(sys.argv[2])), key))
