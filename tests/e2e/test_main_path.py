"""The main job end to end: a change in the store reaches every worker, and requests go by it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


def test_make_run_serves_what_the_admin_api_was_told_and_ctrl_c_leaves_nothing(tmp_path: Path):
    gateway = Gateway(tmp_path / "gateway")
    with running_upstream() as upstream:
        with gateway.output_path.open("ab") as output:
            gateway.process = subprocess.Popen(
                ["make", "run", f"CONFIG={gateway.config_path}"],
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            gateway.wait_ready(deadline_s=60)
            assert gateway.call("/hello").status == 404
            assert gateway.call("/hello").json() == {"error_msg": "404 Route Not Found"}
            assert gateway.put_route("1", "/hello", upstream.port).status == 201
            answer = gateway.wait_served("/hello").json()
            assert answer["path"] == "/hello"
            assert answer["headers"]["x-real-ip"] == "127.0.0.1"

            assert gateway.admin("DELETE", "/routes/1").status == 200
            gateway.wait_served("/hello", status=404)

            shown = wait_until(lambda: "curl" in gateway.output() and gateway.output(), what="the greeting")
            assert f"127.0.0.1:{gateway.port}" in shown
            assert "X-API-KEY" in shown
            # Ctrl-C reaches the whole foreground group; make waits for gw start, then dies of the signal itself.
            assert gateway.stop(with_signal=signal.SIGINT, group=True) in (0, 2, -signal.SIGINT)
            assert gateway.pids() == []
            assert gateway.left_in_shm() == []
        finally:
            gateway.kill()


def test_a_generated_admin_key_is_a_file_of_ours_alone_and_works(tmp_path: Path):
    gateway = Gateway(tmp_path / "gateway", {"deployment": {"admin": {"admin_key": None}}})
    try:
        gateway.start()
        [key_file] = (gateway.directory / "data").glob("*admin*key*")
        assert key_file.stat().st_mode & 0o777 == 0o600
        key = key_file.read_text().strip()
        assert len(key) >= 32
        wait_until(lambda: str(key_file) in gateway.output(), what="the greeting to name the key's file")
        assert key not in gateway.output()
        assert gateway.admin("GET", "/routes", key=key).status == 200
        assert gateway.admin("GET", "/routes", key="edd1c9f034335f136f87ad84b625c8f1").status == 401
        gateway.stop()
    finally:
        gateway.kill()


@pytest.mark.parametrize("prefix", ["/apisix", "/bk-gateway-apisix/one"])
def test_a_route_written_with_etcds_own_client_appears_and_goes_without_a_restart(tmp_path: Path, etcd, prefix: str):
    config = {
        "deployment": {
            "role": "traditional",
            "role_traditional": {"config_provider": "etcd"},
            "etcd": {"host": [etcd.endpoint], "prefix": prefix},
        }
    }
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway", config) as gateway:
        route = '{"uri": "/from-etcd", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:%d": 1}}}'
        etcd.ctl("put", f"{prefix}/routes/1", route % upstream.port)
        assert gateway.wait_served("/from-etcd").json()["upstream"] == "upstream"
        etcd.ctl("del", f"{prefix}/routes/1")
        gateway.wait_served("/from-etcd", status=404)

        # The other way: what the Admin API writes is in etcd as APISIX writes it.
        gateway.put_route("2", "/from-admin", upstream.port)
        gateway.wait_served("/from-admin")
        assert "/from-admin" in etcd.ctl("get", f"{prefix}/routes/2", "--print-value-only")


def test_a_service_and_an_upstream_reach_the_routes_that_name_them(tmp_path: Path):
    with (
        running_upstream("a") as a,
        running_upstream("b") as b,
        running_gateway(tmp_path / "gateway") as gateway,
    ):
        nodes = {"type": "roundrobin", "nodes": {f"127.0.0.1:{a.port}": 1}}
        assert gateway.admin("PUT", "/upstreams/u", nodes).status == 201
        assert gateway.admin("PUT", "/services/s", {"upstream_id": "u"}).status == 201
        assert gateway.admin("PUT", "/routes/r", {"uri": "/x", "service_id": "s"}).status == 201
        assert gateway.wait_served("/x").json()["upstream"] == "a"

        assert (
            gateway.admin(
                "PATCH", "/upstreams/u", {"nodes": {f"127.0.0.1:{a.port}": None, f"127.0.0.1:{b.port}": 1}}
            ).status
            == 200
        )
        assert gateway.gw("status", "--wait", "10").returncode == 0
        assert {gateway.call("/x").json()["upstream"] for _ in range(20)} == {"b"}

        refused = gateway.admin("DELETE", "/upstreams/u")
        assert refused.status == 400
        assert "service" in refused.json()["error_msg"]


def test_status_tells_who_serves_what(tmp_path: Path):
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway") as gateway:
        gateway.put_route("1", "/hello", upstream.port)
        assert gateway.gw("status", "--wait", "10").returncode == 0
        status = gateway.status()
        assert status["converged"] is True
        assert len(status["workers"]) == 2
        assert {worker["version"] for worker in status["workers"]} == {status["agent"]["version"]}
        assert {worker["digest"] for worker in status["workers"]} == {status["agent"]["digest"]}
        assert status["agent"]["rejected"] == []
        assert gateway.convergence()["converged"] is True
        table = gateway.gw("status").stdout
        assert str(status["workers"][0]["pid"]) in table


def test_a_wrong_configuration_stops_the_start_with_path_reason_and_nearest_name(tmp_path: Path):
    gateway = Gateway(tmp_path / "gateway", {"gw": {"rebild": {"poll_interval_ms": 5}}})
    for command in ("test", "start"):
        done = gateway.gw(command)
        assert done.returncode != 0
        assert "gw.rebild" in done.stderr
        assert "rebuild" in done.stderr
    assert Gateway(tmp_path / "good").gw("test").returncode == 0
