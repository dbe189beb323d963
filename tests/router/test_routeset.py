"""What benchmarks measure with is what they say it is, and every one of its requests is answered."""

import pytest

from bench.routeset import KINDS, request_for, routes
from gw.model.routing import route_key
from gw.router import MODES, build_router


def test_the_same_each_time() -> None:
    assert list(routes(200)) == list(routes(200))


def test_distinct_prefix_lengths() -> None:
    assert len({len(route["uri"]) for route in routes(2000, "prefix")}) >= 60


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_route_answers_its_request(mode: str, kind: str) -> None:
    router = build_router(mode)
    wanted = list(routes(500, kind))
    for route in wanted:
        router.insert(route["id"], route_key(route), route.get("hosts", ()), route)
    router.check()
    for route in wanted:
        match = router.match(*request_for(route, mode))
        assert match is not None
        assert match.id == route["id"]
