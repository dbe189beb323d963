"""The Admin API of a running gateway, held against what Apache APISIX 3.x answers.

The facts are those of APISIX's own tests (t/admin/routes*.t, services*.t, upstream*.t, *-force-delete.t, filter.t,
response_body_format.t, t/node/invalid-port.t) and of docs/en/latest/admin-api.md, for what there is so far: requests,
status codes, members and texts that clients go by. Where we differ on purpose, docs/admin-api.md says so.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway
from tests.support.waiting import wait_until

UPSTREAM = {"type": "roundrobin", "nodes": {"127.0.0.1:8080": 1}}
ROUTE = {"uri": "/index.html", "upstream": UPSTREAM}
INVALID = "invalid configuration: "
NO_ALTERNATIVE = "validation failed: object matches none of the required"
NOT_FOUND = {"message": "Key not found"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("admin"), workers=1) as running:
        assert running.admin("PUT", "/upstreams/there", UPSTREAM).status == 201
        assert running.admin("PUT", "/services/there", {"upstream_id": "there"}).status == 201
        assert running.admin("PUT", "/routes/there", {"uri": "/there", "service_id": "there"}).status == 201
        yield running


def nodes(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"type": "roundrobin", "nodes": list(listed)}


def node(**fields: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": 8080, "weight": 1, **fields}


def fits(said: str, text: str) -> bool:
    """A `*` at the end of `text` stands for words of our own."""
    return said.startswith(text[:-1]) if text.endswith("*") else said == text


ACCEPTED = [
    ("routes", ROUTE),
    ("routes", ROUTE | {"desc": "new route", "name": "a name", "methods": ["GET", "PURGE"]}),
    ("routes", ROUTE | {"methods": []}),
    ("routes", {"uris": ["/a", "/b/*"], "upstream": UPSTREAM}),
    ("routes", ROUTE | {"host": "*.foo.com"}),
    ("routes", ROUTE | {"hosts": ["foo.com", "*.bar.com", "test.coM"]}),
    ("routes", ROUTE | {"remote_addrs": ["127.0.0.1", "192.0.0.1/8", "::1", "fe80::1/64"]}),
    ("routes", ROUTE | {"vars": [["arg_name", "==", "json"], ["arg_age", ">", 18]]}),
    ("routes", ROUTE | {"priority": -1, "status": 0, "enable_websocket": True}),
    ("routes", ROUTE | {"labels": {"version": "v2", "build": "16", "env": "production"}}),
    ("routes", ROUTE | {"timeout": {"connect": 3, "send": 3, "read": 0.5}}),
    ("routes", ROUTE | {"plugins": {}}),
    ("routes", ROUTE | {"plugins": [], "labels": [], "vars": {}}),
    ("routes", {"uri": "/a", "plugins": {}}),
    ("routes", {"uri": "/file:listReputationHistories", "upstream_id": "there"}),
    ("routes", {"uri": "/a", "upstream_id": "there", "service_id": "there", "upstream": UPSTREAM}),
    ("services", {}),
    ("services", {"upstream": UPSTREAM, "desc": "d", "name": "n", "hosts": ["foo.com"], "enable_websocket": True}),
    ("services", {"plugins": {}, "upstream_id": "there", "labels": {"build": "16"}}),
    ("upstreams", UPSTREAM),
    ("upstreams", {"nodes": UPSTREAM["nodes"]}),
    ("upstreams", {"type": "roundrobin", "nodes": {}}),
    ("upstreams", nodes()),
    ("upstreams", nodes(node())),
    ("upstreams", nodes(node(weight=0), node(port=8081, priority=-1, metadata={"zone": "a"}))),
    ("upstreams", nodes({"host": "foo.com", "weight": 1})),
    ("upstreams", {"type": "roundrobin", "nodes": {"127.0.0.1": 1, "foo.com": 1, "[::1]:80": 0}}),
    ("upstreams", UPSTREAM | {"scheme": "https", "pass_host": "rewrite", "upstream_host": "foo.com"}),
    ("upstreams", UPSTREAM | {"pass_host": "node", "retries": 0, "retry_timeout": 5.5}),
    ("upstreams", UPSTREAM | {"keepalive_pool": {"size": 4, "idle_timeout": 8, "requests": 16}}),
    ("upstreams", UPSTREAM | {"type": "chash", "key": "remote_addr"}),
    ("upstreams", UPSTREAM | {"type": "chash", "hash_on": "consumer"}),
    ("upstreams", UPSTREAM | {"type": "least_conn"}),
    ("upstreams", UPSTREAM | {"checks": {"active": {"http_path": "/status", "healthy": {"successes": 1}}}}),
    ("upstreams", {"type": "roundrobin", "service_name": "USER", "discovery_type": "eureka"}),
    ("upstreams", UPSTREAM | {"type": "none", "scheme": "kafka"}),
    ("upstreams", UPSTREAM | {"type": "unknown"}),
]


@pytest.mark.parametrize(("kind", "body"), ACCEPTED)
def test_what_fits_comes_back_as_it_was_sent(gateway: Gateway, kind: str, body: dict[str, Any]) -> None:
    created = gateway.admin("PUT", f"/{kind}/a-b-c-ABC_0.123", body)
    assert created.status == 201, created
    assert set(created.json()) == {"key", "value"}
    value = created.json()["value"]
    assert created.json()["key"] == f"/apisix/{kind}/a-b-c-ABC_0.123"
    assert value == body | {
        "id": "a-b-c-ABC_0.123",
        "create_time": value["create_time"],
        "update_time": value["update_time"],
    }
    replaced = gateway.admin("PUT", f"/{kind}/a-b-c-ABC_0.123", body)
    assert replaced.status == 200
    assert replaced.json()["value"]["create_time"] == value["create_time"]

    found = gateway.admin("GET", f"/{kind}/a-b-c-ABC_0.123")
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    assert set(found.json()) == {"key", "value", "createdIndex", "modifiedIndex"}
    assert found.json()["value"] == replaced.json()["value"]
    assert type(found.json()["createdIndex"]) is type(found.json()["modifiedIndex"]) is int
    assert found.json()["createdIndex"] < found.json()["modifiedIndex"]

    deleted = gateway.admin("DELETE", f"/{kind}/a-b-c-ABC_0.123")
    assert (deleted.status, deleted.json()) == (200, {"key": f"/apisix/{kind}/a-b-c-ABC_0.123", "deleted": "1"})
    for method, sent in (("GET", None), ("DELETE", None), ("PATCH", {"desc": "x"})):
        missing = gateway.admin(method, f"/{kind}/a-b-c-ABC_0.123", sent)
        assert (missing.status, missing.json()) == (404, NOT_FOUND)


REFUSED = [
    # APISIX's texts, whole
    ("routes", ROUTE | {"id": 3}, "wrong route id"),
    (
        "routes",
        {"uri": "/a", "service_id": "404"},
        "failed to fetch service info by service id [404], response code: 404",
    ),
    (
        "routes",
        {"uri": "/a", "upstream_id": 404},
        "failed to fetch upstream info by upstream id [404], response code: 404",
    ),
    (
        "routes",
        ROUTE | {"plugin_config_id": "404"},
        "failed to fetch plugin config info by plugin config id [404], response code: 404",
    ),
    ("routes", ROUTE | {"host": "foo.com", "hosts": ["foo.com"]}, "only one of host or hosts is allowed"),
    (
        "routes",
        ROUTE | {"remote_addr": "::1", "remote_addrs": ["::1"]},
        "only one of remote_addr or remote_addrs is allowed",
    ),
    ("routes", ROUTE | {"nonsense": 1}, INVALID + "additional properties forbidden, found nonsense"),
    (
        "routes",
        ROUTE | {"methods": ["invalid_method"]},
        INVALID + 'property "methods" validation failed: failed to validate item 1: matches none of the enum values',
    ),
    (
        "routes",
        ROUTE | {"methods": ["GET", "GET"]},
        INVALID + 'property "methods" validation failed: expected unique items but items 1 and 2 are equal',
    ),
    (
        "routes",
        ROUTE | {"hosts": []},
        INVALID + 'property "hosts" validation failed: expect array to have at least 1 items',
    ),
    (
        "routes",
        ROUTE | {"status": 100},
        INVALID + 'property "status" validation failed: matches none of the enum values',
    ),
    (
        "routes",
        ROUTE | {"desc": "a" * 257},
        INVALID + 'property "desc" validation failed: string too long, expected at most 256, got 257',
    ),
    (
        "routes",
        ROUTE | {"name": ""},
        INVALID + 'property "name" validation failed: string too short, expected at least 1, got 0',
    ),
    (
        "routes",
        ROUTE | {"enable_websocket": "true"},
        INVALID + 'property "enable_websocket" validation failed: wrong type: expected boolean, got string',
    ),
    (
        "routes",
        ROUTE | {"uris": ["/a"]},
        INVALID + "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2",
    ),
    (
        "routes",
        {"upstream": UPSTREAM},
        INVALID + "allOf 1 failed: value should match only one schema, but matches none",
    ),
    ("routes", ROUTE | {"create_time": 1}, "the property is forbidden: create_time"),
    ("routes", {"uri": "/a", "upstream": UPSTREAM | {"type": "chash"}}, "missing key"),
    ("services", {"upstream_id": "404"}, "failed to fetch upstream info by upstream id [404], response code: 404"),
    ("services", {"nonsense": 1}, INVALID + "additional properties forbidden, found nonsense"),
    ("upstreams", {"id": 3, **UPSTREAM}, "wrong upstream id"),
    ("upstreams", UPSTREAM | {"nonsense": 1}, INVALID + "additional properties forbidden, found nonsense"),
    ("upstreams", {"type": "roundrobin"}, INVALID + "value should match only one schema, but matches none"),
    (
        "upstreams",
        UPSTREAM | {"service_name": "USER", "discovery_type": "eureka"},
        INVALID + "value should match only one schema, but matches both schemas 1 and 2",
    ),
    ("upstreams", {"nodes": {"127.0.0.1:65536": 1}}, "invalid port 65536"),
    ("upstreams", {"nodes": {"127.0.0.1:0": 1}}, "invalid port 0"),
    ("upstreams", UPSTREAM | {"type": "chash", "hash_on": "header"}, "missing key"),
    ("upstreams", UPSTREAM | {"pass_host": "rewrite"}, "`upstream_host` can't be empty when `pass_host` is `rewrite`"),
    (
        "upstreams",
        UPSTREAM | {"retries": -1},
        INVALID + 'property "retries" validation failed: expected -1 to be at least 0',
    ),
    (
        "upstreams",
        UPSTREAM | {"retry_timeout": -1},
        INVALID + 'property "retry_timeout" validation failed: expected -1 to be at least 0',
    ),
    (
        "upstreams",
        UPSTREAM | {"scheme": "ftp"},
        INVALID + 'property "scheme" validation failed: matches none of the enum values',
    ),
    ("routes", {"uri": "/a", "service_id": "invalid_id$"}, INVALID + f'property "service_id" {NO_ALTERNATIVE}'),
    ("routes", {"uri": "/a", "upstream_id": "invalid$"}, INVALID + f'property "upstream_id" {NO_ALTERNATIVE}'),
    ("routes", ROUTE | {"remote_addr": "127.0.0."}, INVALID + f'property "remote_addr" {NO_ALTERNATIVE}'),
    *(
        ("upstreams", {"nodes": wrong}, INVALID + f'property "nodes" {NO_ALTERNATIVE}')
        for wrong in (
            *([node(weight="1")], [node(weight=-100)], [{"host": "127.0.0.1", "port": 8080}], [node(port=0)]),
            *([node(port=65536)], [node(host="127.#.%.1")], {"127.0.0.1:8080": -1}, {"127.0.0.1:8080": "1"}),
        )
    ),
    (
        "upstreams",
        UPSTREAM | {"checks": {"passive": {}}},
        INVALID + f'property "checks" {NO_ALTERNATIVE}: ["active"] or ["active","passive"]',
    ),
    (
        "upstreams",
        UPSTREAM | {"type": "chash", "hash_on": "cookie", "key": "$#^@"},
        INVALID + 'failed to match pattern "^[a-zA-Z0-9-_]+$" with "$#^@"',
    ),
    # the place is APISIX's; what is said of it is ours
    ("routes", {"uri": "/a"}, INVALID + "object matches none of the required: *"),
    ("routes", ROUTE | {"host": "foo.*.com"}, INVALID + 'property "host" validation failed: failed to match pattern *'),
    ("routes", ROUTE | {"labels": {"env": ["a", "b"]}}, INVALID + 'property "labels" validation failed: *'),
    ("routes", ROUTE | {"labels": {"env": "white space"}}, INVALID + 'property "labels" validation failed: *'),
    (
        "routes",
        ROUTE | {"timeout": {"connect": 0, "send": 1, "read": 1}},
        INVALID + 'property "timeout" validation failed: *',
    ),
    ("routes", ROUTE | {"timeout": {"connect": 1}}, INVALID + 'property "timeout" validation failed: *'),
    (
        "upstreams",
        UPSTREAM | {"keepalive_pool": {"size": 0}},
        INVALID + 'property "keepalive_pool" validation failed: *',
    ),
    ("upstreams", UPSTREAM | {"type": "chash", "key": "arg_#"}, INVALID + "failed to match pattern *"),
]


@pytest.mark.parametrize(("kind", "body", "text"), REFUSED)
def test_what_does_not_fit_is_refused_in_apisix_words(gateway: Gateway, kind: str, body: Any, text: str) -> None:
    before = gateway.admin("GET", f"/{kind}/there").json()
    reply = gateway.admin("PUT", f"/{kind}/there", body)
    assert (reply.status, set(reply.json())) == (400, {"error_msg"})
    assert fits(reply.json()["error_msg"], text)
    assert gateway.admin("GET", f"/{kind}/there").json() == before


REQUESTS = [
    # method, path, body, status, answer
    ("PUT", "/routes", ROUTE, 400, "missing route id"),
    ("PUT", "/routes", ROUTE | {"id": -100}, 400, INVALID + f'property "id" {NO_ALTERNATIVE}'),
    ("PUT", "/routes/*invalid", ROUTE, 400, INVALID + f'property "id" {NO_ALTERNATIVE}'),
    ("PUT", "/routes/" + "a" * 65, ROUTE, 400, INVALID + f'property "id" {NO_ALTERNATIVE}'),
    ("POST", "/routes", ROUTE | {"id": "1"}, 400, "wrong route id, do not need it"),
    ("POST", "/routes/1", ROUTE, 400, "wrong route id, do not need it"),
    ("DELETE", "/upstreams", None, 400, "missing upstream id"),
    ("PATCH", "/services", {"desc": "x"}, 400, "missing service id"),
    ("PUT", "/routes/1", None, 400, "missing configurations"),
    ("POST", "/routes", None, 400, "missing configurations"),
    ("PATCH", "/routes/there", None, 400, "missing new configuration"),
    ("PATCH", "/routes/there", b'"text"', 400, "invalid configuration"),
    ("PATCH", "/routes/there", {"id": "2"}, 400, "wrong route id"),
    ("PATCH", "/routes/there/uri/x", "y", 400, "invalid sub-path: /uri"),
    ("PUT", "/routes/1?ttl=xxx", ROUTE, 400, "invalid argument ttl: should be a number"),
    ("GET", "/routes?page=1&page_size=2", None, 400, "page_size must be between 10 and 500"),
    ("GET", "/routes?page=&page_size=2", None, 400, "page_size must be between 10 and 500"),
    ("GET", "/routes?page=1&page_size=501", None, 400, "page_size must be between 10 and 500"),
    ("GET", "/nonsense", None, 404, "Unsupported resource type: nonsense"),
    ("PUT", "/nonsense/1", {}, 404, "Unsupported resource type: nonsense"),
    ("DELETE", "/upstreams/there", None, 400, "can not delete this upstream, service [there] is still using it now"),
    (
        "DELETE",
        "/upstreams/there?force=anyvalue",
        None,
        400,
        "can not delete this upstream, service [there] is still using it now",
    ),
    (
        "DELETE",
        "/services/there",
        None,
        400,
        "can not delete this service directly, route [there] is still using it now",
    ),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "text"), REQUESTS)
def test_requests_that_are_refused(gateway: Gateway, method: str, path: str, body: Any, status: int, text: str) -> None:
    reply = gateway.admin(method, path, body)
    assert (reply.status, set(reply.json())) == (status, {"error_msg"})
    assert fits(reply.json()["error_msg"], text)


@pytest.mark.parametrize("raw", [b"{", b"not json", b'{"uri": "/a",}'])
def test_what_is_no_json(gateway: Gateway, raw: bytes) -> None:
    reply = gateway.admin("PUT", "/routes/1", raw)
    assert reply.status == 400
    assert reply.json()["error_msg"].startswith("invalid request body")


@pytest.mark.parametrize(("key", "reason"), [(None, "missing apikey"), ("wrong", "wrong apikey")])
def test_keys(gateway: Gateway, key: str | None, reason: str) -> None:
    reply = gateway.admin("GET", "/routes", key=key)
    assert (reply.status, reply.json()) == (401, {"error_msg": "failed to check token", "description": reason})


@pytest.mark.parametrize("name", ["X-API-KEY", "x-api-key", "X-Api-Key"])
@pytest.mark.parametrize("path", ["/apisix/admin/routes", "/apisix/admin/routes/"])
@pytest.mark.parametrize("media_type", ["application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_neither_the_keys_case_nor_a_slash_nor_a_media_type_matters(
    gateway: Gateway, name: str, path: str, media_type: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.admin_port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(ROUTE), {name: ADMIN_KEY, "Content-Type": media_type})
        response = connection.getresponse()
        created = json.loads(response.read())
        assert (response.status, response.getheader("X-API-VERSION")) == (201, "v3")
        assert created["key"] == f"/apisix/routes/{created['value']['id']}"
    finally:
        connection.close()
    assert gateway.admin("DELETE", f"/routes/{created['value']['id']}/").status == 200


@pytest.mark.parametrize("path", ["", "/"])
def test_clients_see_with_head_that_the_api_is_there(gateway: Gateway, path: str) -> None:
    reply = gateway.admin("HEAD", path)
    assert (reply.status, reply.body) == (200, b"")


def test_a_number_names_what_its_digits_name(gateway: Gateway) -> None:
    created = gateway.admin("PUT", "/upstreams", UPSTREAM | {"id": 17}).json()
    assert (created["key"], created["value"]["id"]) == ("/apisix/upstreams/17", 17)
    assert gateway.admin("PUT", "/upstreams/17", UPSTREAM | {"id": 17}).json()["value"]["id"] == "17"
    assert gateway.admin("PUT", "/routes/17", {"uri": "/a", "upstream_id": 17}).json()["value"]["upstream_id"] == 17
    refused = gateway.admin("DELETE", "/upstreams/17")
    assert refused.json() == {"error_msg": "can not delete this upstream, route [17] is still using it now"}
    forced = gateway.admin("DELETE", "/upstreams/17?force=true")
    assert (forced.status, forced.json()) == (200, {"key": "/apisix/upstreams/17", "deleted": "1"})
    assert gateway.admin("DELETE", "/routes/17").status == 200


PATCHES = [
    # path below the route, body, what changes; None: is gone
    ("", {"methods": ["GET", "POST"]}, {"methods": ["GET", "POST"]}),
    ("", {"methods": ["DELETE"]}, {"methods": ["DELETE"]}),
    ("", {"upstream": {"nodes": {"127.0.0.1:8081": 1}}}, {"nodes": {"127.0.0.1:8080": 1, "127.0.0.1:8081": 1}}),
    ("", {"upstream": {"nodes": {"127.0.0.1:8080": 10}}}, {"nodes": {"127.0.0.1:8080": 10}}),
    ("", {"upstream": {"nodes": {"127.0.0.1:8080": None}}}, {"nodes": {}}),
    ("", {"desc": None}, {"desc": None}),
    ("", {"desc": None, "name": None}, {"desc": None}),
    ("", {"status": 0}, {"status": 0}),
    ("", {"update_time": 1705252779}, {"update_time": 1705252779}),
    ("", {"create_time": 1705252779}, {"create_time": 1705252779}),
    ("/", {"desc": "by a slash"}, {"desc": "by a slash"}),
    ("/upstream/nodes", {"127.0.0.1:8082": 1}, {"nodes": {"127.0.0.1:8082": 1}}),
    ("/methods", ["POST", "DELETE", "PATCH"], {"methods": ["POST", "DELETE", "PATCH"]}),
    ("/desc", "text", {"desc": "text"}),
    ("/desc", b"null", {"desc": None}),
    ("/labels/env", "production", {"labels": {"env": "production"}}),
    ("/status", 0, {"status": 0}),
]


@pytest.mark.parametrize(("path", "body", "changes"), PATCHES)
def test_patches(gateway: Gateway, path: str, body: Any, changes: dict[str, Any]) -> None:
    before = gateway.admin("PUT", "/routes/patched", ROUTE | {"desc": "old", "methods": ["GET"]}).json()["value"]
    reply = gateway.admin("PATCH", f"/routes/patched{path}", body)
    assert reply.status == 200, reply
    after = reply.json()["value"]
    expected = dict(before) | {"update_time": after["update_time"]}
    for name, value in changes.items():
        if name == "nodes":
            expected["upstream"] = UPSTREAM | {"nodes": value}
        elif value is None:
            del expected[name]
        else:
            expected[name] = value
    assert after == expected
    assert gateway.admin("GET", "/routes/patched").json()["value"] == after


@pytest.mark.parametrize(("path", "body"), [("", {"uri": 1}), ("/uri", 1), ("/labels/env", {"a": 1}), ("/status", 2)])
def test_a_patch_whose_result_does_not_fit_changes_nothing(gateway: Gateway, path: str, body: Any) -> None:
    before = gateway.admin("GET", "/routes/there").json()
    reply = gateway.admin("PATCH", f"/routes/there{path}", body)
    assert reply.status == 400
    assert reply.json()["error_msg"].startswith(INVALID)
    assert gateway.admin("GET", "/routes/there").json() == before


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that knows nothing at first, then eleven services and eleven routes."""
    with running_gateway(tmp_path_factory.mktemp("listed"), workers=1) as running:
        for kind in ("routes", "services", "upstreams"):
            for path in (f"/{kind}", f"/{kind}/", f"/{kind}?page=1&page_size=10"):
                empty = running.admin("GET", path)
                assert (empty.status, empty.json()) == (200, {"list": [], "total": 0})
        running.admin("PUT", "/upstreams/1", UPSTREAM)
        for number in range(1, 12):
            service = {"name": f"{number}", "labels": {f"{number}": f"{number}"}, "upstream_id": 1}
            assert running.admin("PUT", f"/services/{number}", service).status == 201
            refers = {"service_id": "1"} if number % 2 == 0 else {"upstream_id": "1"}
            route = {"uris": [f"/hello{number}", "/world"], "name": f"route {number}", **refers}
            assert running.admin("PUT", f"/routes/{number}", route).status == 201
        running.admin("PATCH", "/routes/2", {"labels": {"env": "production"}})
        yield running


ALL = [str(number) for number in range(1, 12)]
LISTS = [
    # path, ids on the page, total
    ("/services", ALL, 11),
    ("/services?page=1&page_size=10", ALL[:10], 11),
    ("/services?page=2&page_size=10", ALL[10:], 11),
    ("/services?page=3&page_size=10", [], 11),
    ("/services?page=-1&page_size=10", ALL[:10], 11),
    ("/services?page=0&page_size=10", ALL[:10], 11),
    ("/services?page=2", ALL, 11),
    ("/services?page_size=10", ALL, 11),
    ("/services?name=1", ["1", "10", "11"], 3),
    ("/services?name=1&page=1&page_size=10", ["1", "10", "11"], 3),
    ("/services?label=1", ["1"], 1),
    ("/services?label=", [], 0),
    ("/routes?uri=hello1", ["1", "10", "11"], 3),
    ("/routes?uri=world&label=env", ["2"], 1),
    ("/routes?label=production", [], 0),
    ("/routes?filter=service_id%3D1", ["2", "4", "6", "8", "10"], 5),
    ("/routes?filter=upstream_id%3D1", ["1", "3", "5", "7", "9", "11"], 6),
    ("/routes?filter=upstream_id%3D1%26service_id%3D1", [], 0),
    ("/routes?filter=service_id%3D1&uri=hello1", ["10"], 1),
    ("/routes?filter=service_id%3D1&page=1&page_size=10", ["2", "4", "6", "8", "10"], 5),
]


@pytest.mark.parametrize(("path", "ids", "total"), LISTS)
def test_lists(listed: Gateway, path: str, ids: list[str], total: int) -> None:
    reply = listed.admin("GET", path)
    assert (reply.status, set(reply.json())) == (200, {"list", "total"})
    items = reply.json()["list"]
    assert all(set(item) == {"key", "value", "createdIndex", "modifiedIndex"} for item in items)
    found = [item["value"]["id"] for item in items]
    if "page=" in path and "page_size=" in path:
        assert found == ids, "in the order of creation"
    assert (sorted(found), reply.json()["total"]) == (sorted(ids), total)


def test_ids_of_posts_are_twenty_digits_and_rise(listed: Gateway) -> None:
    created = [listed.admin("POST", "/upstreams", UPSTREAM) for _ in range(3)]
    assert [reply.status for reply in created] == [201] * 3
    ids = [reply.json()["value"]["id"] for reply in created]
    assert ids == sorted(set(ids))
    assert all(len(id) == 20 and id.isdigit() for id in ids)
    for id in ids:
        assert listed.admin("DELETE", f"/upstreams/{id}").json()["deleted"] == "1"


def test_a_resource_lives_as_long_as_its_ttl(listed: Gateway) -> None:
    assert listed.admin("PUT", "/routes/brief?ttl=1", ROUTE).status == 201
    assert listed.admin("GET", "/routes/brief").status == 200
    wait_until(lambda: listed.admin("GET", "/routes/brief").json() == NOT_FOUND, what="the route to expire")
