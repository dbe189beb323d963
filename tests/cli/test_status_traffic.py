"""What `gw status` tells of traffic."""

from __future__ import annotations

from typing import Any

import pytest

from gw.cli.columns import short_size
from gw.cli.status import table as status_table
from gw.cli.status_traffic import add_traffic, read_traffic, traffic_rows
from gw.shm.counters import CounterTable
from gw.shm.segment import UntrustedSegment
from tests.shm.world import NAMES
from tests.support.memory_space import MemorySpace


@pytest.fixture
def space() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
def counters(space: MemorySpace) -> CounterTable:
    return CounterTable.open_or_create(space, NAMES)


def worker(cell: int, *, alive: bool = True) -> dict[str, Any]:
    return {
        "cell": cell, "pid": 1000 + cell, "alive": alive, "state": "serving" if alive else "gone", "current": alive,
        "version": 3, "revision": 9, "digest": "00000000000000aa", "applied_at": None, "rebuild_kind": "full",
        "rebuild_duration_ms": 1.25, "jitter_ms": 4, "staleness_ms": 12, "worst_staleness_ms": 321, "problems": 0,
        "rebuild_held_ms": 0.37, "digest_mismatches": 0, "failures": 0,
    }  # fmt: skip


def status(*workers: dict[str, Any]) -> dict[str, Any]:
    agent = {
        "pid": None, "alive": False, "answers": False, "state": None, "version": None, "revision": None,
        "digest": None, "heartbeat_age_ms": None, "store": None, "problem": None, "rejected": None,
        "rejected_count": None, "resources": None,
    }  # fmt: skip
    return {"agent": agent, "workers": list(workers), "expected_workers": len(workers), "converged": True}


def serve(counters: CounterTable, cell: int, statuses: dict[int, int], duration_s: float = 0.25) -> None:
    """A worker on a cell that answers so many requests, with one more and two connections open."""
    row = counters.take(cell)
    for code, times in statuses.items():
        for _ in range(times):
            row.request_started()
            row.request_done(code, 100, 2_000, duration_s)
    row.request_started()
    for _ in range(3):
        row.connection_opened()
    row.connection_closed()
    row.connection_refused()
    row.upstream_connected()


def looked(space: MemorySpace, *workers: dict[str, Any]) -> dict[str, Any]:
    seen = status(*workers)
    add_traffic(seen, read_traffic(space, NAMES))
    return seen


def test_each_worker_and_all_of_them(space: MemorySpace, counters: CounterTable) -> None:
    serve(counters, 0, {200: 3, 404: 1, 403: 1, 503: 2})
    serve(counters, 4, {301: 5})
    serve(counters, 7, {200: 1})  # a worker of before, whose cell nobody has
    seen = looked(space, worker(0), worker(4))
    first, whole = seen["workers"][0]["traffic"], seen["traffic"]
    assert first == {
        "processes": 1, "requests": 8, "requests_in_flight": 1, "requests_lost": 0,
        "responses": {"1xx": 0, "2xx": 3, "3xx": 0, "4xx": 2, "5xx": 2, "other": 0},
        "statuses": {"404": 1, "429": 0, "499": 0, "500": 0, "502": 0, "503": 2, "504": 0},
        "duration_mean_ms": 250.0, "duration_p50_ms": 500, "duration_p99_ms": 500,
        "received_bytes": 700, "sent_bytes": 14_000, "connections": {"active": 2, "opened": 3, "refused": 1},
        "upstream": {"connects": 1, "reuses": 0, "failures": 0, "retries": 0}, "plugin_failures": 0,
    }  # fmt: skip
    assert seen["workers"][1]["traffic"]["responses"]["3xx"] == 5
    assert (whole["requests"], whole["requests_in_flight"], whole["connections"]["active"]) == (16, 2, 4)
    assert (whole["connections"]["opened"], whole["processes"]) == (9, 3)


def test_nothing_is_open_at_a_worker_that_is_gone(space: MemorySpace, counters: CounterTable) -> None:
    serve(counters, 0, {200: 1})
    seen = looked(space, worker(0, alive=False))
    for traffic in (seen["traffic"], seen["workers"][0]["traffic"]):
        assert (traffic["requests"], traffic["requests_in_flight"], traffic["connections"]["active"]) == (2, 0, 0)


def test_the_table_for_people(space: MemorySpace, counters: CounterTable) -> None:
    serve(counters, 0, {200: 98, 502: 2})
    serve(counters, 1, {200: 1}, duration_s=64.0)
    counters.take(2)
    lines = status_table(looked(space, worker(0), worker(1), worker(2), worker(3)), "x").splitlines()
    assert [line.split() for line in lines[-6:]] == [
        [],
        ["WORKER", "REQUESTS", "IN", "FLIGHT", "CONNECTIONS", "2XX", "3XX", "4XX", "5XX", "MEAN", "P50", "P99",
         "RECEIVED", "SENT"],
        ["1000", "101", "1", "2", "98", "0", "0", "2", "250ms", "<=500ms", "<=500ms", "10.0kB", "200kB"],
        ["1001", "2", "1", "2", "1", "0", "0", "0", "64s", ">60s", ">60s", "100B", "2.0kB"],
        ["1002", "0", "0", "0", "0", "0", "0", "0", "-", "-", "-", "0B", "0B"],
        ["all", "103", "2", "4", "99", "0", "0", "2", "881ms", "<=500ms", "<=500ms", "10.1kB", "202kB"],
    ]  # fmt: skip
    assert max(map(len, lines)) <= 130


def test_the_table_keeps_its_width(space: MemorySpace, counters: CounterTable) -> None:
    row = counters.take(0)
    row.request_done(200, 2**60, 999_950_000, 3599.0)
    seen = looked(space, {**worker(0), "pid": 7_654_321})
    traffic = seen["workers"][0]["traffic"]
    traffic["requests"] = traffic["responses"]["2xx"] = 10**12
    assert traffic_rows(seen)[1][-4:] == (">60s", ">60s", "1153PB", "1.0GB")
    assert max(map(len, status_table(seen, "x").splitlines())) <= 130


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (999, "999B"), (1_000, "1.0kB"), (99_949, "99.9kB"), (99_950, "100kB"), (999_499, "999kB"),
     (999_500, "1.0MB"), (10**15, "1.0PB"), (10**18, "1000PB")],
)  # fmt: skip
def test_a_size_is_short(size_bytes: int, text: str) -> None:
    assert short_size(size_bytes) == text


@pytest.mark.parametrize("damage", [None, b"", b"garbage"])
def test_without_counters_the_rest_is_told(space: MemorySpace, damage: bytes | None) -> None:
    if damage is not None:
        space.create(NAMES.counters, len(damage), 0o660).store(0, damage)
    seen = looked(space, worker(0))
    assert (seen["traffic"], seen["workers"][0]["traffic"]) == (None, None)
    assert "RECEIVED" not in status_table(seen, "x")
    assert "serving" in status_table(seen, "x")


def test_a_strangers_counters_are_refused() -> None:
    class Strangers(MemorySpace):
        def open(self, name: str, **options: Any) -> Any:
            raise UntrustedSegment(f"{name} is refused")

    with pytest.raises(UntrustedSegment):
        read_traffic(Strangers(), NAMES)
