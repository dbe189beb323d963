"""The state of one worker, fed from real shared memory: what is found, what is kept, what is made anew."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gw.model.digest import encode_resource
from gw.model.keys import ResourceKey
from gw.model.merge import NO_UPSTREAM, Missing
from gw.pipeline.upstream import UpstreamRuntime
from gw.rebuild.state import ConfigState
from gw.shm.log import Change
from tests.rebuild.conftest import Memory


def route(uri: str, **more: Any) -> dict[str, Any]:
    return {"uri": uri, "upstream": {"nodes": {"127.0.0.1:1980": 1}}, **more}


class Held:
    """A state that follows shared memory when told to."""

    def __init__(self, memory: Memory, mode: str = "radixtree_host_uri") -> None:
        self.memory = memory
        self.state = ConfigState(mode)
        self.prepare()
        self.load()

    def prepare(self) -> None:
        """For who gives it plugins."""

    def load(self) -> None:
        loaded = self.memory.reader.load()

        def steps() -> Iterator[None]:
            left = yield from self.state.rebuild(loaded)
            yield from left

        for _ in steps():
            pass
        self.cursor = loaded.cursor
        assert self.state.digest == loaded.slot.digest

    def update(self) -> int:
        """Apply what the log has; in how many steps."""
        changes = self.memory.reader.changes(self.cursor)
        assert changes is not None
        steps = sum(1 for _ in self.state.update(changes.changes))
        self.cursor = changes.cursor
        assert self.state.digest == changes.slot.digest
        return steps

    def id_at(self, path: str, host: str = "a.com") -> str | None:
        handle = self.state.find(path, host, "GET", None)
        return None if handle is None else handle.resolve().id

    def upstream_at(self, path: str) -> UpstreamRuntime | Missing:
        handle = self.state.find(path, "a.com", "GET", None)
        assert handle is not None
        return handle.resolve().upstream


def test_a_full_load_serves_routes_with_their_parents(memory: Memory):
    memory.publish(
        {
            "routes/own": route("/own"),
            "routes/by-id": {"uri": "/by-id", "upstream_id": "u"},
            "routes/by-service": {"uri": "/by-service", "service_id": "s"},
            "services/s": {"upstream_id": "u"},
            "upstreams/u": {"nodes": {"127.0.0.1:1981": 1}},
        }
    )
    held = Held(memory)
    assert len(held.state) == 5
    assert [held.id_at(path) for path in ("/own", "/by-id", "/by-service", "/none")] == [
        *("own", "by-id", "by-service", None)
    ]
    assert held.upstream_at("/by-id") is held.upstream_at("/by-service"), "one upstream takes turns as one"


def test_updates_put_move_and_delete(memory: Memory):
    memory.publish({"routes/1": route("/one")})
    held = Held(memory)
    memory.publish({"routes/2": route("/two")})
    memory.publish({"routes/1": route("/moved")})
    held.update()
    assert [held.id_at(path) for path in ("/one", "/moved", "/two")] == [None, "1", "2"]
    memory.publish({"routes/1": None, "routes/absent": None})
    held.update()
    assert [held.id_at(path) for path in ("/moved", "/two")] == [None, "2"]
    assert len(held.state) == 1


def test_an_empty_configuration_is_a_configuration(memory: Memory):
    memory.publish({})
    held = Held(memory)
    assert held.id_at("/") is None
    assert held.state.digest == 0


def test_a_route_switched_off_is_held_and_not_served(memory: Memory):
    memory.publish({"routes/1": route("/one", status=0)})
    held = Held(memory)
    assert held.id_at("/one") is None
    assert len(held.state) == 1
    memory.publish({"routes/1": route("/one", status=1)})
    held.update()
    assert held.id_at("/one") == "1"


def test_parameters_of_the_path_come_with_the_handle(memory: Memory):
    memory.publish({"routes/1": route("/user/:name/posts")})
    held = Held(memory, "radixtree_uri_with_parameter")
    handle = held.state.find("/user/jo/posts", "", "GET", None)
    assert handle is not None
    assert handle.params == {"name": "jo"}
    assert handle.resolve().id == "1"


def test_the_balancer_of_an_upstream_survives_every_change_but_its_own(memory: Memory):
    memory.publish(
        {
            "routes/1": {"uri": "/1", "service_id": "s"},
            "routes/2": route("/2"),
            "services/s": {"upstream": {"nodes": {"127.0.0.1:1981": 1}}},
            "upstreams/u": {"nodes": {"127.0.0.1:1982": 1}},
        }
    )
    held = Held(memory)
    of_service, of_route = held.upstream_at("/1"), held.upstream_at("/2")
    memory.publish({"routes/3": route("/3"), "upstreams/u": {"nodes": {"127.0.0.1:1983": 1}}})
    memory.publish({"services/s": {"name": "new", "upstream": {"nodes": {"127.0.0.1:1981": 1}}}})
    memory.publish({"routes/2": route("/2", desc="new", priority=7)})
    held.update()
    assert (held.upstream_at("/1"), held.upstream_at("/2")) == (of_service, of_route)
    held.load()
    assert (held.upstream_at("/1"), held.upstream_at("/2")) == (of_service, of_route)
    memory.publish({"services/s": {"upstream": {"nodes": {"127.0.0.1:1999": 1}}}})
    held.update()
    assert held.upstream_at("/1") is not of_service
    assert held.upstream_at("/2") is of_route


def test_a_settled_route_is_compiled_again_only_for_another_parent(memory: Memory):
    memory.publish({"routes/1": {"uri": "/1", "upstream_id": "u"}, "upstreams/u": {"nodes": {"127.0.0.1:1981": 1}}})
    held = Held(memory)
    handle = held.state.find("/1", "", "GET", None)
    assert handle is not None
    compiled = handle.resolve()
    assert handle.resolve() is compiled
    memory.publish({"upstreams/other": {"nodes": {"127.0.0.1:1": 1}}, "routes/2": route("/2")})
    held.update()
    assert handle.resolve() is compiled
    held.load()
    assert handle.resolve() is compiled, "a full rebuild keeps what is unchanged"
    memory.publish({"upstreams/u": {"nodes": {"127.0.0.1:1982": 1}}})
    held.update()
    assert handle.resolve() is not compiled


def test_a_parent_may_come_later_and_go_again(memory: Memory):
    memory.publish({"routes/1": {"uri": "/1", "upstream_id": "u"}})
    held = Held(memory)
    assert held.upstream_at("/1") == Missing(502, "failed to find upstream by id: u")
    assert list(held.state.problems) == [ResourceKey("routes", "1")]
    memory.publish({"upstreams/u": {"nodes": {"127.0.0.1:1981": 1}}})
    held.update()
    assert not held.state.problems, "the problem is gone with its cause, before anybody asks for the route"
    assert isinstance(held.upstream_at("/1"), UpstreamRuntime)
    memory.publish({"upstreams/u": None})
    held.update()
    assert isinstance(held.upstream_at("/1"), Missing)


def test_hosts_of_a_service_hold_for_its_routes_without_hosts(memory: Memory):
    memory.publish(
        {
            "services/s": {"hosts": ["a.com"], "upstream": {"nodes": {"127.0.0.1:1981": 1}}},
            "routes/lodger": {"uri": "/1", "service_id": "s"},
            "routes/own": {"uri": "/1", "service_id": "s", "hosts": ["b.com"]},
        }
    )
    held = Held(memory)
    assert [held.id_at("/1", host) for host in ("a.com", "b.com", "c.com")] == ["lodger", "own", None]
    memory.publish({"services/s": {"hosts": ["c.com"], "upstream": {"nodes": {"127.0.0.1:1981": 1}}}})
    held.update()
    assert [held.id_at("/1", host) for host in ("a.com", "b.com", "c.com")] == [None, "own", "lodger"]
    memory.publish({"routes/lodger": {"uri": "/1", "service_id": "s", "hosts": ["d.com"]}})
    memory.publish({"services/s": {"upstream": {"nodes": {"127.0.0.1:1981": 1}}}})
    held.update()
    assert [held.id_at("/1", host) for host in ("b.com", "c.com", "d.com")] == ["own", None, "lodger"]


def test_a_service_that_comes_after_its_route_or_goes_before_it(memory: Memory):
    memory.publish({"routes/1": {"uri": "/1", "service_id": "s"}})
    held = Held(memory)
    assert held.id_at("/1", "any.com") == "1"
    memory.publish({"services/s": {"hosts": ["a.com"], "upstream": {"nodes": {"127.0.0.1:1981": 1}}}})
    held.update()
    assert [held.id_at("/1", host) for host in ("a.com", "any.com")] == ["1", None]
    memory.publish({"services/s": None})
    held.update()
    assert held.id_at("/1", "any.com") == "1"
    assert held.upstream_at("/1") == Missing(404, "failed to fetch service configuration by id: s")


def test_routes_of_a_service_move_one_in_a_step(memory: Memory):
    routes = {f"routes/{n}": {"uri": f"/{n}", "service_id": "s"} for n in range(50)}
    memory.publish({"services/s": {"hosts": ["a.com"], "upstream": {"nodes": {"127.0.0.1:1981": 1}}}, **routes})
    held = Held(memory)
    memory.publish({"services/s": {"hosts": ["b.com"], "upstream": {"nodes": {"127.0.0.1:1981": 1}}}})
    assert held.update() == 51
    assert held.id_at("/7", "b.com") == "7"
    memory.publish({"services/s": {"hosts": ["b.com"], "upstream": {"nodes": {"127.0.0.1:1999": 1}}}})
    assert held.update() == 1, "what does not move in the index costs nothing"


def test_of_many_changes_to_one_resource_the_newest_is_applied(memory: Memory):
    memory.publish({"routes/1": route("/0")})
    held = Held(memory)
    for n in range(1, 30):
        memory.publish({"routes/1": route(f"/{n}")})
    assert held.update() == 1
    assert [held.id_at(path) for path in ("/0", "/28", "/29")] == [None, None, "1"]


def broken_change(id: str, resource: dict[str, Any], routing: object) -> Change:
    """What no agent of ours publishes: something its schema refuses."""
    return Change(ResourceKey("routes", id), 1, encode_resource(resource), routing)


def test_a_route_that_cannot_be_compiled_answers_500_for_itself_alone(memory: Memory):
    memory.publish({"routes/good": route("/good")})
    held = Held(memory)
    routing = (("/bad",), (), (), 0, 1, None, False)
    for _ in held.state.update([broken_change("bad", {"uri": "/bad", "upstream": 7}, routing)]):
        pass
    upstream = held.upstream_at("/bad")
    assert isinstance(upstream, Missing)
    assert upstream.status == 500
    assert isinstance(held.upstream_at("/good"), UpstreamRuntime)
    assert list(held.state.problems) == [ResourceKey("routes", "bad")]


def test_a_service_that_cannot_be_read_harms_its_routes_alone(memory: Memory):
    memory.publish({"routes/good": route("/good"), "routes/bad": {"uri": "/bad", "service_id": "s"}})
    held = Held(memory)
    service = Change(ResourceKey("services", "s"), 1, encode_resource({"hosts": 7}), None)
    for _ in held.state.update([service]):
        pass
    assert isinstance(held.upstream_at("/good"), UpstreamRuntime)
    upstream = held.upstream_at("/bad")
    assert isinstance(upstream, Missing)
    assert upstream.status == 500


def test_a_full_rebuild_forgets_no_problem(memory: Memory):
    memory.publish({"routes/1": {"uri": "/1", "service_id": "none"}})
    held = Held(memory)
    assert held.upstream_at("/1") == Missing(404, "failed to fetch service configuration by id: none")
    assert list(held.state.problems) == [ResourceKey("routes", "1")]
    held.load()
    assert held.upstream_at("/1") == Missing(404, "failed to fetch service configuration by id: none")
    assert list(held.state.problems) == [ResourceKey("routes", "1")]


def test_a_route_that_was_replaced_under_a_request_says_nothing_of_the_one_in_its_place(memory: Memory):
    memory.publish({"routes/1": {"uri": "/1", "service_id": "none"}})
    held = Held(memory)
    old = held.state.find("/1", "", "GET", None)
    assert old is not None
    memory.publish({"routes/1": route("/1")})
    held.update()
    assert isinstance(old.resolve().upstream, Missing)
    assert not held.state.problems


def test_a_newer_base_is_read_from_without_a_change_in_what_is_served(memory: Memory):
    """What was decoded or copied before goes on, what was not is read from there, and the old base is let go of."""
    routes = {f"routes/{n}": route(f"/{n}") for n in range(300)}
    memory.publish({**routes, "routes/u": {"uri": "/u", "upstream_id": "u"}})
    held = Held(memory)
    handle = held.state.find("/7", "", "GET", None)
    assert handle is not None
    compiled = handle.resolve()
    publisher = memory.publisher
    assert publisher is not None
    while publisher.slot.snapshot_number == held.state.snapshot:
        memory.publish({"routes/8": route("/8", desc=f"of {publisher.version}")})
        memory.publish({"upstreams/u": {"nodes": {"127.0.0.1:1": publisher.version}}})
        while publisher.renew_step():
            pass
    memory.publish({"routes/9": {"uri": "/9", "upstream_id": "u"}})  # newer than the base, and nobody asked for it yet
    held.update()
    for _ in held.state.move_to(memory.reader.open_base(publisher.slot)):
        pass
    assert held.state.snapshot == publisher.slot.snapshot_number
    assert len(publisher.sweep({held.state.snapshot})) == 1, "nobody needs the old one"
    assert handle.resolve() is compiled
    assert [held.id_at(f"/{n}") for n in range(300)] == [str(n) for n in range(300)]
    assert isinstance(held.upstream_at("/u"), UpstreamRuntime)
    assert held.upstream_at("/9") is held.upstream_at("/u")
    assert not held.state.problems


@pytest.mark.parametrize("mode", ["radixtree_host_uri", "radixtree_uri", "radixtree_uri_with_parameter"])
def test_a_rebuild_is_aside_until_its_last_step(memory: Memory, mode: str):
    memory.publish({f"routes/{n}": route(f"/{n}") for n in range(20)})
    held = Held(memory, mode)
    memory.publish({**{f"routes/{n}": None for n in range(20)}, "routes/new": route("/new")})
    steps = held.state.rebuild(memory.reader.load())
    next(steps)
    assert held.id_at("/3") == "3"
    assert held.id_at("/new") is None
    for _ in steps:
        pass
    assert held.id_at("/3") is None
    assert held.id_at("/new") == "new"


@pytest.mark.parametrize(
    ("of_route", "of_service", "expected"),
    [
        (None, None, False),
        (None, True, True),
        (None, False, False),
        (True, None, True),
        (True, False, True),
        (False, True, False),
    ],
)
def test_websockets_pass_as_the_route_says_or_else_its_service(
    memory: Memory, of_route: bool | None, of_service: bool | None, expected: bool
):
    """apisix/init.lua, http_access_phase; also after a change of the service alone."""

    def saying(resource: dict[str, Any], passes: bool | None) -> dict[str, Any]:
        return resource if passes is None else {**resource, "enable_websocket": passes}

    service = {"name": "shop", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
    by_service = saying({"uri": "/1", "service_id": "s"}, of_route)
    memory.publish({"routes/1": by_service, "services/s": saying(service, of_service)})
    held = Held(memory)
    handle = held.state.find("/1", "a.com", "GET", None)
    assert handle is not None
    compiled = handle.resolve()
    assert (compiled.upgrades, compiled.service_name) == (expected, "shop")
    memory.publish({"services/s": saying({**service, "name": "mall"}, None if of_service else True)})
    held.update()
    compiled = handle.resolve()
    assert compiled.upgrades is (not of_service if of_route is None else of_route)
    assert compiled.service_name == "mall"
    assert compiled.walking(compiled.phases, NO_UPSTREAM).service_name == "mall"
