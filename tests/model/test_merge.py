"""Route, service and upstreams put together: who wins, and what a missing one is answered."""

from typing import Any

import pytest

from gw.model.merge import NO_UPSTREAM, Missing, effective_upstream
from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import Upstream
from gw.schema import validate


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
