"""Which plugins a worker's routes run, with which instances, and how long those live."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from gw.model.keys import ResourceKey
from gw.model.merge import Missing
from gw.pipeline.phases import NO_PHASES, Phases
from gw.pipeline.upstream import UpstreamRuntime
from tests.rebuild.conftest import Memory
from tests.rebuild.test_state import Held, route

PRIORITIES = {"low": 1, "mid": 5, "high": 9}


class Live:
    """An instance that notes what becomes of it."""

    def __init__(self, name: str, conf: Mapping[str, Any], owner: str) -> None:
        if conf.get("fails"):
            raise ValueError("no database")
        self.name, self.conf, self.owner = name, conf, owner
        self.priority = PRIORITIES[name]
        self.closed = 0

    def rewrite(self, ctx: Any) -> None: ...

    def close(self) -> None:
        self.closed += 1
        if self.conf.get("fails_at_close"):
            raise OSError("gone")


class Running(Held):
    """A state with plugins, and all instances that were ever made."""

    def __init__(self, memory: Memory, compile_filter: Any = None) -> None:
        self.tried: list[str] = []
        self.made: list[Live] = []
        self._compile_filter = compile_filter
        super().__init__(memory)

    def prepare(self) -> None:
        self.state.use_plugins(self._make, self._compile_filter)

    def _make(self, name: str, conf: Mapping[str, Any], owner: str) -> Live:
        self.tried.append(name)
        self.made.append(Live(name, conf, owner))
        return self.made[-1]

    def phases(self, path: str) -> Phases:
        handle = self.state.find(path, "a.com", "GET", None)
        assert handle is not None
        return handle.resolve().phases

    def ran(self, path: str) -> list[str]:
        return ran(self.phases(path))

    def alive(self) -> list[str]:
        return sorted(f"{live.name} of {live.owner}" for live in self.made if not live.closed)


def ran(phases: Phases) -> list[str]:
    return [f"{step.plugin} of {step.owner}" for step in phases.request]


def rule(**plugins: Any) -> dict[str, Any]:
    return {"plugins": plugins}


def test_the_plugins_of_all_layers_in_their_order_after_the_global_rules(memory: Memory):
    memory.publish(
        {
            "routes/1": {"uri": "/1", "service_id": "s", "plugin_config_id": "c", "plugins": {"mid": {}}},
            "routes/2": route("/2", plugins={"low": {"_meta": {"priority": 100}}, "high": {}}),
            "routes/3": route("/3"),
            "services/s": {"upstream": {"nodes": {"127.0.0.1:1": 1}}, "plugins": {"low": {}, "mid": {}}},
            "plugin_configs/c": {"plugins": {"high": {}, "low": {"_meta": {"disable": True}}}},
            "global_rules/b": rule(low={}),
            "global_rules/a": rule(mid={}),
        }
    )
    held = Running(memory)
    globals_ = ["mid of global_rules/a", "low of global_rules/b"]
    assert held.ran("/1") == [*globals_, "high of plugin_configs/c", "mid of routes/1"]
    assert held.ran("/2") == [*globals_, "low of routes/2", "high of routes/2"]
    assert held.ran("/3") == globals_
    assert ran(held.state.unmatched()) == globals_
    assert held.phases("/3") is held.state.unmatched(), "one chain for all that add nothing to it"


def test_what_has_no_plugins_walks_nothing(memory: Memory):
    memory.publish({"routes/1": route("/1")})
    held = Running(memory)
    assert held.phases("/1") is NO_PHASES
    assert held.state.unmatched() is NO_PHASES


def test_instances_live_on_through_every_change_but_their_own(memory: Memory):
    memory.publish(
        {
            "routes/1": {"uri": "/1", "service_id": "s", "plugins": {"mid": {"n": 1}}},
            "services/s": {"upstream": {"nodes": {"127.0.0.1:1": 1}}, "plugins": {"low": {}}},
            "global_rules/g": rule(high={}),
        }
    )
    held = Running(memory)
    before = ["high of global_rules/g", "low of services/s", "mid of routes/1"]
    assert sorted(held.ran("/1")) == before
    made = list(held.made)
    for change in (
        {"routes/1": {"uri": "/1", "desc": "x", "service_id": "s", "plugins": {"mid": {"n": 1}}}},
        {"routes/1": {"uri": "/1", "service_id": "s", "plugins": {"mid": {"n": 1, "_meta": {"priority": 7}}}}},
        {"services/s": {"name": "x", "upstream": {"nodes": {"127.0.0.1:2": 1}}, "plugins": {"low": {}}}},
        {"global_rules/g": rule(high={}) | {"create_time": 7}, "routes/2": route("/2")},
    ):
        memory.publish(change)
        held.update()
        assert sorted(held.ran("/1")) == before
    held.load()
    assert sorted(held.ran("/1")) == before
    assert held.made == made
    assert held.alive() == before

    memory.publish({"routes/1": {"uri": "/1", "service_id": "s", "plugins": {"mid": {"n": 2}}}})
    held.update()
    held.ran("/1")
    assert held.alive() == before
    assert [live.conf for live in held.made if live.closed] == [{"n": 1}]
    assert len(held.made) == 4


def test_all_routes_of_a_service_share_its_instances(memory: Memory):
    memory.publish(
        {
            **{f"routes/{id}": {"uri": f"/{id}", "service_id": "s"} for id in "12"},
            "services/s": {"upstream": {"nodes": {"127.0.0.1:1": 1}}, "plugins": {"low": {}}},
        }
    )
    held = Running(memory)
    assert held.phases("/1").request[0].run.__self__ is held.phases("/2").request[0].run.__self__
    assert len(held.made) == 1


@pytest.mark.parametrize("full", [False, True], ids=["update", "rebuild"])
@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"routes/1": None}, []),
        ({"routes/1": route("/1")}, []),
        ({"routes/1": route("/1", plugins={"low": {"_meta": {"disable": True}}, "mid": {}})}, ["mid of routes/1"]),
        ({"routes/1": route("/1", plugins={"low": {"n": 2}, "mid": {}})}, ["mid of routes/1"]),
        ({"routes/2": route("/2")}, ["low of routes/1", "mid of routes/1"]),
    ],
)
def test_what_nothing_configures_any_more_is_closed_without_being_asked_for(
    memory: Memory, change: dict[str, Any], left: list[str], full: bool
):
    memory.publish({"routes/1": route("/1", plugins={"low": {"fails_at_close": True}, "mid": {}})})
    held = Running(memory)
    held.ran("/1")
    memory.publish(change)
    if full:
        held.load()
    else:
        held.update()
    assert held.alive() == left
    assert all(live.closed <= 1 for live in held.made)


def test_a_changed_parent_reaches_its_routes_without_a_walk(memory: Memory):
    memory.publish(
        {
            "routes/1": route("/1", plugin_config_id="c"),
            "routes/2": route("/2"),
            "plugin_configs/c": {"plugins": {"low": {}}},
        }
    )
    held = Running(memory)
    other = held.phases("/2")
    assert held.ran("/1") == ["low of plugin_configs/c"]
    memory.publish({"plugin_configs/c": {"plugins": {"mid": {}}}})
    assert held.update() == 1
    assert held.ran("/1") == ["mid of plugin_configs/c"]
    assert held.phases("/2") is other
    memory.publish({"global_rules/g": rule(high={})})
    assert held.update() == 1
    assert held.ran("/1") == ["high of global_rules/g", "mid of plugin_configs/c"]
    assert ran(held.state.unmatched()) == ["high of global_rules/g"]
    memory.publish({"global_rules/g": None})
    held.update()
    assert held.ran("/2") == []
    assert held.alive() == ["mid of plugin_configs/c"]


def test_the_chain_of_the_global_rules_is_made_once_per_change_of_one(memory: Memory):
    memory.publish({"global_rules/g": rule(high={}), "routes/1": route("/1")})
    held = Running(memory)
    chain, compiled = held.state.unmatched(), held.phases("/1")
    memory.publish({"routes/2": route("/2"), "services/s": {}, "plugin_configs/c": {"plugins": {}}})
    held.update()
    held.load()
    assert held.state.unmatched() is chain is held.phases("/1") is compiled is held.phases("/2")


def test_a_missing_plugin_config_is_503_and_heals(memory: Memory):
    bound = route("/1", plugin_config_id="c", plugins={"low": {}})
    memory.publish({"routes/1": bound, "global_rules/g": rule(high={})})
    held = Running(memory)
    assert held.upstream_at("/1") == Missing(503, "failed to fetch plugin config by id: c")
    assert held.ran("/1") == ["high of global_rules/g"], "no plugin of the route before that"
    memory.publish({"plugin_configs/c": {"plugins": {"mid": {}}}})
    held.update()
    assert isinstance(held.upstream_at("/1"), UpstreamRuntime)
    assert held.state.problems == {}


def test_plugins_run_where_only_the_upstream_is_missing(memory: Memory):
    """One of them may answer by itself."""
    memory.publish({"routes/1": {"uri": "/1", "upstream_id": "u", "plugins": {"low": {}}}})
    held = Running(memory)
    assert held.upstream_at("/1") == Missing(502, "failed to find upstream by id: u")
    assert held.ran("/1") == ["low of routes/1"]


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ({"absent": {}}, "plugin absent of routes/1 cannot be used: KeyError"),
        ({"low": {"fails": 1}}, "plugin low of routes/1 cannot be used: ValueError: no database"),
        ({"low": {"_meta": {"filter": [["arg_a", "==", "1"]]}}}, "_meta.filter is not supported yet"),
        ({"low": {"_meta": {"pre_function": "x"}}}, "_meta.pre_function is not supported yet"),
    ],
)
def test_a_plugin_that_cannot_run_is_never_left_out(memory: Memory, plugins: dict[str, Any], said: str):
    memory.publish({"routes/1": route("/1", plugins=plugins), "routes/2": route("/2")})
    held = Running(memory)
    found = held.upstream_at("/1")
    assert isinstance(found, Missing)
    assert found.status == 500
    assert said in held.state.problems[ResourceKey("routes", "1")]
    assert isinstance(held.upstream_at("/2"), UpstreamRuntime)

    off = {name: conf | {"_meta": {"disable": True}} for name, conf in plugins.items()}
    memory.publish({"routes/1": route("/1", plugins=off)})
    held.update()
    assert isinstance(held.upstream_at("/1"), UpstreamRuntime)
    assert held.state.problems == {}


def test_a_configuration_that_failed_is_not_tried_for_every_request(memory: Memory):
    memory.publish({"routes/1": route("/1", plugins={"low": {"fails": 1}})})
    held = Running(memory)
    for number in range(3):
        held.upstream_at("/1")
        memory.publish({"routes/1": route("/1", desc=str(number), plugins={"low": {"fails": 1}})})
        held.update()
    assert held.tried == ["low"]


@pytest.mark.parametrize("plugins", [{"absent": {}}, {"low": {"fails": 1}}, {"low": {"_meta": {"filter": []}}}])
def test_a_global_rule_that_cannot_run_lets_nobody_pass(memory: Memory, plugins: dict[str, Any]):
    memory.publish({"global_rules/g": {"plugins": plugins}, "global_rules/h": rule(high={}), "routes/1": route("/1")})
    held = Running(memory)
    for phases in (held.state.unmatched(), held.phases("/1")):
        reply = phases.request[0].run(None)
        assert reply.status == 500
    assert ResourceKey("global_rules", "g") in held.state.problems
    assert ResourceKey("routes", "1") not in held.state.problems
    memory.publish({"global_rules/g": rule(low={})})
    held.update()
    assert held.ran("/1") == ["high of global_rules/h", "low of global_rules/g"]
    assert held.state.problems == {}


def test_filters_are_compiled_once_where_they_are_understood(memory: Memory):
    compiled: list[Any] = []

    def compile_filter(expression: Any) -> Any:
        if expression == ["nonsense"]:
            raise ValueError("no such operator")
        compiled.append(expression)
        return lambda ctx: True

    memory.publish(
        {
            "routes/1": route("/1", plugins={"low": {"_meta": {"filter": [["a"]]}}}),
            "routes/2": route("/2", plugins={"low": {"_meta": {"filter": ["nonsense"]}}}),
        }
    )
    held = Running(memory, compile_filter)
    assert held.ran("/1") == held.ran("/1") == ["low of routes/1"]
    assert compiled == [[["a"]]]
    assert isinstance(held.upstream_at("/2"), Missing)
    assert "no such operator" in held.state.problems[ResourceKey("routes", "2")]


@pytest.mark.parametrize("was_settled", [True, False])
def test_a_request_that_still_holds_a_replaced_route_disturbs_no_instance(memory: Memory, was_settled: bool):
    memory.publish({"routes/1": route("/1", plugins={"low": {"n": 1}})})
    held = Running(memory)
    handle = held.state.find("/1", "a.com", "GET", None)
    assert handle is not None
    if was_settled:
        handle.resolve()
    memory.publish({"routes/1": route("/1", plugins={"low": {"n": 2}}), "global_rules/g": rule(high={})})
    held.update()
    [*_, new] = held.phases("/1").request
    [*_, old] = handle.resolve().phases.request
    assert (new.run.__self__.conf, old.run.__self__.conf) == ({"n": 2}, {"n": 1})
    assert not new.run.__self__.closed
    memory.publish({"routes/1": None})
    held.update()
    assert handle.resolve().phases.request[-1].run.__self__.conf == {"n": 1}
    assert new.run.__self__.closed == 1


def test_metadata_is_what_it_is_now(memory: Memory):
    memory.publish({"plugin_metadata/low": {"id": "low", "log_format": {"a": "$b"}}})
    held = Running(memory)
    assert held.state.metadata("low") == {"log_format": {"a": "$b"}}
    assert held.state.metadata("mid") == {}
    memory.publish({"plugin_metadata/low": {"limit": 3}})
    held.update()
    assert held.state.metadata("low") == {"limit": 3}
    memory.publish({"plugin_metadata/low": None})
    held.update()
    assert held.state.metadata("low") == {}


def test_at_the_end_all_are_closed_once(memory: Memory):
    memory.publish({"routes/1": route("/1", plugins={"low": {}, "mid": {}}), "global_rules/g": rule(high={})})
    held = Running(memory)
    held.ran("/1")
    held.state.close()
    assert [live.closed for live in held.made] == [1, 1, 1]
    held.state.close()
    assert [live.closed for live in held.made] == [1, 1, 1]
