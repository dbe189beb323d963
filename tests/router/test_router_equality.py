"""Whatever the history of an index, it answers as one built from nothing, and as a linear scan does.

Longer: JITTERWAY_HYPOTHESIS=<examples> (default 40 per mode).
"""

import os
import random
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gw.model.routing import RouteKey
from gw.router import MODES, RouterIndex, build_router
from tests.router.naive import Route, answer, ordered, routing_key

EXAMPLES = int(os.environ.get("JITTERWAY_HYPOTHESIS", "40"))

IDS = [str(number) for number in range(1, 9)] + ["a/b", "é"]
URIS = [
    *(
        "*",
        "/*",
        "/",
        "/a",
        "/a*",
        "/a/*",
        "/a/b",
        "/a/b*",
        "/a/b/",
        "/a/b/*",
        "/a/b/c",
        "/ab*",
        "/b/*rest",
        "/a/*rest",
    ),
    *("/:x", "/a/:x", "/a/:y", "/a/:x/c", "/a/:x/*rest", "/:x/b", "/:x/:y", "/a/:x/?", "/a/:x/c/?", "/:x/*", "/a/b:c"),
    *("/a*/c", "/*/b", "/a/*/c", "/a/*one/b/*two", "/:x/*y/c", "/*/c*", "/é*", "/é/:x"),
]
PATHS = [
    *("/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a/b/c/", "/a/b/c/d", "/ab", "/abc/c", "/b", "/b/", "/b/x/y", "/c"),
    *("/x/b", "/a//c", "/a/x/c", "/a/:x", "/a/b:c", "/é", "/éa", "/é/b", "/a/b/b/c", "//", "", "/a/b\nc", "/a/*"),
]
HOSTS = ["foo.com", "bar.com", "*.foo.com", "*.bar.foo.com", "*foo.com", "FOO.com", "[::1]"]
REQUEST_HOSTS = ["foo.com", "a.foo.com", "x.bar.foo.com", "bar.com", ".foo.com", "xfoo.com", "[::1]", "", "no.net"]
METHODS = ["GET", "POST", "PURGE"]
# Of a request that is a number. The first one is no condition.
CONDITIONS: list[Callable[[Any], bool]] = [
    lambda request: True,
    lambda request: request % 2 == 0,
    lambda request: request > 2,
    lambda request: False,
    lambda request: request >= 0,
]

routes = st.builds(
    Route,
    id=st.sampled_from(IDS),
    key=st.builds(
        routing_key,
        uris=st.lists(st.sampled_from(URIS), min_size=1, max_size=3),
        methods=st.lists(st.sampled_from(METHODS[:2]), max_size=2, unique=True),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        status=st.sampled_from([1, 1, 1, 1, 0]),
    ),
    hosts=st.lists(st.sampled_from(HOSTS), max_size=3).map(tuple),
    asks=st.sampled_from(CONDITIONS),
).map(lambda route: route._replace(key=route.key._replace(is_conditional=route.asks is not CONDITIONS[0])))
probes = st.tuples(
    st.sampled_from(PATHS),
    st.sampled_from(REQUEST_HOSTS),
    st.sampled_from([*METHODS, "QUERY"]),
    st.integers(0, 5),
)


def fits(route: Route, request: Any) -> bool:
    assert route.key.is_conditional, "a plain route is never asked about"
    return route.asks(request)


def put(router: RouterIndex[Route], route: Route) -> None:
    router.insert(route.id, route.key, route.hosts, route)


def built(mode: str, wanted: list[Route]) -> RouterIndex[Route]:
    router = build_router(mode, fits)
    for route in wanted:
        put(router, route)
    return router


def found(router: RouterIndex[Route], path: str, host: str, method: str, request: int) -> tuple[Any, ...]:
    match = router.match(path, host, method, request)
    seen: dict[tuple[str, str], Any] = {}
    for candidate in router.candidates(path, host):
        assert candidate.id == candidate.target.id
        seen.setdefault((candidate.id, candidate.uri), candidate.params)
    return (None if match is None else (match.id, match.uri, match.params), list(seen.items()))


class History(RuleBasedStateMachine):
    """Routes come, move and go."""

    mode = MODES[0]

    @initialize()
    def start(self) -> None:
        self.router = build_router(self.mode, fits)
        self.routes: dict[str, Route] = {}
        self.random = random.Random(0)

    @rule(route=routes)
    def insert_or_replace(self, route: Route) -> None:
        self.remove(route.id)
        put(self.router, route)
        self.routes[route.id] = route

    @rule(route=routes)
    def insert_unopened(self, route: Route) -> None:
        self.remove(route.id)
        if not self.router.insert_unopened(route):
            put(self.router, route)
        self.routes[route.id] = route

    @rule(id=st.sampled_from(IDS))
    def remove(self, id: str) -> None:
        there = id in self.routes and self.routes[id].key.status != 0
        assert self.router.remove(id, self.routes.get(id)) is there
        self.routes.pop(id, None)

    @rule(wanted=st.lists(probes, min_size=8, max_size=8))
    def ask(self, wanted: list[tuple[str, str, str, int]]) -> None:
        in_order = sorted(self.routes.values(), key=lambda route: route.id)
        shuffled = self.random.sample(in_order, len(in_order))
        others = [built(self.mode, in_order), built(self.mode, shuffled)]
        for path, host, method, request in wanted:
            mine = found(self.router, path, host, method, request)
            for other in others:
                assert found(other, path, host, method, request) == mine
            match, candidates = mine
            assert (match and match[:2]) == answer(in_order, self.mode, path, host, method, request)
            assert [name for name, _ in candidates] == ordered(in_order, self.mode, path, host)

    @invariant()
    def holds(self) -> None:
        self.router.check()
        assert len(self.router) == sum(route.key.status != 0 for route in self.routes.values())

    def teardown(self) -> None:
        for id, route in getattr(self, "routes", {}).items():
            self.router.remove(id, route)
        self.router.check()


@pytest.mark.parametrize("mode", MODES)
def test_history_does_not_matter(mode: str) -> None:
    machine = type("History", (History,), {"mode": mode})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


class Target:
    """A route that tells when it is gone."""

    def __init__(self, id: str, key: RouteKey, hosts: Sequence[str]) -> None:
        self.id = id
        self.routing = key._replace(hosts=hosts)


@pytest.mark.parametrize("mode", MODES)
def test_a_drained_index_holds_nothing(mode: str) -> None:
    chance = random.Random(6)
    router = build_router(mode)
    targets = []
    for number in range(400):
        uri = chance.choice([*URIS, f"/own/{number}", f"/own/{number}/*"])
        target = Target(str(number), routing_key([uri]), chance.sample(HOSTS, chance.choice([0, 0, 1, 2])))
        targets.append(weakref.ref(target))
        if number % 2 or not router.insert_unopened(target):
            router.insert(target.id, target.routing, target.routing.hosts, target)
    del target
    steps = sum(1 for _ in router.drain())
    assert steps >= 400 // 64
    assert not any(target() for target in targets), "what is held on to is freed later, all at once"


@pytest.mark.parametrize("mode", MODES)
def test_match_is_the_first_candidate(mode: str) -> None:
    """All probes on a crowded index, which the fast path of `match` must answer as the plain one."""
    random_ = random.Random(5)
    crowd = [
        Route(
            str(number),
            routing_key(
                random_.sample(URIS, random_.randint(1, 3)),
                random_.sample(METHODS, random_.randint(0, 2)),
                random_.choice([0, 0, 1, 2]),
                is_conditional=number % 3 == 0,
            ),
            tuple(random_.sample(HOSTS, random_.choice([0, 0, 1, 2]))),
            random_.choice(CONDITIONS) if number % 3 == 0 else CONDITIONS[0],
        )
        for number in range(300)
    ]
    router = built(mode, crowd)
    router.check()
    for path in PATHS:
        for host in REQUEST_HOSTS:
            for method in (*METHODS, "QUERY"):
                request = random_.randrange(6)
                candidates = (c for c in router.candidates(path, host) if router.allows(c, method))
                wanted = next((c for c in candidates if not c.is_conditional or c.target.asks(request)), None)
                assert router.match(path, host, method, request) == wanted
                assert (wanted and (wanted.id, wanted.uri)) == answer(crowd, mode, path, host, method, request)
    for route in crowd:
        router.remove(route.id)
    router.check()
    assert len(router) == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("uri", ["/a", "/a/*"])
def test_a_key_is_held_unopened_by_one_route_alone(mode: str, uri: str) -> None:
    router = build_router(mode)
    one, other = (Route(id, routing_key([uri], priority=priority), ()) for id, priority in (("1", 0), ("2", 1)))
    assert router.insert_unopened(one)
    assert not router.insert_unopened(other)
    put(router, other)
    assert [match.id for match in router.candidates(uri.removesuffix("*"), "")] == ["2", "1"]
    router.check()
