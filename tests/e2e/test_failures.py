"""Nobody needs anybody to keep serving: the agent, the store, or both may die."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until


def etcd_config(url: str) -> dict[str, object]:
    return {
        "deployment": {"role_traditional": {"config_provider": "etcd"}, "etcd": {"host": [url], "prefix": "/apisix"}}
    }


class SteadyTraffic:
    """Calls a path again and again in a thread; every answer but 200 is a failure."""

    def __init__(self, gateway: Gateway, path: str) -> None:
        self.failures: list[object] = []
        self.served = 0
        self._stop = threading.Event()
        self._gateway, self._path = gateway, path
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.005):
            try:
                status = self._gateway.call(self._path).status
            except OSError as error:
                self.failures.append(error)
            else:
                self.served += 1
                if status != 200:
                    self.failures.append(status)

    def __enter__(self) -> SteadyTraffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_traffic_goes_on_while_agent_store_and_both_are_dead_and_changes_flow_again(tmp_path: Path, etcd):
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway", etcd_config(etcd.endpoint)) as gateway:
        gateway.put_route("1", "/steady", upstream.port)
        gateway.wait_served("/steady")
        versions = [gateway.convergence()["agent"]["version"]]

        def change_flows(id: str) -> None:
            def written() -> bool:
                reply = gateway.admin(
                    "PUT", f"/routes/{id}", {"uri": f"/{id}", "upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}
                )
                return reply.status in (200, 201)

            wait_until(written, what="the Admin API to take writes again")
            gateway.wait_served(f"/{id}")
            versions.append(gateway.convergence()["agent"]["version"])

        with SteadyTraffic(gateway, "/steady") as traffic:
            agent = gateway.agent_pid()
            os.kill(agent, signal.SIGKILL)
            refused = gateway.admin("GET", "/routes")
            assert refused.status in (200, 503)  # 200 when the new agent was quicker than we
            wait_until(lambda: gateway.agent_pid() != agent, what="a new agent")
            change_flows("after-agent")

            etcd.kill()
            refused = gateway.admin("PUT", "/routes/x", {"uri": "/x", "upstream": {"nodes": {"127.0.0.1:1": 1}}})
            assert refused.status == 503
            assert "error_msg" in refused.json()
            etcd.start()
            change_flows("after-store")

            etcd.kill()
            os.kill(gateway.agent_pid(), signal.SIGKILL)
            served = traffic.served
            wait_until(lambda: traffic.served > served + 50, what="traffic with both dead")
            etcd.start()
            change_flows("after-both")
        assert traffic.failures == []
        assert traffic.served > 100
        assert versions == sorted(set(versions)), "versions only grow"


def test_a_start_with_the_store_down_serves_the_last_good_configuration(tmp_path: Path, etcd):
    gateway = Gateway(tmp_path / "gateway", etcd_config(etcd.endpoint))
    with running_upstream() as upstream:
        try:
            gateway.start()
            gateway.put_route("1", "/kept", upstream.port)
            gateway.wait_served("/kept")
            before = gateway.convergence()["agent"]["version"]
            gateway.stop()
            assert gateway.left_in_shm() == []

            etcd.kill()
            gateway.start()
            assert gateway.call("/kept").status == 200
            status = gateway.status()
            assert status["agent"]["version"] >= before
            assert status["agent"]["state"] != "watching"

            etcd.start()
            etcd.ctl("del", "/apisix/routes/1")
            gateway.wait_served("/kept", status=404)
            gateway.stop()
        finally:
            gateway.kill()


def test_a_worker_that_dies_is_replaced_and_catches_up(tmp_path: Path):
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway") as gateway:
        gateway.put_route("1", "/hello", upstream.port)
        gateway.wait_served("/hello")
        victim = gateway.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)

        def replaced() -> bool:
            status = gateway.convergence()
            alive = [worker["pid"] for worker in status["workers"] if worker["alive"]]
            return len(alive) == 2 and victim not in alive and status["converged"]

        wait_until(replaced, what="a new worker that has caught up")
        gateway.wait_served("/hello")


def test_garbage_in_the_store_is_reported_and_harms_nothing_else(tmp_path: Path, etcd):
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway", etcd_config(etcd.endpoint)) as gateway:
        gateway.put_route("good", "/good", upstream.port)
        gateway.put_route("kept", "/kept", upstream.port)
        gateway.wait_served("/kept")
        garbage = {
            "routes/kept": "{not json",
            "routes/type": '{"uri": 7}',
            "routes/list": "[1, 2]",
            "routes/null": "null",
            "routes/deep": "[" * 100_000,
            "routes/unknown": '{"uri": "/u", "no_such_field": 1, "upstream": {"nodes": {"127.0.0.1:1": 1}}}',
            "routes/a/b": '{"uri": "/slash", "upstream": {"nodes": {"127.0.0.1:1": 1}}}',
            "upstreams/huge-number": '{"nodes": {"127.0.0.1:1": 99999999999999999999999}}',
        }
        for key, value in garbage.items():
            etcd.put(f"/apisix/{key}", value)
        etcd.put("/apisix/routes/large", '{"uri": "/large", "desc": "%s"}' % ("x" * 2_000_000))
        etcd.put("/apisix/routes/", "init_dir")
        etcd.put("/apisix/consumers/", "init_dir")

        def all_reported() -> bool:
            reported = {f"{r['kind']}/{r['id']}" for r in gateway.convergence()["agent"]["rejected"]}
            return reported == {*garbage, "routes/large"}

        wait_until(all_reported, what="each bad resource to be reported")
        rejected = {r["id"]: r for r in gateway.status()["agent"]["rejected"]}
        assert "uri" in rejected["type"]["reason"]
        assert "JSON" in rejected["kept"]["reason"]
        assert "bytes" in rejected["large"]["reason"]

        # The last good value is still served, and a change behind the garbage gets through.
        assert gateway.call("/kept").status == 200
        gateway.put_route("behind", "/behind", upstream.port)
        gateway.wait_served("/behind")

        # Mended, it is served and no longer reported.
        etcd.ctl("del", "/apisix/routes/type")
        gateway.put_route("kept", "/mended", upstream.port)
        gateway.wait_served("/mended")
        left = {r["id"] for r in gateway.status()["agent"]["rejected"]}
        assert "kept" not in left
        assert "type" not in left
