"""Resources as dataclasses: what a validated dict becomes."""

from typing import Any

import pytest

from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import MAX_TIMEOUT_S, KeepalivePool, Node, Timeout, Upstream, split_address
from gw.schema import validate
from gw.schema.rules import address_fault


def upstream(**fields: Any) -> Upstream:
    return Upstream.from_dict(validate("upstreams", "u", fields), id="u")


@pytest.mark.parametrize(
    ("address", "split"),
    [
        ("a.com", ("a.com", None)),
        ("a.com:80", ("a.com", 80)),
        ("127.0.0.1:1980", ("127.0.0.1", 1980)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", None)),
        ("::1", ("::1", None)),
        ("2001:db8::68", ("2001:db8::68", None)),
        ("::ffff:192.0.2.1", ("::ffff:192.0.2.1", None)),
    ],
)
def test_addresses(address: str, split: tuple[str, int | None]):
    assert split_address(address) == split
    assert address_fault(address) is None


@pytest.mark.parametrize(
    ("nodes", "scheme", "expected"),
    [
        ({}, "http", ()),
        ({"a:1": 2, "[::1]": 0}, "http", (Node("a", 1, 2), Node("::1", 80, 0))),
        ({"a": 1}, "https", (Node("a", 443, 1),)),
        ({"a": 1}, "grpc", (Node("a", 80, 1),)),
        ({"a": 1}, "grpcs", (Node("a", 443, 1),)),
        ({"a": 1}, "tcp", (Node("a", 0, 1),)),
        (
            [{"host": "[::1]", "weight": 1}, {"host": "b", "port": 9, "weight": 3, "priority": -1}],
            "http",
            (Node("::1", 80, 1), Node("b", 9, 3, -1)),
        ),
    ],
)
def test_nodes(nodes: Any, scheme: str, expected: tuple[Node, ...]):
    assert upstream(nodes=nodes, scheme=scheme).nodes == expected


@pytest.mark.parametrize(
    ("node", "scheme", "authority", "header"),
    [
        (Node("a", 80, 1), "http", "a:80", "a"),
        (Node("a", 443, 1), "http", "a:443", "a:443"),
        (Node("a", 443, 1), "https", "a:443", "a"),
        (Node("::1", 80, 1), "http", "[::1]:80", "[::1]"),
        (Node("::1", 8080, 1), "http", "[::1]:8080", "[::1]:8080"),
    ],
)
def test_what_a_node_is_called(node: Node, scheme: str, authority: str, header: str):
    assert (node.authority, node.host_header(scheme)) == (authority, header)


def test_an_upstream_with_everything_left_out():
    bare = upstream(service_name="s", discovery_type="dns")
    assert (bare.type, bare.scheme, bare.pass_host, bare.hash_on) == ("roundrobin", "http", "pass", "vars")
    assert (bare.nodes, bare.timeout, bare.retries, bare.keepalive_pool) == ((), None, None, None)


def test_times_are_bounded_to_what_event_loops_bear():
    full = upstream(
        nodes=[],
        timeout={"connect": 1, "send": 2.5, "read": 2**63},
        keepalive_pool={"idle_timeout": 1.5},
        retries=2,
        retry_timeout=0.5,
    )
    assert full.timeout == Timeout(1.0, 2.5, MAX_TIMEOUT_S)
    assert full.keepalive_pool == KeepalivePool(320, 1.5, 1000)
    assert (full.retries, full.retry_timeout) == (2, 0.5)


def test_singular_fields_of_a_route_become_plural_and_ids_strings():
    route = Route.from_dict(
        "r",
        validate(
            "routes",
            "r",
            {
                "uri": "/a",
                "host": "a.com",
                "remote_addr": "::1",
                "upstream_id": 1,
                "service_id": 2,
                "plugin_config_id": 3,
            },
        ),
    )
    assert (route.uris, route.hosts, route.remote_addrs) == (("/a",), ("a.com",), ("::1",))
    assert (route.upstream_id, route.service_id, route.plugin_config_id) == ("1", "2", "3")
    assert (route.priority, route.status, route.enable_websocket) == (0, 1, None)


def test_a_route_with_plural_fields_and_its_own_upstream():
    route = Route.from_dict(
        "r",
        validate("routes", "r", {"uris": ["/a"], "hosts": ["b"], "methods": ["GET"], "upstream": {"nodes": {"c": 1}}}),
    )
    assert (route.uris, route.hosts, route.methods) == (("/a",), ("b",), ("GET",))
    assert route.upstream is not None
    assert (route.upstream.id, route.upstream.nodes) == (None, (Node("c", 80, 1),))


def test_a_service():
    service = Service.from_dict("s", validate("services", "s", {"hosts": ["*.a.com"], "upstream_id": 7}))
    assert (service.id, service.hosts, service.upstream_id, service.upstream) == ("s", ("*.a.com",), "7", None)
