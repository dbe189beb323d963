"""Store keys, and what the router reads of a route."""

import pytest

from gw.model.keys import ResourceKey, parse_store_key
from gw.model.routing import RouteKey, route_key
from gw.schema import validate


@pytest.mark.parametrize(
    ("key", "resource_key"),
    [
        ("routes/1", ResourceKey("routes", "1")),
        ("services/a.b", ResourceKey("services", "a.b")),
        ("upstreams/../x", ResourceKey("upstreams", "../x")),
        ("routes/", None),
        ("routes", None),
        ("", None),
        ("/routes/1", None),
        ("foreign/1", None),
        ("data_plane/server_info/x", None),
    ],
)
def test_store_keys(key: str, resource_key: ResourceKey | None):
    assert parse_store_key(key) == resource_key


def test_a_key_is_written_as_in_the_store():
    assert str(ResourceKey("routes", "1")) == "routes/1"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({"uri": "/a", "plugins": {}}, RouteKey(["/a"], [], [], 0, 1, None)),
        ({"uri": "/a", "host": "a.com", "service_id": 7}, RouteKey(["/a"], ["a.com"], [], 0, 1, "7")),
        (
            {
                "uris": ["/a", "/b"],
                "hosts": ["a.com", "b.com"],
                "methods": ["GET"],
                "priority": 3,
                "status": 0,
                "service_id": "s",
            },
            RouteKey(["/a", "/b"], ["a.com", "b.com"], ["GET"], 3, 0, "s"),
        ),
    ],
)
def test_route_keys(route: dict[str, object], expected: RouteKey):
    assert route_key(validate("routes", "1", route)) == expected
