"""The metrics listener over real workers: any of them answers for all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway import request
from tests.support.metrics import METRICS_PATH, Scrape, scrape
from tests.support.waiting import wait_until
from tests.support.workers import Workers

COUNTERS = ("updates_total", "full_rebuilds_total", "digest_mismatches_total", "apply_failures_total")


def route(uri: str) -> dict[str, object]:
    return {"uri": uri, "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1": 1}}}


def counters(found: Scrape) -> dict[str, dict[int, float]]:
    return {name: found.by_worker(f"apisix_gateway_worker_{name}") for name in COUNTERS}


@contextlib.contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """A stopped process accepts no connection: whoever else listens gets them all."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: ") T " in Path(f"/proc/{pid}/stat").read_text(), what="the process to stand still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_counters_are_per_worker_and_any_worker_tells_them_all(tmp_path: Path) -> None:
    with Workers(tmp_path) as workers:
        version = workers.publish({"1": route("/1")})
        workers.wait_ready()
        before = scrape(workers.metrics_port)
        assert counters(before)["full_rebuilds_total"] == {0: 1, 1: 1}
        assert before.value("apisix_gateway_config_version") == version

        for number in (2, 3):
            version = workers.publish({str(number): route(f"/{number}")})
            workers.wait_converged()
        after = scrape(workers.metrics_port)
        assert counters(after)["updates_total"] == {0: 2, 1: 2}
        assert counters(after)["digest_mismatches_total"] == {0: 0, 1: 0}
        assert after.by_worker("apisix_gateway_worker_config_version") == {0: version, 1: version}
        assert after.by_worker("apisix_gateway_worker_config_current") == {0: 1, 1: 1}
        assert after.by_worker("apisix_gateway_worker_resources") == {0: 3, 1: 3}
        assert after.value("apisix_gateway_workers_serving") == after.value("apisix_gateway_workers_expected") == 2
        assert after.value("apisix_node_info", hostname=socket.gethostname(), version=_version(workers)) == 1

        pids = {index: cell.pid for index, cell in workers.cells().items()}
        for silent in pids.values():
            with standing_still(silent):
                told = scrape(workers.metrics_port)
            assert counters(told) == counters(after)
            labels = {dict(labels)["pid"] for _, labels in told.samples if dict(labels).get("pid")}
            assert labels == {str(pid) for pid in pids.values()}

        # A worker that dies takes its counters with it; the one in its place begins anew.
        os.kill(pids[0], signal.SIGKILL)

        def successor() -> int | None:
            cell = workers.cells().get(0)
            return cell.pid if cell is not None and cell.pid != pids[0] and workers.is_converged() else None

        heir = wait_until(successor, what="a new worker that serves the newest version")
        fresh = scrape(workers.metrics_port)
        assert counters(fresh)["updates_total"] == {0: 0, 1: 2}
        assert fresh.value("apisix_gateway_worker_updates_total", worker="0", pid=str(heir)) == 0


def _version(workers: Workers) -> str:
    server = request(workers.metrics_port, "GET", METRICS_PATH).headers["server"]
    assert server.startswith("Jitterway/")
    return server.removeprefix("Jitterway/")


def test_who_was_answered_finds_the_request_counted(tmp_path: Path) -> None:
    with Workers(tmp_path, workers=1) as workers:
        workers.publish({"1": route("/1")})
        workers.wait_ready()
        for asked in range(1, 6):
            assert request(workers.port, "GET", "/nowhere").status == 404
            assert scrape(workers.metrics_port).value("apisix_http_requests_total") == asked


def test_another_path_and_prefix(tmp_path: Path) -> None:
    config = {"plugin_attr": {"prometheus": {"export_uri": "/metrics", "metric_prefix": "edge_"}}}
    with Workers(tmp_path, config, workers=1) as workers:
        # Also without shared memory: before there is a configuration.
        workers.wait_status("/status", 200)
        found = scrape(workers.metrics_port, "/metrics")
        assert found.value("edge_gateway_agent_up") == 0
        assert found.value("edge_etcd_reachable") == 0
        assert request(workers.metrics_port, "GET", METRICS_PATH).status == 404
        assert request(workers.metrics_port, "GET", "/status").status == 404
        for port in (workers.status_port, workers.control_port):
            assert request(port, "GET", "/metrics").status == 404


def test_switched_off_there_is_no_listener(tmp_path: Path) -> None:
    config = {"plugin_attr": {"prometheus": {"enable_export_server": False}}}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.wait_status("/status", 200)
        with pytest.raises(ConnectionRefusedError):
            request(workers.metrics_port, "GET", METRICS_PATH)
