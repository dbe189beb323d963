"""limit-count in a whole gateway: one limit for all its workers, whoever of them dies, until it is stopped."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gw.shared.files import state_directory
from gw.shm.names import SegmentNames
from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until


def limited(count: int, **more: object) -> dict[str, object]:
    return {"limit-count": {"count": count, "time_window": 3600, "rejected_code": 429, **more}}


def statuses(gateway: Gateway, path: str, requests: int) -> Counter[int]:
    """Each request on a connection of its own, several at once, so that all workers get some."""
    with ThreadPoolExecutor(8) as pool:
        return Counter(pool.map(lambda _: gateway.call(path).status, range(requests)))


def test_workers_count_together_and_a_killed_one_takes_no_count_with_it(tmp_path: Path) -> None:
    with running_upstream() as upstream, running_gateway(tmp_path, workers=3) as gateway:
        node = {"upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}
        gateway.apply(
            {
                "routes_1": {"uri": "/1", "plugins": limited(40), **node},
                "routes_2": {"uri": "/2", "plugins": limited(10, group="both"), **node},
                "routes_3": {"uri": "/3", "plugins": limited(10, group="both"), **node},
            }
        )
        first = gateway.call("/1")
        assert (first.status, first.headers["x-ratelimit-limit"], first.headers["x-ratelimit-remaining"]) == (
            *(200, "40", "39"),
        )
        assert statuses(gateway, "/1", 19) == {200: 19}
        killed = gateway.worker_pids()[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(set(gateway.worker_pids()) - {killed}) == 3, what="another worker")
        assert statuses(gateway, "/1", 50) == {200: 20, 429: 30}
        refused = gateway.call("/1")
        assert refused.headers["x-ratelimit-remaining"] == "0"

        assert statuses(gateway, "/2", 6) == {200: 6}
        assert statuses(gateway, "/3", 6) == {200: 4, 429: 2}

        # A change elsewhere leaves the count alone; one of the limit itself begins another.
        gateway.apply({"routes_4": {"uri": "/4", **node}})
        assert gateway.call("/1").status == 429
        gateway.apply({"routes_1": {"uri": "/1", "plugins": limited(41), **node}})
        assert gateway.call("/1").status == 200

        directory = state_directory(SegmentNames(gateway.name))
        assert directory.is_dir()
        gateway.stop()
        assert not directory.exists()
