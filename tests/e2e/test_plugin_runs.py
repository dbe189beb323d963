"""A third party's plugin at work in the workers of a whole gateway."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.gateway import NO_ROUTE, Gateway, running_gateway
from tests.support.packages import GREETING, install, install_greeting
from tests.support.upstream import running_upstream


def test_it_runs_where_it_is_configured_and_never_in_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    traces = install_greeting(tmp_path / "site")
    broken = GREETING.replace("greeting", "broken").replace("Greeting", "Broken") + (
        "    def prepare(self) -> None:\n        raise ValueError('no such database')\n"
    )
    files = {"jwtest_broken/plug.py": broken, "jwtest_broken/schemas/broken.json": {}}
    install(tmp_path / "site", "jwtest-broken", {"broken": "jwtest_broken.plug:Broken"}, files)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "gateway", {"plugins": ["greeting", "broken"]}) as gateway,
    ):
        nodes = {"upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}
        gateway.apply(
            {
                "services_s": nodes | {"plugins": {"greeting": {"text": "of the service"}}},
                "routes_1": {"uri": "/1", "service_id": "s"},
                "routes_2": {"uri": "/2", "service_id": "s", "plugins": {"greeting": {"text": "of the route"}}},
                "routes_3": {"uri": "/3", "service_id": "s", "plugins": {"greeting": off()}},
                "routes_4": {"uri": "/4", "plugins": {"broken": {}}} | nodes,
            }
        )
        assert [greeting(gateway, path) for path in ("/1", "/2", "/3", "/4", "/none")] == [
            *((200, "of the service"), (200, "of the route"), (200, None), (500, None), (404, None)),
        ]
        gateway.apply({"services_s": nodes | {"plugins": {"greeting": {"text": "changed"}}}})
        assert [greeting(gateway, path) for path in ("/1", "/2")] == [(200, "changed"), (200, "of the route")]
        gateway.apply({"global_rules_g": {"plugins": {"greeting": {"text": "of all"}}}})
        assert greeting(gateway, "/none") == (404, "of all")
        assert greeting(gateway, "/3") == (200, "of all")
        assert gateway.call("/none").body == NO_ROUTE
        gateway.apply({"global_rules_h": {"plugins": {"broken": {}}}})
        assert {gateway.call(path).status for path in ("/1", "/none")} == {500}
        problems = sum(worker["problems"] for worker in gateway.status()["workers"])
        assert problems > 0

        imported = {int(trace.name.removeprefix("imported-by-")) for trace in traces.glob("imported-by-*")}
        assert imported == set(gateway.worker_pids())
        assert os.getpid() not in imported
        assert gateway.agent_pid() not in imported


def off() -> dict[str, object]:
    return {"text": "never", "_meta": {"disable": True}}


def greeting(gateway: Gateway, path: str) -> tuple[int, str | None]:
    reply = gateway.call(path)
    return reply.status, reply.headers.get("x-greeting")
