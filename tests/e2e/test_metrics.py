"""What Prometheus sees of a whole gateway."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.support.gateway import running_gateway
from tests.support.metrics import scrape
from tests.support.waiting import wait_until


def test_the_agent_the_store_and_a_change(tmp_path: Path) -> None:
    with running_gateway(tmp_path / "gateway") as gateway:
        url = f"http://127.0.0.1:{gateway.metrics_port}/apisix/prometheus/metrics\n"
        wait_until(lambda: url in gateway.output(), what="the greeting to name the metrics listener")
        # The state that the agent publishes with its heartbeat may be a beat behind.
        wait_until(
            lambda: scrape(gateway.metrics_port).value("apisix_etcd_reachable") == 1, what="the store to be followed"
        )
        before = scrape(gateway.metrics_port)
        gateway.apply({"routes_1": {"uri": "/1", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1": 1}}}})
        after = scrape(gateway.metrics_port)

        state = gateway.convergence()
        assert after.value("apisix_gateway_agent_up") == 1
        assert after.value("apisix_gateway_config_version") == state["agent"]["version"]
        assert after.value("apisix_etcd_modify_indexes", key="max_modify_index") == state["agent"]["revision"]
        for name in ("updates_total", "config_version", "config_revision", "resources"):
            full_name = f"apisix_gateway_worker_{name}"
            old, new = before.by_worker(full_name), after.by_worker(full_name)
            assert sorted(new) == [0, 1]
            assert all(new[index] > old[index] for index in new), name

        agent = gateway.agent_pid()
        os.kill(agent, signal.SIGSTOP)
        try:
            wait_until(
                lambda: scrape(gateway.metrics_port).value("apisix_etcd_reachable") == 0,
                what="an agent that stands still not to count as watching",
            )
            assert scrape(gateway.metrics_port).value("apisix_gateway_agent_up") == 1
        finally:
            os.kill(agent, signal.SIGCONT)
        wait_until(
            lambda: scrape(gateway.metrics_port).value("apisix_etcd_reachable") == 1, what="the agent to go on watching"
        )
