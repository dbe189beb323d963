"""Several real workers on one board, and what becomes of checks when one of them dies or hangs."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.health.board import Board
from gw.health.lease import LEASE_KEY, OWNER_BYTES
from gw.health.state import State
from gw.shared.store import SharedStore
from tests.health.support import KEY
from tests.support.health_worker import SIZE_BYTES
from tests.support.upstream import Upstream as Server
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """A worker. What it said is kept in the order it was said."""

    def __init__(self, directory: Path, written: dict[str, Any], *key: str) -> None:
        command = [sys.executable, "-m", "tests.support.health_worker", str(directory), json.dumps(written), *key]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.down: set[str] = set()
        self.probes = 0
        wait_until(lambda: "ready" in self.heard(), what="the worker to be ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.strip())

    def heard(self) -> list[str]:
        lines = []
        while not self._lines.empty():
            lines.append(self._lines.get())
            word, *names = lines[-1].split()
            if word == "down":
                self.down = set(names)
            self.probes += word == "probe"
        return lines

    def knows(self, *down: str) -> bool:
        self.heard()
        return self.down == set(down)

    def report(self, node: str, status: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"report {node} {status}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()


@pytest.fixture
def store(directory) -> Iterator[SharedStore]:
    store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
    yield store
    store.close()


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    with running_upstream("first") as first, running_upstream("second") as second:
        yield first, second


@pytest.fixture
def written(servers) -> dict[str, Any]:
    fields = {
        "nodes": {f"127.0.0.1:{server.port}": 1 for server in servers},
        "checks": {
            "active": {
                "http_path": "/live",
                "timeout": 20,
                "healthy": {"interval": 1, "successes": 1},
                "unhealthy": {"interval": 1, "http_failures": 1, "tcp_failures": 1, "timeouts": 1},
            },
            "passive": {"unhealthy": {"http_statuses": [500], "http_failures": 3}},
        },
    }
    return {"type": "roundrobin", "scheme": "http", "pass_host": "pass", "hash_on": "vars"} | fields


@contextlib.contextmanager
def workers(directory: Path, written: dict[str, Any], count: int) -> Iterator[list[Process]]:
    with contextlib.ExitStack() as stack:
        running = []
        for _ in range(count):
            running.append(Process(directory, written, KEY.kind, KEY.id))
            stack.callback(running[-1].close)
        yield running


def holder(store: SharedStore, running: list[Process]) -> Process | None:
    """The worker that holds the lease."""
    lease = store.get(LEASE_KEY)
    pid = 0 if lease is None else int(lease[:OWNER_BYTES].rstrip(b"\0"))
    return next((worker for worker in running if worker.pid == pid), None)


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_prober_that_dies_or_hangs_is_replaced(directory, store, servers, written, fate):
    nodes = [f"127.0.0.1:{server.port}" for server in servers]
    with workers(directory, written, 3) as running:
        first = wait_until(lambda: holder(store, running), what="a worker to hold the lease")
        wait_until(lambda: servers[0].requests and servers[1].requests, what="probes of both nodes")
        servers[0].close()
        for worker in running:
            wait_until(lambda worker=worker: worker.knows(nodes[0]), what="every worker to know")
        os.kill(first.pid, fate)
        others = [worker for worker in running if worker is not first]
        second = wait_until(lambda: holder(store, others), what="another worker to take the lease")
        servers[1].close()
        for worker in others:
            wait_until(lambda worker=worker: worker.knows(*nodes), what="the others to know what the new one found")
        assert second.probes > 0
        if fate == signal.SIGSTOP:
            first.heard()
            probes = first.probes
            os.kill(first.pid, signal.SIGCONT)
            wait_until(lambda: first.knows(*nodes), what="the one that hung to know what happened meanwhile")
            seen = second.probes
            wait_until(lambda: second.heard() and second.probes > seen + 2, what="the new one to probe on")
            # Probes that were under way may end; it begins none.
            first.heard()
            assert first.probes - probes <= len(nodes)
            assert holder(store, running) is second


def test_failures_that_workers_see_are_added_up_and_known_to_all(directory, servers, written):
    written["checks"]["active"] |= {"healthy": {"interval": 3600}, "unhealthy": {"interval": 3600}}
    node = f"127.0.0.1:{servers[0].port}"
    with workers(directory, written, 3) as running:
        for worker in running:
            worker.report(node, 500)
        for worker in running:
            wait_until(lambda worker=worker: worker.knows(node), what="every worker to know")


def test_a_worker_killed_while_it_reports_harms_nobody(directory, store, servers, written):
    """Each is killed somewhere in a storm of reports; the board goes on, with a sum of what was reported."""
    written["checks"]["active"] |= {"healthy": {"interval": 3600}, "unhealthy": {"interval": 3600}}
    written["checks"]["passive"] = {"unhealthy": {"http_statuses": [500], "http_failures": 254}}
    node = f"127.0.0.1:{servers[0].port}"
    board = Board(store, SystemClock())
    for _ in range(3):
        with workers(directory, written, 1) as (worker,):
            before = board.healths(_of(board)).get(node)
            for _ in range(40):
                worker.report(node, 500)
            wait_until(lambda before=before: board.healths(_of(board)).get(node) != before, what="a report to count")
    health = board.healths(_of(board))[node]
    assert 3 <= health.counts.http_failures <= 120
    assert health.state is State.MOSTLY_HEALTHY


def _of(board: Board):
    """What the workers registered."""
    return next(checker for part in board.checkers() for checker in part)
