"""Good and bad documents of each kind, and why the bad ones are refused: in APISIX's words where its tests pin them."""

from typing import Any

import pytest

from gw.errors import InvalidResource
from gw.schema import load_plugin_schemas, validate
from gw.settings.tree import OWN_PLUGINS

CERT = {"cert": "$secret://vault/1/c", "key": "$env://KEY"}
LOGGER = {"name": "a", "conf": {}}
NODES = {"127.0.0.1:80": 1}
UPSTREAM = {"nodes": NODES}
IDS = {"consumers": "jack", "credentials": "jack/1", "plugins": "", "plugin_metadata": "syslog"}
IDS |= {f"secrets/{manager}": f"{manager}/1" for manager in ("vault", "aws", "gcp", "kubernetes")}
VAULT = {"uri": "http://127.0.0.1:8200", "prefix": "kv/apisix", "token": "t"}
AWS = {"access_key_id": "a", "secret_access_key": "b"}
GCP = {"client_email": "a@b", "private_key": "k", "project_id": "p"}

GOOD: list[tuple[str, Any]] = [
    ("routes", {"uri": "/a", "plugins": {}, "service_protocol": "grpc"}),
    ("routes", {"id": 1, "uri": "/a", "upstream_id": 7}),
    ("routes", {"uris": ["/a", "/b"], "service_id": "a.b", "vars": [["arg_a", "==", "b"]]}),
    ("routes", {"uri": "/a", "script": "local x = 1"}),
    ("services", {}),
    ("services", {"hosts": ["a.com"], "upstream_id": "1"}),
    ("upstreams", {"service_name": "a", "discovery_type": "nacos", "discovery_args": {"group_name": "g"}}),
    ("upstreams", {"nodes": NODES, "tls": {"client_cert_id": 1}, "scheme": "https"}),
    (
        "upstreams",
        {"nodes": NODES, "warm_up_conf": {"slow_start_time_seconds": 30, "min_weight_percent": 1, "interval": 5}},
    ),
    ("consumers", {"username": "jack"}),
    ("consumers", {"username": "jack", "group_id": 1, "desc": "d", "labels": {"a": "b"}, "plugins": {}}),
    ("consumer_groups", {"plugins": {}, "name": "n", "desc": "d", "labels": {}, "id": 1}),
    ("credentials", {}),
    ("credentials", {"plugins": {"key-auth": {"key": "k"}}, "name": "n", "desc": "d", "labels": {"a": "b"}}),
    ("global_rules", {"plugins": {}}),
    ("plugin_configs", {"plugins": {}, "name": "n"}),
    ("plugin_metadata", {"anything": 1}),
    ("plugins", []),
    ("plugins", [{"name": "ip-restriction"}, {"name": "mqtt-proxy", "stream": True}]),
    ("ssls", CERT | {"sni": "*.a.com"}),
    ("ssls", CERT | {"snis": ["a.com", "b.com"], "type": "server", "ssl_protocols": ["TLSv1.2", "TLSv1.3"]}),
    ("ssls", CERT | {"type": "client"}),
    ("ssls", CERT | {"sni": "a", "certs": ["$env://C"], "keys": ["$ENV://K"]}),
    ("ssls", CERT | {"sni": "a", "client": {"ca": "$env://A", "depth": 2}}),
    ("ssls", CERT | {"sni": "a", "validity_start": 1, "validity_end": 2, "exptime": 1588262400, "status": 0}),
    ("ssls", CERT | {"sni": "a", "client": {"ca": "$env://A", "skip_mtls_uri_regex": ["/hello[0-9]+"]}}),
    ("protos", {"content": 'syntax = "proto3";', "name": "n", "desc": "d", "labels": {}}),
    ("secrets/vault", VAULT | {"namespace": "admin"}),
    ("secrets/aws", AWS | {"region": "eu-west-1", "session_token": "t", "endpoint_url": "http://127.0.0.1:4566"}),
    ("secrets/gcp", {"auth_config": GCP, "ssl_verify": False}),
    ("secrets/gcp", {"auth_file": "/etc/gcp.json"}),
    ("secrets/kubernetes", {}),
    ("secrets/kubernetes", {"kubernetes_host": "k", "kubernetes_port": "443", "ssl_verify": False}),
    ("stream_routes", {}),
    (
        "stream_routes",
        {
            "name": "n",
            "remote_addr": "10.0.0.0/8",
            "server_addr": "::1",
            "server_port": 9100,
            "sni": "a.com",
            "upstream": UPSTREAM | {"scheme": "tls"},
            "plugins": {},
            "protocol": {"name": "redis", "conf": {"faults": []}, "superior_id": 1, "logger": [LOGGER]},
        },
    ),
    ("stream_routes", {"upstream_id": 1, "service_id": "s"}),
]

FORBIDDEN = "additional properties forbidden, found x"
ANY_CONTENT = "wrong type: expected string, got number"
BAD: list[tuple[str, Any, str]] = [
    ("routes", {"uri": "/a"}, "object matches none of the required: "),
    ("routes", {"plugins": {}}, "allOf 1 failed: value should match only one schema, but matches none"),
    (
        "routes",
        {"uri": "/a", "uris": ["/b"], "plugins": {}},
        "allOf 1 failed: value should match only one schema, but matches both schemas 1 and 2",
    ),
    ("routes", {"uri": "/a", "script": "local x = 1", "plugins": {}}, "value wasn't supposed to match schema"),
    ("routes", {"uri": "/a", "script": "local x = 1", "plugin_config_id": 1}, "value wasn't supposed to match schema"),
    ("routes", {"uri": "/a", "plugins": {}, "host": "a", "hosts": ["b"]}, "only one of host or hosts is allowed"),
    (
        "routes",
        {"uri": "/a", "plugins": {}, "remote_addr": "::1", "remote_addrs": ["::1"]},
        "only one of remote_addr or remote_addrs is allowed",
    ),
    ("consumers", {}, 'property "username" is required'),
    ("consumers", {"username": "jack", "x": 1}, FORBIDDEN),
    ("consumers", {"username": "a b"}, 'property "username" validation failed: failed to match pattern'),
    (
        "consumers",
        {"username": ""},
        'property "username" validation failed: string too short, expected at least 1, got 0',
    ),
    ("consumers", {"username": "rose"}, "wrong username"),
    ("consumers", {"username": "jack", "group_id": 0}, 'property "group_id" validation failed: '),
    ("consumers", {"username": "jack", "plugins": [1]}, 'property "plugins" validation failed: wrong type: '),
    ("consumer_groups", {}, 'property "plugins" is required'),
    ("consumer_groups", {"plugins": {}, "x": 1}, FORBIDDEN),
    ("consumer_groups", {"plugins": {}, "id": "2"}, "wrong consumer group id"),
    ("consumer_groups", {"plugins": {}, "name": ""}, 'property "name" validation failed: string too short'),
    (
        "credentials",
        {"plugins": {"key-auth": {}, "basic-auth": {}}},
        'property "plugins" validation failed: expect object to have at most 1 properties',
    ),
    ("credentials", {"x": 1}, FORBIDDEN),
    ("credentials", {"username": "jack"}, "additional properties forbidden, found username"),
    ("global_rules", {}, 'property "plugins" is required'),
    ("plugin_configs", {}, 'property "plugins" is required'),
    ("plugin_configs", {"plugins": {}, "desc": "d" * 257}, 'property "desc" validation failed: string too long'),
    ("plugins", {}, 'property "plugins" is required'),
    ("plugins", ["ip-restriction"], 'property "plugins" validation failed: failed to validate item 1: wrong type: '),
    ("plugins", [{}], 'property "plugins" validation failed: failed to validate item 1: property "name" is required'),
    ("ssls", {}, "then clause did not match"),
    ("ssls", CERT, "then clause did not match"),
    ("ssls", CERT | {"type": "server"}, "then clause did not match"),
    ("ssls", CERT | {"sni": "a", "snis": ["b"]}, "then clause did not match"),
    ("ssls", {"sni": "a", "cert": "$env://C"}, "then clause did not match"),
    ("ssls", {"type": "client", "cert": "$env://C"}, "else clause did not match"),
    ("ssls", CERT | {"type": "other"}, 'property "type" validation failed: matches none of the enum values'),
    ("ssls", CERT | {"snis": []}, 'property "snis" validation failed: expect array to have at least 1 items'),
    ("ssls", CERT | {"sni": "a b"}, 'property "sni" validation failed: failed to match pattern'),
    (
        "ssls",
        {"sni": "a", "cert": "short", "key": "short"},
        'property "cert" validation failed: value should match only one schema, but matches none',
    ),
    ("ssls", CERT | {"sni": "a", "keys": ["$env://K"]}, "mismatched number of certs and keys"),
    ("ssls", CERT | {"sni": "a", "client": {}}, 'property "client" validation failed: property "ca" is required'),
    ("ssls", CERT | {"sni": "a", "ssl_protocols": ["SSLv3"]}, 'property "ssl_protocols" validation failed: failed to '),
    ("ssls", CERT | {"sni": "a", "exptime": 1}, 'property "exptime" validation failed: expected 1 to be at least'),
    ("ssls", CERT | {"sni": "a", "x": 1}, FORBIDDEN),
    ("protos", {}, 'property "content" is required'),
    ("protos", {"content": 1}, f'property "content" validation failed: {ANY_CONTENT}'),
    ("protos", {"content": ""}, 'property "content" validation failed: string too short, expected at least 1, got 0'),
    ("protos", {"content": "x" * 1048577}, 'property "content" validation failed: string too long'),
    ("protos", {"content": "message {", "x": 1}, FORBIDDEN),
    ("protos", {"content": "message A {"}, "invalid content: { is not closed (line 1)"),
    ("secrets/vault", {"prefix": "p", "token": "t"}, 'property "uri" is required'),
    ("secrets/vault", {"uri": "http://a", "token": "t"}, 'property "prefix" is required'),
    ("secrets/vault", VAULT | {"uri": "127.0.0.1"}, 'property "uri" validation failed: failed to match pattern'),
    (
        "secrets/vault",
        VAULT | {"token": 1},
        'property "token" validation failed: wrong type: expected string, got number',
    ),
    ("secrets/aws", {"access_key_id": "a"}, 'property "secret_access_key" is required'),
    ("secrets/gcp", {}, "value should match only one schema, but matches none"),
    (
        "secrets/gcp",
        {"auth_file": "/a", "auth_config": GCP},
        "value should match only one schema, but matches both schemas 1 and 2",
    ),
    (
        "secrets/gcp",
        {"auth_config": {}},
        'property "auth_config" validation failed: property "client_email" is required',
    ),
    (
        "secrets/kubernetes",
        {"kubernetes_port": 443},
        'property "kubernetes_port" validation failed: wrong type: expected string, got number',
    ),
    ("stream_routes", {"x": 1}, FORBIDDEN),
    (
        "stream_routes",
        {"server_addr": "a"},
        'property "server_addr" validation failed: object matches none of the required',
    ),
    ("stream_routes", {"remote_addr": "10.0.0.0/33"}, 'property "remote_addr" validation failed: object matches none'),
    ("stream_routes", {"server_port": "1"}, 'property "server_port" validation failed: wrong type: expected integer'),
    ("stream_routes", {"upstream": {}}, 'property "upstream" validation failed: value should match only one schema'),
    ("stream_routes", {"upstream": UPSTREAM | {"type": "chash"}}, "missing key"),
    ("stream_routes", {"protocol": {}}, 'property "protocol" validation failed: property "name" is required'),
    (
        "stream_routes",
        {"protocol": {"name": "redis", "logger": [{"name": "syslog"}]}},
        'property "protocol" validation failed: property "logger" validation failed: failed to validate item 1: '
        'property "conf" is required when "name" is set',
    ),
    (
        "upstreams",
        {"nodes": NODES, "warm_up_conf": {}},
        'property "warm_up_conf" validation failed: property "slow_start_time_seconds" is required',
    ),
]


def key_of(name: str) -> tuple[str, str]:
    return name.partition("/")[0], IDS.get(name, "1")


@pytest.mark.parametrize(("name", "resource"), GOOD)
def test_good_documents(name: str, resource: Any) -> None:
    kind, id = key_of(name)
    checked = validate(kind, id, resource)
    assert validate(kind, id, checked) == checked, "what has been checked can be checked again"
    if isinstance(resource, dict):
        assert {field: checked[field] for field in resource}.keys() == resource.keys()


@pytest.mark.parametrize(("name", "resource", "reason"), BAD)
def test_bad_documents(name: str, resource: Any, reason: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        validate(*key_of(name), resource)
    assert refused.value.reason.startswith(reason)


@pytest.mark.parametrize("name", sorted({name for name, _ in GOOD}))
@pytest.mark.parametrize("resource", [None, 1, "x", True, [1], {"": 1}, {"create_time": "x", "plugins": 1}])
def test_nothing_else_passes(name: str, resource: Any) -> None:
    if name in ("plugin_metadata", "secrets/kubernetes") and resource == {"": 1}:
        return
    with pytest.raises(InvalidResource):
        validate(*key_of(name), resource)


@pytest.mark.parametrize("name", sorted({name for name, _ in GOOD} - {"plugins"}))
@pytest.mark.parametrize(
    ("fields", "is_good"),
    [
        ({"create_time": 1, "update_time": 2}, True),
        ({"create_time": "1"}, False),
        ({"update_time": 1.5}, False),
    ],
)
def test_times_are_whole_seconds(name: str, fields: dict[str, Any], is_good: bool) -> None:
    resource = next(resource for of, resource in GOOD if of == name) | fields
    if is_good:
        validate(*key_of(name), resource)
        return
    with pytest.raises(InvalidResource):
        validate(*key_of(name), resource)


DEFAULTS = [
    ("ssls", CERT | {"sni": "a", "client": {"ca": "$env://A"}}, {"type": "server", "status": 1}),
    ("secrets/aws", AWS, {"region": "us-east-1"}),
    ("secrets/gcp", {"auth_file": "/a"}, {"ssl_verify": True}),
    ("plugins", [{"name": "a"}], {"plugins": [{"name": "a"}]}),
]


@pytest.mark.parametrize(("name", "resource", "filled"), DEFAULTS)
def test_defaults(name: str, resource: Any, filled: dict[str, Any]) -> None:
    checked = validate(*key_of(name), resource)
    assert {field: checked[field] for field in filled} == filled


def test_a_consumer_of_2x_is_read_without_its_id_and_not_written_with_it() -> None:
    """APISIX 2.x let it pass, and its dashboard wrote it into each (handler/consumer of apisix-dashboard)."""
    stored = {"username": "jack", "id": "jack", "plugins": {}}
    assert validate("consumers", "jack", stored) == {"username": "jack", "plugins": {}}
    with pytest.raises(InvalidResource, match="additional properties forbidden, found id"):
        validate("consumers", "jack", stored, refuse_unknown=True)


@pytest.mark.parametrize("name", ["consumers", "credentials"])
def test_what_is_wrong_with_plugins_of_consumers_is_said_as_apisix_says_it(name: str) -> None:
    plugins = load_plugin_schemas(OWN_PLUGINS)
    resource = {"username": "jack"} if name == "consumers" else {}
    before = "invalid plugins configuration: "
    with pytest.raises(InvalidResource) as refused:
        validate(*key_of(name), resource | {"plugins": {"forward-auth": {}}}, plugins)
    assert refused.value.reason == (
        f'{before}failed to check the configuration of plugin forward-auth err: property "uri" is required'
    )
    with pytest.raises(InvalidResource) as refused:
        validate(*key_of(name), resource | {"plugins": {"no-plugin": {}}}, plugins, refuse_unknown=True)
    assert refused.value.reason == f"{before}unknown plugin [no-plugin]"
