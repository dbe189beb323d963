"""What one look at shared memory becomes in Prometheus's text."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from gw import __version__
from gw.metrics.declare import HOST, WORKER
from gw.metrics.expose import OPENMETRICS, exposition
from gw.metrics.host_view import HostView
from gw.metrics.traffic import NAMES as TRAFFIC_NAMES
from gw.shm.layout import AgentState, Cell, CellState, RebuildKind, Slot
from tests.support.metrics import Scrape

ROOT = Path(__file__).parents[2]
NOW_NS = 100_000_000_000
SLOT = Slot(
    AgentState.WATCHING,
    epoch=5,
    version=7,
    digest=0xAB,
    revision=1234,
    published_wall_ns=1_700_000_000_250_000_000,
    heartbeat_ns=NOW_NS - 400_000_000,
)
CELL = Cell(
    CellState.SERVING,
    pid=201,
    problems=3,
    epoch=5,
    version=7,
    digest=0xAB,
    revision=1233,
    worst_staleness_ms=900,
    rebuild_kind=RebuildKind.UPDATE,
    jitter_ms=11,
    rebuild_ns=2_500_000,
    applied_wall_ns=1_700_000_000_500_000_000,
    written_ns=NOW_NS - 2_000_000_000,
    updates=40,
    fulls=2,
    mismatches=0,
    failures=1,
    rebuild_cpu_ns=1_500_000,
    rebuild_held_ns=750_000,
    worst_held_ns=4_000_000,
    resources=5000,
)
SEEN = HostView(slot=SLOT, agent_is_alive=True, live=((0, CELL),), expected=1, now_ns=NOW_NS, host_name='a "host"\\')


def scrape(*cells: Cell, prefix: str = "apisix_", **fields: Any) -> Scrape:
    seen = dataclasses.replace(SEEN, **({"live": tuple(enumerate(cells))} if cells else {}), **fields)
    return Scrape(b"".join(exposition(seen, prefix)).decode())


def cell(**fields: Any) -> Cell:
    return dataclasses.replace(CELL, **fields)


def test_all_that_a_worker_says() -> None:
    found = scrape()
    worker = {"worker": "0", "pid": "201"}
    for name, value in {
        "config_version": 7,
        "config_revision": 1233,
        "config_current": 1,
        "config_applied_timestamp_seconds": 1_700_000_000.5,
        "staleness_seconds": 0,
        "staleness_max_seconds": 0.9,
        "jitter_seconds": 0.011,
        "rebuild_held_max_seconds": 0.004,
        "updates_total": 40,
        "full_rebuilds_total": 2,
        "digest_mismatches_total": 0,
        "apply_failures_total": 1,
        "problems": 3,
        "resources": 5000,
        "report_age_seconds": 2,
    }.items():
        assert found.value(f"apisix_gateway_worker_{name}", **worker) == value, name
    for name, value in {"duration_seconds": 0.0025, "cpu_seconds": 0.0015, "held_seconds": 0.00075}.items():
        assert found.value(f"apisix_gateway_worker_rebuild_{name}", **worker, kind="update") == value, name
    assert len([name for name in found.names if name.startswith("apisix_gateway_worker_")]) == len(WORKER)


def test_all_that_is_said_of_the_host() -> None:
    draining, starting = cell(state=CellState.DRAINING), Cell(CellState.STARTING, pid=202)
    found = scrape(CELL, draining, starting, expected=4)
    for name, value in {
        "gateway_workers_expected": 4,
        "gateway_workers_live": 3,
        "gateway_workers_serving": 1,
        "gateway_agent_up": 1,
        "gateway_agent_heartbeat_age_seconds": 0.4,
        "gateway_config_version": 7,
        "gateway_config_revision": 1234,
        "gateway_config_published_timestamp_seconds": 1_700_000_000.25,
        "etcd_reachable": 1,
    }.items():
        assert found.value(f"apisix_{name}") == pytest.approx(value), name
    assert found.value("apisix_etcd_modify_indexes", key="max_modify_index") == 1234
    assert found.value("apisix_node_info", hostname='a "host"\\', version=__version__) == 1


def test_each_worker_speaks_for_itself() -> None:
    found = scrape(cell(updates=3, pid=11), cell(updates=0, pid=12))
    assert found.value("apisix_gateway_worker_updates_total", worker="0", pid="11") == 3
    assert found.value("apisix_gateway_worker_updates_total", worker="1", pid="12") == 0


def test_a_digest_mismatch_is_a_counter_that_is_not_zero() -> None:
    found = scrape(cell(mismatches=1, digest=0xAC), cell(pid=202))
    assert found.by_worker("apisix_gateway_worker_digest_mismatches_total") == {0: 1, 1: 0}
    assert found.by_worker("apisix_gateway_worker_config_current") == {0: 0, 1: 1}


@pytest.mark.parametrize(
    ("fields", "current"),
    [
        ({}, 1),
        ({"version": 6, "digest": 0xAA}, 0),
        ({"epoch": 4}, 0),
        ({"digest": 0xAC}, 0),
        ({"epoch": 0, "version": 0, "digest": 0}, 0),
    ],
)
def test_a_worker_is_current_with_the_very_version_and_digest(fields: dict[str, int], current: int) -> None:
    assert scrape(cell(**fields)).by_worker("apisix_gateway_worker_config_current") == {0: current}


def test_nothing_served_is_not_current_with_nothing_published() -> None:
    nothing = Slot(AgentState.STARTING)
    found = scrape(Cell(CellState.STARTING, pid=1), slot=nothing)
    assert found.by_worker("apisix_gateway_worker_config_current") == {0: 0}


def test_what_waits_goes_on_waiting_after_the_cell_was_written() -> None:
    found = scrape(cell(staleness_ms=300), cell(staleness_ms=0, pid=202))
    assert found.by_worker("apisix_gateway_worker_staleness_seconds") == {0: 2.3, 1: 0}
    assert found.by_worker("apisix_gateway_worker_staleness_max_seconds") == {0: 2.3, 1: 0.9}


def test_what_was_never_so_is_left_out() -> None:
    found = scrape(Cell(CellState.STARTING, pid=1, written_ns=NOW_NS), slot=None, agent_is_alive=False)
    assert not {name for name in found.names if "rebuild_duration" in name or "timestamp" in name}
    assert "apisix_gateway_config_version" not in found.names
    assert "apisix_gateway_agent_heartbeat_age_seconds" not in found.names
    assert "apisix_etcd_modify_indexes" not in found.names
    assert found.value("apisix_etcd_reachable") == 0
    assert found.value("apisix_gateway_agent_up") == 0
    assert found.by_worker("apisix_gateway_worker_config_version") == {0: 0}
    assert found.by_worker("apisix_gateway_worker_updates_total") == {0: 0}


@pytest.mark.parametrize(
    ("slot", "alive", "reachable"),
    [
        ({}, True, 1),
        ({}, False, 0),
        ({"state": AgentState.BACKING_OFF}, True, 0),
        ({"state": AgentState.LOADING}, True, 0),
        ({"heartbeat_ns": NOW_NS - 10_000_000_000}, True, 0),
    ],
)
def test_the_store_is_reached_by_an_agent_that_watches_it(slot: dict[str, Any], alive: bool, reachable: int) -> None:
    found = scrape(slot=dataclasses.replace(SLOT, **slot), agent_is_alive=alive)
    assert found.value("apisix_etcd_reachable") == reachable
    assert found.value("apisix_gateway_agent_up") == alive


@pytest.mark.parametrize("prefix", ["", "edge_"])
def test_the_prefix_begins_every_name(prefix: str) -> None:
    plain, prefixed = scrape(), scrape(prefix=prefix)
    assert prefixed.names == {prefix + name.removeprefix("apisix_") for name in plain.names}


def test_names_types_and_meanings_are_as_prometheus_wants_them() -> None:
    names = [metric.name for metric in (*HOST, *WORKER)]
    assert len(set(names)) == len(names)
    types = scrape().types
    for metric in (*HOST, *WORKER):
        assert re.fullmatch(r"gateway_[a-z_]+", metric.name)
        assert not re.search(r"_(ms|ns|milliseconds|percent)\b", metric.name)
        assert metric.help.endswith(".")
        family = f"apisix_{metric.name.removesuffix('_total')}"
        assert types[family] == ("counter" if metric.name.endswith("_total") else "gauge")


def test_openmetrics_says_the_same() -> None:
    text = b"".join(exposition(SEEN, "apisix_", OPENMETRICS)).decode()
    assert text.count("# EOF") == 1
    assert text.endswith("# EOF\n")
    parsed = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_openmetrics(text)
        for sample in family.samples
    }
    assert parsed == scrape().samples


def test_every_metric_is_documented() -> None:
    table = (ROOT / "docs" / "operate.md").read_text()
    documented = set(re.findall(r"^\| `([a-z_]+)(?:\{[^`]*\})?` \|", table, re.MULTILINE))
    exported = {metric.name for metric in (*HOST, *WORKER)} | {"etcd_reachable", "etcd_modify_indexes", "node_info"}
    assert documented == exported | set(TRAFFIC_NAMES)
