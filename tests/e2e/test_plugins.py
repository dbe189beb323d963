"""A third party's plugin in a whole gateway: judged by its schema, and not run where credentials are known."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.test_failures import etcd_config
from tests.support.etcd import Etcd, has_etcd
from tests.support.gateway import Gateway, running_gateway
from tests.support.packages import install_greeting
from tests.support.stores import SqliteBackend
from tests.support.waiting import wait_until

ENABLED = {"plugins": ["greeting", "forward-auth", "not-installed"]}


class Place(NamedTuple):
    """A gateway whose Python has the plugin `greeting`. `put` writes to its store, past the Admin API."""

    gateway: Gateway
    put: Callable[[str, str], Any]
    traces: Path


@pytest.fixture(params=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "etcd" and not has_etcd():
        pytest.skip("no etcd is installed")
    traces = install_greeting(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    with ExitStack() as stack:
        etcd = stack.enter_context(Etcd(tmp_path)) if request.param == "etcd" else None
        config = ENABLED if etcd is None else etcd_config(etcd.endpoint) | ENABLED
        gateway = stack.enter_context(running_gateway(tmp_path / "gateway", config))
        sqlite = SqliteBackend(gateway.directory / "data")
        put = sqlite.put if etcd is None else lambda key, value: etcd.put(f"/apisix/{key}", value)
        yield Place(gateway, put, traces)


def route(**plugins: Any) -> dict[str, Any]:
    return {"uri": "/hello", "upstream": {"nodes": {"127.0.0.1:1": 1}}, "plugins": plugins}


def rejected(gateway: Gateway) -> dict[str, Any]:
    return {f"{each['kind']}/{each['id']}": each for each in gateway.status()["agent"]["rejected"]}


def test_the_agent_judges_it_and_imports_nothing_of_it(place: Place):
    gateway = place.gateway
    refused = gateway.admin("PUT", "/routes/1", route(greeting={"text": "x"}))
    assert (refused.status, refused.json()) == (
        400,
        {
            "error_msg": "failed to check the configuration of plugin greeting err: "
            'property "text" validation failed: string too short, expected at least 2, got 1'
        },
    )
    for name in ("not-installed", "http-logger", "nobody"):
        refused = gateway.admin("PUT", "/routes/1", route(**{name: {}}))
        assert refused.json() == {"error_msg": f"unknown plugin [{name}]"}
    assert gateway.admin("PUT", "/routes/1", route(greeting={"text": "hello"})).status == 201
    assert gateway.admin("PUT", "/plugin_metadata/greeting", {"language": "fr"}).status == 201
    assert gateway.admin("PUT", "/plugin_metadata/greeting", {"language": 7}).status == 400
    assert "plugin not-installed is not installed" in gateway.output()

    assert (place.traces / "schemas" / "greeting.json").exists()
    assert not (place.traces / f"imported-by-{gateway.agent_pid()}").exists()


def test_past_the_admin_api_the_last_good_value_stays_and_unknown_plugins_lose_nothing(place: Place):
    gateway = place.gateway
    gateway.apply({"routes_1": route(greeting={"text": "hello"})})
    place.put("routes/1", json.dumps(route(greeting={"text": 7})))
    place.put("routes/2", json.dumps(route(nobody={"text": 7}) | {"uri": "/guarded"}))
    place.put("plugin_configs/1", json.dumps({"plugins": {"greeting": {}}}))
    place.put("global_rules/1", json.dumps({"plugins": {"forward-auth": {"uri": 7}}}))
    place.put("plugin_metadata/greeting", json.dumps({"language": 7}))
    told = wait_until(lambda: len(rejected(gateway)) == 4 and rejected(gateway), what="four refusals")
    assert set(told) == {"routes/1", "plugin_configs/1", "global_rules/1", "plugin_metadata/greeting"}
    assert [name for name, each in told.items() if each["serves_last_good"]] == ["routes/1"]
    assert told["routes/1"]["reason"].startswith("plugins.greeting.text: failed to check the configuration of plugin")
    # Published, and answered 500 by whoever has no such plugin.
    gateway.wait_served("/guarded", status=500)
    assert not (place.traces / f"imported-by-{gateway.agent_pid()}").exists()


def test_gw_plugins_and_gw_test_know_it(place: Place):
    shown = {plugin["name"]: plugin for plugin in json.loads(place.gateway.gw("plugins", "--json").stdout)}
    assert (shown["greeting"]["priority"], shown["greeting"]["problem"]) == (10, None)
    assert shown["not-installed"]["problem"] == "is not installed"
    done = place.gateway.gw("test")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning: plugin not-installed is not installed" in done.stdout


def test_two_packages_with_one_name_stop_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for package in ("jwtest_one", "jwtest_two"):
        install_greeting(tmp_path / "site", package)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    gateway = Gateway(tmp_path / "gateway", {"plugins": ["greeting"]})
    for command, code in (("test", 1), ("start", 78), ("serve", 78)):
        done = gateway.gw(command)
        assert done.returncode == code
        assert "two plugins are called greeting" in done.stderr
    with gateway.output_path.open("ab") as output:
        agent = subprocess.run(
            [sys.executable, "-m", "sync_agent", "-c", str(gateway.config_path)], stderr=output, timeout=60
        )
    assert agent.returncode == 78
    assert "two plugins are called greeting" in gateway.output()
