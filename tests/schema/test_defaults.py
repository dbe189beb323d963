"""Defaults are APISIX's, are filled into a copy, and only where their object is."""

from copy import deepcopy
from typing import Any

import pytest

from gw.schema import validate

NODES = {"127.0.0.1:1980": 1}
UPSTREAM_DEFAULTS = {"type": "roundrobin", "scheme": "http", "pass_host": "pass", "hash_on": "vars"}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("routes", {"uri": "/a", "plugins": {}}, {"priority": 0, "status": 1}),
    ("routes", {"uri": "/a", "plugins": {}, "priority": 9, "status": 0}, {}),
    (
        "routes",
        {"uri": "/a", "upstream": {"nodes": NODES}},
        {"priority": 0, "status": 1, "upstream": {"nodes": NODES} | UPSTREAM_DEFAULTS},
    ),
    ("services", {}, {}),
    ("services", {"upstream": {"nodes": []}}, {"upstream": {"nodes": []} | UPSTREAM_DEFAULTS}),
    ("upstreams", {"nodes": NODES}, UPSTREAM_DEFAULTS),
    ("upstreams", {"nodes": NODES, "scheme": "grpcs", "type": "ewma"}, {"pass_host": "pass", "hash_on": "vars"}),
    (
        "upstreams",
        {"nodes": [{"host": "a", "weight": 1}]},
        UPSTREAM_DEFAULTS | {"nodes": [{"host": "a", "weight": 1, "priority": 0}]},
    ),
    (
        "upstreams",
        {"nodes": NODES, "keepalive_pool": {"size": 5}},
        UPSTREAM_DEFAULTS | {"keepalive_pool": {"size": 5, "idle_timeout": 60, "requests": 1000}},
    ),
    ("upstreams", {"nodes": NODES, "tls": {"client_cert_id": 1}}, UPSTREAM_DEFAULTS),
    (
        "upstreams",
        {"nodes": NODES, "checks": {"active": {"unhealthy": {}}, "passive": {"healthy": {"successes": 1}}}},
        UPSTREAM_DEFAULTS
        | {
            "checks": {
                "active": {
                    "type": "http",
                    "timeout": 1,
                    "concurrency": 10,
                    "http_method": "GET",
                    "http_path": "/",
                    "http_req_body": "",
                    "https_verify_certificate": True,
                    "unhealthy": {
                        "interval": 1,
                        "http_statuses": [429, 404, 500, 501, 502, 503, 504, 505],
                        "http_failures": 5,
                        "tcp_failures": 2,
                        "timeouts": 3,
                    },
                },
                "passive": {
                    "type": "http",
                    "healthy": {
                        "http_statuses": [*range(200, 209), 226, *range(300, 309)],
                        "successes": 1,
                    },
                },
            }
        },
    ),
]


@pytest.mark.parametrize(("kind", "resource", "added"), CASES)
def test_defaults_are_filled_into_a_copy(kind: str, resource: dict[str, Any], added: dict[str, Any]):
    before = deepcopy(resource)
    result = validate(kind, "1", resource)
    assert result == resource | added
    assert resource == before


def test_the_copy_shares_nothing_with_what_was_given_nor_with_another_copy():
    resource = {"uri": "/a", "plugins": {"p": {"list": [1]}}, "upstream": {"nodes": NODES, "checks": {"active": {}}}}
    one, other = validate("routes", "1", resource), validate("routes", "1", resource)
    one["plugins"]["p"]["list"].append(2)
    one["upstream"]["nodes"].clear()
    one["upstream"]["checks"]["active"]["http_path"] = "/changed"
    assert other == validate("routes", "1", resource)


def test_whole_floats_become_integers_and_others_stay():
    result = validate("routes", "1", {"uri": "/a", "priority": 2.0, "plugins": {"p": {"a": 1.0, "b": 1.5}}})
    assert repr(result["priority"]) == "2"
    assert repr(result["plugins"]["p"]) == "{'a': 1, 'b': 1.5}"


def test_a_validated_resource_validates_to_itself():
    for kind, resource, _ in CASES:
        once = validate(kind, "1", resource)
        assert validate(kind, "1", once) == once
