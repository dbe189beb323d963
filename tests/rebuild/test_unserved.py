"""A route that asks for what this version does not do yet is never served as if it had not asked."""

from __future__ import annotations

from typing import Any

import pytest

from gw.model.keys import ResourceKey
from gw.model.merge import Missing
from gw.pipeline.upstream import UpstreamRuntime
from tests.rebuild.conftest import Memory
from tests.rebuild.test_state import Held, route


@pytest.mark.parametrize(
    ("resource", "named"),
    [
        ({"uri": "/x", "script": "return nothing", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}, "script"),
        (route("/x", vars=[["no_such_variable", "==", "1"]]), "vars"),
        (route("/x", filter_func="lambda vars: True"), "filter_func"),
        (route("/x", plugins={"jwt-auth": {}}), "plugin jwt-auth"),
        ({"uri": "/x", "service_id": "guarded"}, "plugin jwt-auth"),
        (route("/x", plugin_config_id="guarded"), "plugin jwt-auth of plugin_configs/guarded"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_answers_500_for_itself_alone_and_is_reported(memory: Memory, resource: dict[str, Any], named: str):
    guarded = {"plugins": {"jwt-auth": {}}, "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
    memory.publish(
        {
            "routes/x": resource,
            "routes/good": route("/good"),
            "services/guarded": guarded,
            "plugin_configs/guarded": {"plugins": {"jwt-auth": {}}},
        }
    )
    held = Held(memory)
    found = held.upstream_at("/x")
    assert isinstance(found, Missing)
    assert found.status == 500
    assert named in held.state.problems[ResourceKey("routes", "x")]
    assert isinstance(held.upstream_at("/good"), UpstreamRuntime)


@pytest.mark.parametrize("plugins", [{}, {"jwt-auth": {"_meta": {"disable": True}}}])
def test_no_plugin_or_one_switched_off_keeps_nobody_out(memory: Memory, plugins: dict[str, Any]):
    memory.publish({"routes/x": route("/x", plugins=plugins)})
    held = Held(memory)
    assert isinstance(held.upstream_at("/x"), UpstreamRuntime)
    assert held.state.problems == {}


def test_a_scheme_that_is_not_supported_yet_is_reported(memory: Memory):
    memory.publish({"routes/x": route("/x", upstream={"scheme": "grpc", "nodes": {"127.0.0.1:1980": 1}})})
    held = Held(memory)
    assert isinstance(held.upstream_at("/x"), UpstreamRuntime)
    assert "grpc" in held.state.problems[ResourceKey("routes", "x")]
