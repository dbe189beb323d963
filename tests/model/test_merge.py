"""Route, service and upstreams put together: who wins, and what a missing one is answered."""

from typing import Any

import pytest

from gw.model.merge import (
    NO_UPSTREAM,
    Missing,
    effective_hosts,
    effective_plugins,
    effective_timeout,
    effective_upstream,
    websocket_enabled,
)
from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import DEFAULT_TIMEOUT, Timeout, Upstream
from gw.schema import validate

FAST, SLOW = {"connect": 1, "send": 1, "read": 1}, {"connect": 9, "send": 9, "read": 9}


def a_route(**fields: Any) -> Route:
    return Route.from_dict("r", validate("routes", "r", {"uri": "/a", "plugins": {}} | fields))


def a_service(**fields: Any) -> Service:
    return Service.from_dict("s", validate("services", "s", fields))


def named(name: str) -> dict[str, Any]:
    return {"name": name, "nodes": {"a": 1}}


UPSTREAMS = {id: Upstream.from_dict(validate("upstreams", id, named(id)), id) for id in ("r-id", "s-id")}


@pytest.mark.parametrize(
    ("route", "service", "expected"),
    [
        ({"upstream": named("r")}, None, "r"),
        ({"upstream_id": "r-id"}, None, "r-id"),
        ({"upstream": named("r"), "upstream_id": "r-id"}, None, "r-id"),
        ({"upstream": named("r")}, {"upstream": named("s"), "upstream_id": "s-id"}, "r"),
        ({"upstream_id": "r-id"}, {"upstream": named("s"), "upstream_id": "s-id"}, "r-id"),
        ({}, {"upstream": named("s")}, "s"),
        ({}, {"upstream_id": "s-id"}, "s-id"),
        ({}, {"upstream": named("s"), "upstream_id": "s-id"}, "s-id"),
    ],
)
def test_which_upstream(route: dict[str, Any], service: dict[str, Any] | None, expected: str):
    bound = {} if service is None else {"service_id": "s"}
    found = effective_upstream(
        a_route(**route, **bound), None if service is None else a_service(**service), UPSTREAMS.get
    )
    assert isinstance(found, Upstream)
    assert found.name == expected


@pytest.mark.parametrize(
    ("route", "service", "expected"),
    [
        ({}, None, NO_UPSTREAM),
        ({"service_id": "s"}, {}, NO_UPSTREAM),
        ({"service_id": 8}, None, Missing(404, "failed to fetch service configuration by id: 8")),
        (
            {"service_id": "s", "upstream": named("r")},
            None,
            Missing(404, "failed to fetch service configuration by id: s"),
        ),
        ({"upstream_id": 9}, None, Missing(502, "failed to find upstream by id: 9")),
        ({"upstream_id": 9, "upstream": named("r")}, None, Missing(502, "failed to find upstream by id: 9")),
        (
            {"upstream_id": 9, "service_id": "s"},
            {"upstream_id": "s-id"},
            Missing(502, "failed to find upstream by id: 9"),
        ),
    ],
)
def test_what_is_missing(route: dict[str, Any], service: dict[str, Any] | None, expected: Missing):
    found = effective_upstream(a_route(**route), None if service is None else a_service(**service), UPSTREAMS.get)
    assert found == expected


def test_no_upstream_is_503():
    assert NO_UPSTREAM.status == 503


@pytest.mark.parametrize(
    ("route", "upstream", "expected"),
    [
        ({}, {}, DEFAULT_TIMEOUT),
        ({}, {"timeout": SLOW}, Timeout(9, 9, 9)),
        ({"timeout": FAST}, {"timeout": SLOW}, Timeout(1, 1, 1)),
        ({"timeout": FAST}, {}, Timeout(1, 1, 1)),
    ],
)
def test_time_outs(route: dict[str, Any], upstream: dict[str, Any], expected: Timeout):
    target = Upstream.from_dict(validate("upstreams", "u", {"nodes": []} | upstream))
    assert effective_timeout(a_route(**route), target) == expected


@pytest.mark.parametrize(
    ("route", "service", "expected"),
    [
        (None, None, False),
        (True, None, True),
        (True, False, True),
        (False, True, False),
        (None, True, True),
        (None, False, False),
    ],
)
def test_websocket(route: bool | None, service: bool | None, expected: bool):
    said = {} if route is None else {"enable_websocket": route}
    theirs = {} if service is None else {"enable_websocket": service}
    assert websocket_enabled(a_route(**said), a_service(**theirs)) is expected


def test_hosts():
    assert effective_hosts(a_route(), None) == ()
    assert effective_hosts(a_route(), a_service(hosts=["s"])) == ("s",)
    assert effective_hosts(a_route(host="r"), a_service(hosts=["s"])) == ("r",)


def test_plugins():
    merged = effective_plugins(
        a_route(plugins={"a": {"x": 1}}), a_service(plugins={"a": {"x": 2, "y": 2}, "b": {"z": 3}})
    )
    assert merged == {"a": {"x": 1}, "b": {"z": 3}}
    assert effective_plugins(a_route(), None) == {}
