"""Store keys, and what the router reads of a route."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gw.model.hosts import is_address
from gw.model.keys import KINDS, ResourceKey, credential_key, has_old_name, parse_store_key, store_keys
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
        ("consumers/jack", ResourceKey("consumers", "jack")),
        ("consumers/jack/credentials/x", ResourceKey("credentials", "jack/x")),
        ("consumers/jack/credentials/", None),
        ("consumers/jack/credentials", None),
        ("consumers/jack/other/x", None),
        ("consumers//credentials/x", None),
        ("credentials/jack/x", None),
        ("secrets/vault/x", ResourceKey("secrets", "vault/x")),
        ("plugins", ResourceKey("plugins", "")),
        ("plugins/", None),
        ("plugins/x", None),
        ("ssls/1", ResourceKey("ssls", "1")),
        ("ssl/1", ResourceKey("ssls", "1")),
        ("protos/1", ResourceKey("protos", "1")),
        ("proto/1", ResourceKey("protos", "1")),
        ("ssl/", None),
    ],
)
def test_store_keys(key: str, resource_key: ResourceKey | None):
    assert parse_store_key(key) == resource_key
    if resource_key is not None:
        assert key in store_keys(resource_key)
        assert parse_store_key(str(resource_key)) == resource_key
        assert has_old_name(key) == (str(resource_key) != key)


@pytest.mark.parametrize(
    ("key", "names", "written_id"),
    [
        (ResourceKey("routes", "1"), ("routes/1",), "1"),
        (ResourceKey("ssls", "1"), ("ssls/1", "ssl/1"), "1"),
        (ResourceKey("protos", "1"), ("protos/1", "proto/1"), "1"),
        (ResourceKey("plugins", ""), ("plugins",), None),
        (ResourceKey("consumers", "jack"), ("consumers/jack",), None),
        (credential_key("jack", "x"), ("consumers/jack/credentials/x",), "x"),
        (ResourceKey("secrets", "vault/x"), ("secrets/vault/x",), "vault/x"),
    ],
)
def test_where_a_resource_may_lie_and_what_it_says_of_its_id(
    key: ResourceKey, names: tuple[str, ...], written_id: str | None
):
    assert (store_keys(key), key.written_id) == (names, written_id)


words = st.text("routescumrlgin_/.é\0 ", max_size=12) | st.sampled_from(["", "plugins", "credentials", "jack"])
paths = st.lists(st.sampled_from([*KINDS, "ssl", "proto"]) | words, max_size=5).map("/".join) | st.text()


@settings(max_examples=500, deadline=None)
@given(key=paths)
def test_any_key_of_a_store_is_a_resource_under_one_of_its_names_or_is_none(key: str):
    found = parse_store_key(key)
    if found is not None:
        assert found.kind in KINDS
        assert key in store_keys(found)
        assert parse_store_key(str(found)) == found


def test_a_key_is_written_as_in_the_store():
    assert str(ResourceKey("routes", "1")) == "routes/1"


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ({"uri": "/a", "plugins": {}}, RouteKey(["/a"], [], [], 0, 1, None, False)),
        ({"uri": "/a", "host": "a.com", "service_id": 7}, RouteKey(["/a"], ["a.com"], [], 0, 1, "7", False)),
        (
            {
                "uris": ["/a", "/b"],
                "hosts": ["a.com", "b.com"],
                "methods": ["GET"],
                "priority": 3,
                "status": 0,
                "service_id": "s",
            },
            RouteKey(["/a", "/b"], ["a.com", "b.com"], ["GET"], 3, 0, "s", False),
        ),
    ],
)
def test_route_keys(route: dict[str, object], expected: RouteKey):
    assert route_key(validate("routes", "1", route)) == expected


@pytest.mark.parametrize(("host", "expected"), [("10.0.0.1", True), ("::1", True), ("a", False), ("10.0.0", False)])
def test_is_address(host, expected):
    assert is_address(host) is expected
