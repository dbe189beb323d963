"""What is a valid resource, rule by rule, with the path and the words of each refusal."""

from pathlib import Path
from typing import Any

import pytest

from gw.errors import InvalidResource
from gw.schema import NO_PLUGINS, PluginSchemas, load_plugin_schemas, validate
from gw.settings.tree import OWN_PLUGINS

PLUGINS = load_plugin_schemas(OWN_PLUGINS)
NODES = {"127.0.0.1:1980": 1}
UPSTREAM = {"nodes": NODES}
# APISIX's words, where it lists alternatives; the path tells what exactly does not fit.
NO_ALTERNATIVE = "object matches none of the required"
NO_NODES = f'property "nodes" validation failed: {NO_ALTERNATIVE}'
TLS = Path(__file__).resolve().parent.parent / "data" / "tls"
TLS_CERT, TLS_KEY = (TLS / "client.pem").read_text(), (TLS / "client.key").read_text()


def route(**fields: Any) -> dict[str, Any]:
    return {"uri": "/hello", "upstream": UPSTREAM} | fields


def refused(kind: str, resource: object, id: str = "1", plugins: PluginSchemas = NO_PLUGINS) -> InvalidResource:
    with pytest.raises(InvalidResource) as caught:
        validate(kind, id, resource, plugins)
    return caught.value


VALID_ROUTES: list[dict[str, Any]] = [
    route(),
    {"uris": ["/a", "/b/*", "/c/:id"], "upstream_id": 1},
    {"uri": "/a", "plugins": {}},
    {"uri": "/a", "plugins": {"key-auth": {}}},
    {"uri": "/a", "service_id": "s.1_x-y"},
    {"uri": "/a", "plugin_config_id": "1"},
    {"uri": "/a", "script": "local x = 1"},
    {"uri": "/a", "script_id": 7},
    route(id=1),
    route(id="1"),
    route(id=1.0),
    route(name="r", desc="two\nlines", labels={"env": "prod", "a b": "é"}),
    route(host="*.example.com"),
    route(host="*"),
    route(hosts=["a.com", "[::1]", "192.168.0.1", "x_y.com"]),
    route(methods=[]),
    route(methods=["GET", "PURGE"]),
    route(remote_addr="10.0.0.1"),
    route(remote_addrs=["10.1.2.3/8", "::1", "fe80::1/64", "0.0.0.0/0", "::ffff:10.0.0.0/104"]),
    route(vars=[["arg_x", "==", "1"]], filter_func="lambda vars: True"),
    route(priority=-5, status=0),
    route(priority=2**63),
    route(timeout={"connect": 0.5, "send": 1, "read": 3600}),
    route(enable_websocket=True, create_time=1, update_time=2),
    route(upstream={"service_name": "s", "discovery_type": "dns"}),
    route(upstream={"nodes": []}),
    route(upstream={"nodes": {}}),
]

REFUSED_ROUTES: list[tuple[object, str, str]] = [
    ([], "", "wrong type: expected object, got table"),
    ("x", "", "wrong type: expected object, got string"),
    (None, "", "wrong type: expected object, got null"),
    (True, "", "wrong type: expected object, got boolean"),
    (7, "", "wrong type: expected object, got number"),
    ({}, "", "allOf 1 failed: value should match only one schema, but matches none"),
    (
        route(uris=["/b"]),
        "",
        "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2",
    ),
    (
        route(host="a.com", hosts=["b.com"]),
        "",
        "only one of host or hosts is allowed",
    ),
    (
        route(remote_addr="::1", remote_addrs=["::1"]),
        "",
        "only one of remote_addr or remote_addrs is allowed",
    ),
    (
        {"uri": "/a"},
        "",
        'object matches none of the required: ["plugins"] or ["upstream"] or ["upstream_id"] or ["service_id"] or '
        '["plugin_config_id"] or ["script"] or ["script_id"]',
    ),
    ({"uri": "/a", "script": "return {}" * 2, "plugins": {}}, "", "value wasn't supposed to match schema"),
    ({"uri": "/a", "script": "return {}" * 2, "plugin_config_id": 1}, "", "value wasn't supposed to match schema"),
    (route(foo=1), "foo", "additional properties forbidden, found foo"),
    (route(**{"a\nb": 1}), '["a\\nb"]', "additional properties forbidden, found a\\nb"),
    (route(uri=1), "uri", 'property "uri" validation failed: wrong type: expected string, got number'),
    (route(uri=""), "uri", 'property "uri" validation failed: string too short, expected at least 1, got 0'),
    (
        route(uri="/" + "a" * 4096),
        "uri",
        'property "uri" validation failed: string too long, expected at most 4096, got 4097',
    ),
    (
        route(uri="/a\x00b"),
        "uri",
        'property "uri" validation failed: failed to match pattern "^[^\\\\x00-\\\\x1f\\\\x7f]*$" with "/a\\u0000b"',
    ),
    (
        route(uri="/a\n"),
        "uri",
        'property "uri" validation failed: failed to match pattern "^[^\\\\x00-\\\\x1f\\\\x7f]*$" with "/a\\n"',
    ),
    (
        {"uris": [], "plugins": {}},
        "uris",
        'property "uris" validation failed: expect array to have at least 1 items',
    ),
    (
        {"uris": ["/a", "/b", "/a"], "plugins": {}},
        "uris",
        'property "uris" validation failed: expected unique items but items 1 and 3 are equal',
    ),
    (
        route(methods=["GET", "get"]),
        "methods[1]",
        'property "methods" validation failed: failed to validate item 2: matches none of the enum values',
    ),
    (
        route(methods=[None]),
        "methods[0]",
        'property "methods" validation failed: failed to validate item 1: wrong type: expected string, got null',
    ),
    (
        route(host="a.*.com"),
        "host",
        'property "host" validation failed: failed to match pattern '
        '"^\\\\*$|^\\\\*?[0-9a-zA-Z-._\\\\[\\\\]:]+$" with "a.*.com"',
    ),
    (
        route(host="a.com\n"),
        "host",
        'property "host" validation failed: failed to match pattern '
        '"^\\\\*$|^\\\\*?[0-9a-zA-Z-._\\\\[\\\\]:]+$" with "a.com\\n"',
    ),
    (
        route(remote_addr="10.0.0.256"),
        "remote_addr",
        f'property "remote_addr" validation failed: {NO_ALTERNATIVE}',
    ),
    (
        route(remote_addrs=["::ffff:10.0.0.0/8"]),
        "remote_addrs[0]",
        f'property "remote_addrs" validation failed: failed to validate item 1: {NO_ALTERNATIVE}',
    ),
    (
        route(remote_addr=1),
        "remote_addr",
        'property "remote_addr" validation failed: wrong type: expected string, got number',
    ),
    (route(status=2), "status", 'property "status" validation failed: matches none of the enum values'),
    (
        route(status=True),
        "status",
        'property "status" validation failed: wrong type: expected integer, got boolean',
    ),
    (
        route(priority=1.5),
        "priority",
        'property "priority" validation failed: wrong type: expected integer, got number',
    ),
    (
        route(timeout={"connect": 1, "send": 1}),
        "timeout",
        'property "timeout" validation failed: property "read" is required',
    ),
    (
        route(timeout={"connect": 0, "send": 1, "read": 1}),
        "timeout.connect",
        'property "timeout" validation failed: property "connect" validation failed: expected 0 to be greater than 0',
    ),
    (
        route(labels={"env": "a b"}),
        "labels.env",
        'property "labels" validation failed: failed to validate env (matching ".*"): '
        'failed to match pattern "^\\\\S+$" with "a b"',
    ),
    (
        route(labels={"e\x1bv": "x"}),
        'labels["e\\u001bv"]',
        'property "labels" validation failed: failed to validate e\\u001bv (matching "[\\\\x00-\\\\x1f\\\\x7f]"): '
        "expect false always",
    ),
    (
        route(name="n" * 257),
        "name",
        'property "name" validation failed: string too long, expected at most 256, got 257',
    ),
    (route(plugins=[1]), "plugins", 'property "plugins" validation failed: wrong type: expected object, got table'),
    (
        route(plugins={"key-auth": "secret"}),
        "plugins.key-auth",
        "invalid plugin conf for plugin [key-auth]",
    ),
    (
        route(service_id="a/b"),
        "service_id",
        f'property "service_id" validation failed: {NO_ALTERNATIVE}',
    ),
    (
        route(upstream_id=0),
        "upstream_id",
        f'property "upstream_id" validation failed: {NO_ALTERNATIVE}',
    ),
    (
        route(upstream_id={}),
        "upstream_id",
        f'property "upstream_id" validation failed: {NO_ALTERNATIVE}',
    ),
    (route(filter_func="function"), "filter_func", None),
    (route(script="x"), "script", None),
    (route(id="2"), "id", "wrong route id"),
    (route(id=2), "id", "wrong route id"),
    (route(id=True), "id", None),
]


@pytest.mark.parametrize("resource", VALID_ROUTES)
def test_valid_routes(resource: dict[str, Any]):
    validate("routes", "1", resource)


@pytest.mark.parametrize(("resource", "path", "reason"), REFUSED_ROUTES)
def test_refused_routes(resource: object, path: str, reason: str | None):
    error = refused("routes", resource)
    assert (error.kind, error.id, error.path) == ("routes", "1", path)
    if reason is not None:
        assert error.reason == reason


VALID_UPSTREAMS: list[dict[str, Any]] = [
    {"nodes": {address: 1}}
    for address in ("a.com", "a.com:80", "127.0.0.1:65535", "[::1]:80", "[::1]", "::1", "my_host-1:8080", "a:00080")
] + [
    {"nodes": {"a:1": 0}},
    {"nodes": [{"host": "a", "weight": 0}]},
    {"nodes": [{"host": "[::1]", "port": 1, "weight": 10, "priority": -1, "metadata": {"zone": "x"}}]},
    {"nodes": NODES, "type": "no balancer of ours"},
    {"nodes": NODES, "type": "chash", "key": "remote_addr"},
    {"nodes": NODES, "type": "chash", "key": "arg_device-id"},
    {"nodes": NODES, "type": "chash", "hash_on": "header", "key": "X-Session"},
    {"nodes": NODES, "type": "chash", "hash_on": "cookie", "key": "sid"},
    {"nodes": NODES, "type": "chash", "hash_on": "consumer"},
    {"nodes": NODES, "type": "chash", "hash_on": "vars_combinations", "key": "$uri$remote_addr"},
    {"nodes": NODES, "key": "anything goes where nothing is hashed"},
    {"nodes": NODES, "pass_host": "rewrite", "upstream_host": "a.com"},
    {"nodes": {"a:1": 1, "b:1": 1}, "pass_host": "node"},
    {"nodes": NODES, "retries": 0, "retry_timeout": 0.5, "keepalive_pool": {"size": 1}},
    {"nodes": NODES, "tls": {"client_cert": TLS_CERT, "client_key": TLS_KEY}},
    {"nodes": NODES, "tls": {"client_cert_id": 1, "verify": True}},
    {"nodes": NODES, "checks": {"active": {}, "passive": {"healthy": {}}}},
    {"service_name": "s", "discovery_type": "nacos", "discovery_args": {"group_name": "g"}},
]

REFUSED_UPSTREAMS: list[tuple[object, str, str | None]] = [
    ({}, "", "value should match only one schema, but matches none"),
    ({"service_name": "s"}, "", "value should match only one schema, but matches none"),
    (
        {"nodes": NODES, "service_name": "s", "discovery_type": "dns"},
        "",
        "value should match only one schema, but matches both schemas 1 and 2",
    ),
    ({"nodes": 1}, "nodes", NO_NODES),
    ({"nodes": {"a.com:80": -1}}, 'nodes["a.com:80"]', NO_NODES),
    ({"nodes": [{"host": "a"}]}, "nodes[0]", NO_NODES),
    ({"nodes": [{"host": "a", "weight": 1, "port": 65536}]}, "nodes[0].port", NO_NODES),
    ({"nodes": {"a:0": 1}}, 'nodes["a:0"]', "invalid port 0"),
    ({"nodes": {"a:65536": 1}}, 'nodes["a:65536"]', "invalid port 65536"),
    ({"nodes": {"a:" + "9" * 5000: 1}}, None, f"invalid port {'9' * 64}..."),
    (
        {"nodes": {"a b:80": 1}},
        'nodes["a b:80"]',
        'invalid node address "a b:80": expected host or host:port, IPv6 in brackets',
    ),
    ({"nodes": {"": 1}}, 'nodes[""]', None),
    ({"nodes": {"a:": 1}}, 'nodes["a:"]', None),
    ({"nodes": {"a:x": 1}}, 'nodes["a:x"]', None),
    ({"nodes": {"[a]:80": 1}}, 'nodes["[a]:80"]', None),
    ({"nodes": {"[::1": 1}}, 'nodes["[::1"]', None),
    ({"nodes": {"fe80::1%eth0": 1}}, 'nodes["fe80::1%eth0"]', None),
    ({"nodes": {"a:80\n": 1}}, 'nodes["a:80\\n"]', None),
    ({"nodes": {"a:٨": 1}}, None, None),
    ({"nodes": NODES, "type": "a\nb"}, "type", None),
    ({"nodes": NODES, "type": "chash"}, "key", "missing key"),
    ({"nodes": NODES, "type": "chash", "hash_on": "header"}, "key", "missing key"),
    (
        {"nodes": NODES, "type": "chash", "hash_on": "header", "key": "a b"},
        "key",
        'failed to match pattern "^[a-zA-Z0-9-_]+$" with "a b"',
    ),
    ({"nodes": NODES, "type": "chash", "key": "arg_a\n"}, "key", None),
    (
        {"nodes": NODES, "type": "chash", "key": "http_x"},
        "key",
        'failed to match pattern "^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|'
        'hostname|mqtt_client_id)|arg_[0-9a-zA-z_-]+)$" with "http_x"',
    ),
    (
        {"nodes": NODES, "pass_host": "rewrite"},
        "upstream_host",
        "`upstream_host` can't be empty when `pass_host` is `rewrite`",
    ),
    ({"nodes": NODES, "pass_host": "other"}, "pass_host", None),
    ({"nodes": NODES, "upstream_host": ""}, "upstream_host", None),
    ({"nodes": NODES, "retries": -1}, "retries", None),
    (
        {"nodes": NODES, "checks": {"passive": {}}},
        "checks",
        f'property "checks" validation failed: {NO_ALTERNATIVE}: ["active"] or ["active","passive"]',
    ),
    ({"nodes": NODES, "checks": {"active": {}, "other": {}}}, "checks.other", None),
    ({"nodes": NODES, "checks": {"active": {"http_path": "/\r\nX: y"}}}, "checks.active.http_path", None),
    ({"nodes": NODES, "checks": {"active": {"req_headers": ["A: b\r\n"]}}}, "checks.active.req_headers[0]", None),
    ({"nodes": NODES, "checks": {"active": {"healthy": {"successes": 255}}}}, "checks.active.healthy.successes", None),
    (
        {"nodes": NODES, "tls": {"client_cert": TLS_CERT}},
        "tls",
        'property "tls" validation failed: failed to validate dependent schema for "client_cert": '
        'property "client_key" is required',
    ),
    (
        {"nodes": NODES, "tls": {"client_cert": TLS_CERT, "client_key": TLS_KEY, "client_cert_id": 1}},
        "tls",
        'property "tls" validation failed: failed to validate dependent schema for "client_cert_id": '
        "value wasn't supposed to match schema",
    ),
    ({"nodes": NODES, "tls": {"client_key": "short secret"}}, "tls.client_key", None),
]


@pytest.mark.parametrize("resource", VALID_UPSTREAMS)
def test_valid_upstreams_alone_and_inside(resource: dict[str, Any]):
    validate("upstreams", "u", resource)
    validate("services", "s", {"upstream": resource})
    validate("routes", "r", {"uri": "/a", "upstream": resource})


@pytest.mark.parametrize(("resource", "path", "reason"), REFUSED_UPSTREAMS)
def test_refused_upstreams_alone(resource: object, path: str | None, reason: str | None):
    error = refused("upstreams", resource)
    assert path is None or error.path == path
    assert reason is None or error.reason == reason
    assert "short secret" not in str(error)


@pytest.mark.parametrize(("resource", "path", "reason"), REFUSED_UPSTREAMS)
@pytest.mark.parametrize(("kind", "around"), [("routes", {"uri": "/a"}), ("services", {})])
def test_refused_upstreams_inside(
    kind: str, around: dict[str, Any], resource: object, path: str | None, reason: str | None
):
    error = refused(kind, around | {"upstream": resource})
    if path is not None:
        assert error.path == f"upstream{'.' if path and not path.startswith('[') else ''}{path}"
    assert reason is None or error.reason.endswith(reason)


@pytest.mark.parametrize(
    "resource",
    [{}, {"hosts": ["*.a.com"]}, {"plugins": {}, "upstream_id": "u", "script": "x" * 10, "enable_websocket": False}],
)
def test_valid_services(resource: dict[str, Any]):
    validate("services", "s", resource)


@pytest.mark.parametrize(
    ("resource", "path"),
    [({"hosts": []}, "hosts"), ({"host": "a.com"}, "host"), ({"uri": "/a"}, "uri"), ({"hosts": ["a b"]}, "hosts[0]")],
)
def test_refused_services(resource: dict[str, Any], path: str):
    assert refused("services", resource).path == path


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"plugins": [], "labels": []}, {"plugins": {}, "labels": {}}),
        ({"methods": {}, "vars": {}}, {"methods": [], "vars": []}),
        ({"plugins": {"not-here": []}}, {"plugins": {"not-here": {}}}),
        ({"plugins": {"request-id": [], "key-auth": {"_meta": []}}}, None),
        ({"upstream": {"nodes": [{"host": "a", "weight": 1, "metadata": []}], "checks": {"active": []}}}, None),
        # What is not empty is no other kind, and what is empty must still do.
        ({"plugins": [{}]}, "plugins"),
        ({"labels": {"a": []}}, "labels.a"),
        ({"hosts": {}}, "hosts"),
        ({"upstream": []}, "upstream"),
        ({"plugins": {"limit-count": []}}, "plugins.limit-count"),
    ],
)
def test_what_is_empty_is_of_the_kind_that_is_asked_for(sent: dict[str, Any], kept: dict[str, Any] | str | None):
    """As in APISIX, whose Lua has one empty table."""
    if isinstance(kept, str):
        assert refused("routes", route(**sent), plugins=PLUGINS).path == kept
    else:
        found = validate("routes", "1", route(**sent), PLUGINS)
        assert kept is None or {name: found[name] for name in kept} == kept


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "where", "reason"),
    [
        (float("nan"), ".x", "number is not finite"),
        (float("-inf"), ".x", "number is not finite"),
        (2**64, ".x", "number out of range: more than 64 bits"),
        (-(2**63) - 1, ".x", "number out of range: more than 64 bits"),
        (1e300, ".x", "number out of range: more than 64 bits"),
        ("\ud800", ".x", "string holds half of a surrogate pair, which UTF-8 cannot carry"),
        ({"\udfff": 1}, '.x["\\udfff"]', "string holds half of a surrogate pair, which UTF-8 cannot carry"),
        (b"bytes", ".x", "wrong type: bytes is not a type of JSON"),
        ({1: 2}, '.x["1"]', "wrong type: a property's name is not a string"),
        (nested(10_000), ".x" + "[0]" * 125, "nested too deeply: more than 128 levels"),
    ],
)
def test_what_no_resource_may_hold_anywhere(value: Any, where: str, reason: str):
    error = refused("routes", route(plugins={"p": {"x": value}}))
    assert error.path == "plugins.p" + where
    assert error.reason.endswith(reason)
    assert error.reason.startswith('property "plugins" validation failed: property "p" validation failed: ')


def test_nesting_within_the_bound_is_kept():
    resource = route(plugins={"p": {"x": nested(125)}})
    assert validate("routes", "1", resource)["plugins"] == resource["plugins"]


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        *((id, NO_ALTERNATIVE) for id in ("", "a" * 65, "a/b", "../x", "a%2fb", "a\x00", "a\n", "é")),
        (".", '"." is reserved'),
        ("..", '".." is reserved'),
    ],
)
@pytest.mark.parametrize(("kind", "resource"), [("routes", route()), ("services", {}), ("upstreams", UPSTREAM)])
def test_refused_ids(kind: str, resource: dict[str, Any], id: str, reason: str):
    error = refused(kind, resource, id)
    assert error.path == "id"
    assert error.reason == f'property "id" validation failed: {reason}'
    assert error.id.isprintable()


@pytest.mark.parametrize("id", ["1", "a" * 64, "a..b", "A-z_0.9", "..."])
def test_accepted_ids(id: str):
    validate("routes", id, route(id=id))


def test_quotes_of_what_was_sent_are_bounded():
    error = refused("routes", route(host="?" * 100_000))
    assert len(error.reason) < 250
