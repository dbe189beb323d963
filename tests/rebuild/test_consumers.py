"""What a worker holds of consumers: who is found, whatever came first, how much is kept, what is never held."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gw.model.keys import ResourceKey, parse_store_key
from gw.pipeline.caller import Caller
from gw.rebuild import callers, joins
from gw.rebuild.entry import CredentialEntry
from gw.rebuild.state import ConfigState
from tests.rebuild.conftest import Memory
from tests.rebuild.test_state import Held, route
from tests.support.workers import change

FIELDS = {"auth": "key", "name-auth": "user"}
Resources = Mapping[str, Mapping[str, Any] | None]


class Live:
    """An instance of any plugin. `auth` attaches consumers."""

    priority = 1

    def __init__(self, name: str, conf: Mapping[str, Any], owner: str) -> None:
        self.name, self.conf, self.owner = name, conf, owner
        self.attaches_consumers = name == "auth"
        self.closed = 0

    def rewrite(self, ctx: Any) -> None: ...

    def close(self) -> None:
        self.closed += 1


class World:
    """A state with plugins, changed resource by resource, and all instances that were ever made."""

    def __init__(self, resources: Resources = {}) -> None:  # noqa: B006
        self.made: list[Live] = []
        self.state = ConfigState("radixtree_host_uri")
        self.state.use_plugins(self._make, None, FIELDS)
        self.apply(resources)

    def _make(self, name: str, conf: Mapping[str, Any], owner: str) -> Live:
        self.made.append(Live(name, conf, owner))
        return self.made[-1]

    def apply(self, resources: Resources) -> None:
        for name, resource in resources.items():
            key = parse_store_key(name)
            assert key is not None
            for _ in self.state.update([change(*key, resource)]):
                pass

    def found(self, value: str, plugin: str = "auth") -> str | None:
        """`consumer/credential` of who shows this."""
        caller = self.state.by_credential(plugin, value)
        return None if caller is None else f"{caller.name}/{caller.credential_id}"

    def request(self, path: str, caller: Caller) -> Any:
        """A request of this consumer, after its join step."""
        handle = self.state.find(path, "a.com", "GET", None)
        assert handle is not None
        compiled = handle.resolve()
        [join] = [step for step in compiled.phases.request if step.plugin == "consumer"]
        ctx = SimpleNamespace(consumer=caller, route=compiled, state={}, _client=None)
        assert join.run(ctx) is None
        return ctx.route

    def caller(self, name: str) -> Caller:
        caller = self.state.by_name(name)
        assert caller is not None
        return caller


def consumer(name: str, key: Any = None, **fields: Any) -> dict[str, Any]:
    plugins = {"plugins": {} if key is None else {"auth": {"key": key}}}
    plugins["plugins"] |= fields.pop("plugins", {})
    return {"username": name, **plugins, **fields}


def credential(key: Any, **meta: Any) -> dict[str, Any]:
    return {"plugins": {"auth": {"key": key, **({"_meta": meta} if meta else {})}}}


class TestWhoIsFound:
    def test_by_what_its_resource_shows_to_this_plugin(self) -> None:
        world = World(
            {
                "consumers/jack": consumer("jack", "k", plugins={"name-auth": {"user": "j"}}),
                "consumers/jack/credentials/x": credential("x"),
                "consumers/rose": consumer("rose"),
                "consumers/rose/credentials/x": credential("y"),
            }
        )
        assert [world.found(key) for key in ("k", "x", "y", "j", "", "K")] == [
            *("jack/", "jack/x", "rose/x"),
            *(None, None, None),
        ]
        assert world.found("j", "name-auth") == "jack/"
        assert world.state.by_credential("auth", "\udcff") is None

    @pytest.mark.parametrize("key", ["", "$secret://vault/1/k", "$ENV://KEY", "$env://KEY", 7, None, ["k"]])
    def test_what_is_no_credential_shows_nobody(self, key: Any) -> None:
        world = World({"consumers/jack": {"username": "jack", "plugins": {"auth": {"key": key}}}})
        assert world.found(str(key)) is None
        assert world.found("") is None

    def test_what_is_switched_off_shows_nobody(self) -> None:
        world = World({"consumers/j": consumer("j"), "consumers/j/credentials/x": credential("k", disable=True)})
        assert world.found("k") is None
        world.apply({"consumers/j/credentials/x": credential("k", disable=False)})
        assert world.found("k") == "j/x"

    def test_a_credential_counts_as_long_as_its_consumer_is_there(self) -> None:
        world = World({"consumers/jack/credentials/x": credential("k")})
        assert world.found("k") is None
        world.apply({"consumers/jack": consumer("jack")})
        assert world.found("k") == "jack/x"
        before = world.state.by_credential("auth", "k")
        world.apply({"consumers/jack": consumer("jack", labels={"custom_id": "7"})})
        after = world.state.by_credential("auth", "k")
        assert before is not None
        assert after is not None
        assert (before.custom_id, after.custom_id) == ("", "7")
        world.apply({"consumers/jack": None})
        assert world.found("k") is None

    def test_another_key_counts_at_once_and_the_old_one_no_more(self) -> None:
        world = World({"consumers/j": consumer("j", "old")})
        assert world.found("old") == "j/"
        world.apply({"consumers/j": consumer("j", "new")})
        assert (world.found("old"), world.found("new")) == (None, "j/")
        world.apply({"consumers/j": None})
        assert world.found("new") is None


SAME: Resources = {
    "consumers/a": consumer("a", "k"),
    "consumers/b": consumer("b"),
    "consumers/b/credentials/x": credential("k"),
    "consumers/c": consumer("c", "k"),
}


class TestDuplicates:
    @pytest.mark.parametrize("order", list(itertools.permutations(SAME)))
    def test_the_first_by_id_counts_whatever_came_first_and_the_others_are_reported(self, order: list[str]) -> None:
        world = World({name: SAME[name] for name in order})
        assert world.found("k") == "a/"
        says = "auth: consumers/a shows the same key, and counts"
        assert {str(key): reason for key, reason in world.state.problems.items()} == {
            "consumers/b/credentials/x": says,
            "consumers/c": says,
        }
        assert world.state.problem_count == 2
        world.apply({"consumers/a": consumer("a", "other")})
        assert world.found("k") == "b/x"
        assert [str(key) for key in world.state.problems] == ["consumers/c"]
        world.apply({"consumers/b/credentials/x": None})
        assert world.found("k") == "c/"
        assert world.state.problems == {}
        world.apply({"consumers/c": None})
        assert world.found("k") is None


def test_whoever_cannot_be_read_is_let_in_by_nothing_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = CredentialEntry.decode

    def damaged(self: CredentialEntry) -> dict[str, object]:
        if self.id == "bad":
            raise ValueError("damaged")
        return decode(self)

    monkeypatch.setattr(CredentialEntry, "decode", damaged)
    world = World({"consumers/bad": consumer("bad", "b"), "consumers/good": consumer("good", "g")})
    assert (world.found("b"), world.found("g")) == (None, "good/")
    assert world.state.problems == {ResourceKey("consumers", "bad"): "cannot be read: damaged"}
    world.apply({"consumers/bad": None})
    assert world.state.problems == {}


def test_a_full_load_finds_the_same_and_keeps_what_is_unchanged(memory: Memory) -> None:
    class Loaded(Held):
        def prepare(self) -> None:
            self.state.use_plugins(Live, None, FIELDS)

    memory.publish({f"consumers/c{n}": consumer(f"c{n}", f"k{n}") for n in range(200)})
    held = Loaded(memory)
    before = held.state.by_credential("auth", "k7")
    assert before is not None
    assert before.name == "c7"
    memory.publish({"consumers/c8": None, "consumers/c9": consumer("c9", "nine")})
    held.update()
    held.load()
    assert held.state.by_credential("auth", "k7") is before, "an unchanged consumer goes on as it is"
    assert [held.state.by_credential("auth", key) for key in ("k8", "k9")] == [None, None]
    assert held.state.by_credential("auth", "nine") is not None


class TestWhatIsKept:
    def test_a_consumer_is_made_once_and_let_go_of_when_many_others_came(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(callers, "MAX_REMEMBERED", 3)
        world = World({f"consumers/c{n}": consumer(f"c{n}", f"k{n}") for n in range(5)})
        first = world.state.by_credential("auth", "k0")
        assert world.state.by_credential("auth", "k0") is first
        for number in range(1, 5):
            assert world.found(f"k{number}") == f"c{number}/"
        assert len(world.state._callers._remembered) == 3
        assert world.state.by_credential("auth", "k0") is not first

    def test_a_route_is_merged_once_per_consumer(self) -> None:
        world = World(
            {
                "routes/1": route("/1", plugins={"auth": {}}),
                "consumers/j": consumer("j", "k", plugins={"limit": {}}),
                "consumers/j/credentials/x": credential("x"),
            }
        )
        one = world.request("/1", world.caller("j"))
        by_credential = world.state.by_credential("auth", "x")
        assert by_credential is not None
        assert world.request("/1", by_credential) is one, "credentials of one consumer share what it has become"
        world.apply({"routes/2": route("/2"), "consumers/r": consumer("r")})
        assert world.request("/1", world.caller("j")) is one, "an unrelated change is no reason"
        assert [live.owner for live in world.made] == ["routes/1", "consumers/j"]

    def test_no_more_than_the_bound_and_what_is_let_go_of_is_closed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(joins, "MAX_JOINED", 4)
        names = [f"c{n}" for n in range(10)]
        world = World(
            {
                "routes/1": route("/1", plugins={"auth": {}}),
                "routes/2": route("/2", plugins={"auth": {}}),
                **{f"consumers/{name}": consumer(name, name, plugins={"limit": {}}) for name in names},
            }
        )
        for name in names:
            for path in ("/1", "/2"):
                world.request(path, world.caller(name))
                assert len(world.state._joins) <= 4
        alive = {live.owner for live in world.made if not live.closed}
        assert alive == {"routes/1", "routes/2", "consumers/c8", "consumers/c9"}
        world.request("/1", world.caller("c0"))
        assert all(live.closed <= 1 for live in world.made)
        world.state.close()
        assert all(live.closed == 1 for live in world.made)

    def test_one_consumer_over_more_routes_than_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(joins, "MAX_JOINED", 2)
        routes = {f"routes/{n}": route(f"/{n}", plugins={"auth": {}}) for n in range(6)}
        world = World({**routes, "consumers/j": consumer("j", "k", plugins={"limit": {}})})
        for number in range(6):
            assert world.request(f"/{number}", world.caller("j")).id == str(number)
            assert len(world.state._joins) <= 2


def test_a_route_without_an_auth_plugin_walks_what_it_always_did(memory: Memory) -> None:
    world = World({"routes/1": route("/1", plugins={"limit": {}}), "consumers/j": consumer("j", "k")})
    handle = world.state.find("/1", "a.com", "GET", None)
    assert handle is not None
    phases = handle.resolve().phases
    assert ([step.plugin for step in phases.request], phases.rest) == (["limit"], ())


def test_what_was_replaced_meanwhile_disturbs_no_instance_of_what_is_there_now() -> None:
    world = World(
        {
            "routes/1": route("/1", plugins={"auth": {}, "mine": {"n": 1}}),
            "consumers/j": consumer("j", "k", plugins={"limit": {"n": 1}}),
        }
    )
    old = world.caller("j")
    handle = world.state.find("/1", "a.com", "GET", None)
    assert handle is not None
    compiled = handle.resolve()
    world.apply({"consumers/j": consumer("j", "k", plugins={"limit": {"n": 2}})})
    world.apply({"routes/1": route("/1", plugins={"auth": {}, "mine": {"n": 2}})})
    new = world.request("/1", world.caller("j"))
    [join] = [step for step in compiled.phases.request if step.plugin == "consumer"]
    ctx = SimpleNamespace(consumer=old, route=compiled, state={}, _client=None)
    join.run(ctx)
    assert [step.run.__self__.conf for step in _rest(ctx.route)] == [{"n": 1}]
    assert [step.run.__self__.conf for step in _rest(new)] == [{"n": 2}]
    assert not any(step.run.__self__.closed for step in _rest(new))
    assert world.request("/1", world.caller("j")) is new


def _rest(compiled: Any) -> Iterator[Any]:
    return (step for step in compiled.phases.rest if step.plugin == "limit")
