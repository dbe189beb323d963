"""What is asked of a plugin's configuration, and in which words it is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gw.errors import InvalidResource
from gw.schema import load_plugin_schemas, validate
from gw.schema.compiled import compile_check
from gw.schema.explain import explain
from gw.schema.installed import InstalledPlugin
from gw.schema.plugin_schemas import PluginSchemas
from gw.schema.screen import copy_json
from gw.settings.tree import OWN_PLUGINS

UPSTREAM = {"nodes": {"127.0.0.1:80": 1}}
OURS = load_plugin_schemas(OWN_PLUGINS)
URI = {"uri": "http://127.0.0.1:1"}


def route(**plugins: Any) -> dict[str, Any]:
    confs = {name.replace("_", "-"): conf for name, conf in plugins.items()}
    return {"uri": "/a", "upstream": UPSTREAM, "plugins": confs}


def of(name: str, reason: str) -> str:
    return f"failed to check the configuration of plugin {name} err: {reason}"


REFUSED = [
    (route(jwt_auth={}), "plugins.jwt-auth", "unknown plugin [jwt-auth]"),
    (route(jwt_auth={"_meta": {"disable": True}}), "plugins.jwt-auth", "unknown plugin [jwt-auth]"),
    (route(jwt_auth="blah"), "plugins.jwt-auth", 'invalid plugin conf "blah" for plugin [jwt-auth]'),
    (route(forward_auth=None), "plugins.forward-auth", "invalid plugin conf null for plugin [forward-auth]"),
    (route(forward_auth=[7]), "plugins.forward-auth", "invalid plugin conf [7] for plugin [forward-auth]"),
    (route(**{"a\x1b": {}}), 'plugins["a\\u001b"]', "invalid plugin name [a\\u001b]: control characters"),
    (route(forward_auth={}), "plugins.forward-auth", of("forward-auth", 'property "uri" is required')),
    (
        route(forward_auth=URI | {"timeout": "3"}),
        "plugins.forward-auth.timeout",
        of("forward-auth", 'property "timeout" validation failed: wrong type: expected integer, got string'),
    ),
    (
        route(forward_auth=URI | {"_meta": {"disable": 1}}),
        "plugins.forward-auth._meta.disable",
        of(
            "forward-auth",
            'property "_meta" validation failed: property "disable" validation failed: '
            "wrong type: expected boolean, got number",
        ),
    ),
    (
        route(forward_auth=URI | {"_meta": {"error_response": 7}}),
        "plugins.forward-auth._meta.error_response",
        of(
            "forward-auth",
            'property "_meta" validation failed: property "error_response" validation failed: '
            "value should match only one schema, but matches none",
        ),
    ),
    (
        route(forward_auth=URI | {"_meta": {"disabled": True}}),
        "plugins.forward-auth._meta.disabled",
        of(
            "forward-auth",
            'property "_meta" validation failed: additional properties forbidden, found disabled',
        ),
    ),
    (
        route(proxy_rewrite={"headers": {}}),
        "plugins.proxy-rewrite.headers",
        of(
            "proxy-rewrite",
            'property "headers" validation failed: value should match only one schema, but matches none',
        ),
    ),
    (
        route(response_rewrite={"body": "x", "filters": [{"regex": "x", "replace": "y"}]}),
        "plugins.response-rewrite",
        of(
            "response-rewrite",
            'failed to validate dependent schema for "body": value wasn\'t supposed to match schema',
        ),
    ),
]


@pytest.mark.parametrize(("resource", "path", "reason"), REFUSED)
def test_refusals_are_in_the_words_of_apisix(resource: dict[str, Any], path: str, reason: str):
    before = deepcopy(resource)
    with pytest.raises(InvalidResource) as refusal:
        validate("routes", "1", resource, OURS, refuse_unknown=True)
    assert (refusal.value.path, refusal.value.reason) == (path, reason)
    assert refusal.value.stands_alone
    assert resource == before


LIMIT = {"count": 1, "time_window": 60}
REDIS = LIMIT | {"policy": "redis", "redis_host": "127.0.0.1"}
RULE = LIMIT | {"key": "$http_a"}
TOGETHER = "cannot be specified at the same time"
NO_LIMIT = "value should match only one schema, but matches none"
RULES = [
    # plugin, configuration, place in it, beginning of the reason
    ("proxy-rewrite", {"regex_uri": ["/a", "/b", "/c"]}, "regex_uri", "The length of regex_uri should be an even"),
    ("proxy-rewrite", {"regex_uri": ["/(a", "/$1"]}, "regex_uri[0]", "invalid regex_uri(/(a, /$1): "),
    ("proxy-rewrite", {"regex_uri": ["/a", "/b", "/(c)", "$x"]}, "regex_uri[2]", "invalid regex_uri(/(c), $x): "),
    ("response-rewrite", {"body_base64": True}, "body", "invalid base64 content"),
    ("response-rewrite", {"body_base64": True, "body": "1"}, "body", "invalid base64 content"),
    ("response-rewrite", {"vars": [["a", "=", 1]]}, "vars[0]", "failed to validate the 'vars' expression: invalid"),
    ("response-rewrite", {"filters": [{"regex": "(a", "replace": ""}]}, "filters[0]", 'regex "(a" validation failed: '),
    (
        "response-rewrite",
        {"filters": [{"regex": "a", "replace": "", "options": "jh"}]},
        "filters[0]",
        'regex "a" validation failed: unknown flag "h" (flags "jh")',
    ),
    ("limit-count", REDIS | {"sync_interval": 0.05}, "sync_interval", "sync_interval should not be smaller than 0.1"),
    ("limit-count", REDIS | {"sync_interval": 60}, "sync_interval", "sync_interval should be smaller than time_window"),
    (
        "http-logger",
        URI | {"include_resp_body_expr": [["a", "<>", "b"]]},
        "include_resp_body_expr[0]",
        "failed to validate the 'include_resp_body_expr' expression: invalid operator '<>'",
    ),
]
WORDS = [
    # what does not fit its schema, in words of the plugin's own
    ("limit-count", LIMIT | {"rules": [RULE]}, "", f"count/time_window and rules {TOGETHER}"),
    ("limit-count", {"rules": [RULE], "group": "g"}, "", f"group and rules {TOGETHER}"),
    ("limit-count", LIMIT | {"count": -1}, "count", f'property "count" validation failed: {NO_LIMIT}'),
    ("proxy-rewrite", {"headers": {"": 1}}, "headers", "invalid field length in header"),
    ("proxy-rewrite", {"headers": {"a b": 1}}, "headers", "invalid field character in header"),
    ("proxy-rewrite", {"headers": {"a": "b\r"}}, "headers", "invalid value character in header"),
    ("response-rewrite", {"headers": {"a": []}}, "headers", "invalid type as header value"),
    ("response-rewrite", {"headers": {"": 1}}, "headers", "invalid field length in header"),
]


@pytest.mark.parametrize(("name", "conf", "place", "reason"), RULES + WORDS)
def test_reasons_of_a_plugin_s_own(name: str, conf: dict[str, Any], place: str, reason: str):
    with pytest.raises(InvalidResource) as refusal:
        validate("routes", "1", route(**{name: conf}), OURS, refuse_unknown=True)
    assert refusal.value.path == ".".join(filter(None, ("plugins", name, place)))
    assert refusal.value.reason.startswith(of(name, reason))


@pytest.mark.parametrize(("name", "conf"), [row[:2] for row in RULES])
def test_what_a_schema_cannot_say_is_published_for_the_worker_to_find(name: str, conf: dict[str, Any]):
    assert validate("routes", "1", route(**{name: conf}), OURS)["plugins"][name].keys() >= conf.keys()


@pytest.mark.parametrize(
    ("kind", "before"), [("routes", ""), ("consumers", "invalid plugins configuration: "), ("global_rules", "")]
)
def test_what_stands_for_a_configuration_is_repeated_to_who_sent_it(kind: str, before: str):
    own = {"routes": {"uri": "/a"}, "consumers": {"username": "jack"}}.get(kind, {})
    for conf, shown in (("blah", '"blah"'), (None, "null"), ([1], "[1]")):
        resource = {**own, "plugins": {"basic-auth": conf}}
        with pytest.raises(InvalidResource) as refusal:
            validate(kind, "jack" if kind == "consumers" else "1", resource, OURS, refuse_unknown=True)
        assert refusal.value.reason == f"{before}invalid plugin conf {shown} for plugin [basic-auth]"
        assert refusal.value.stands_alone
        with pytest.raises(InvalidResource, match=r"invalid plugin conf for plugin \[basic-auth\]"):
            validate(kind, "jack" if kind == "consumers" else "1", resource, OURS)


@pytest.mark.parametrize("kind", ["routes", "services", "plugin_configs", "global_rules"])
def test_every_kind_with_plugins_has_them_checked(kind: str):
    resource = route(forward_auth={}) if kind == "routes" else {"plugins": {"forward-auth": {}}}
    with pytest.raises(InvalidResource, match='property "uri" is required'):
        validate(kind, "1", resource, OURS)


def test_defaults_are_filled_in_and_the_rest_is_left():
    resource = route(forward_auth=URI | {"mine": 1.0, "_meta": {"priority": 7}}, unknown={"a": 1})
    plugins = validate("routes", "1", resource, OURS)["plugins"]
    assert plugins["forward-auth"]["timeout"] == 3000
    assert plugins["forward-auth"]["request_headers"] == []
    assert plugins["forward-auth"]["mine"] == 1
    assert plugins["forward-auth"]["_meta"] == {"priority": 7}
    assert plugins["unknown"] == {"a": 1}, "publishing loses nothing over a plugin that is not there"
    assert validate("routes", "1", validate("routes", "1", resource, OURS), OURS)["plugins"] == plugins


def test_two_configurations_share_no_default():
    one, other = (validate("routes", "1", route(forward_auth=URI), OURS) for _ in range(2))
    one["plugins"]["forward-auth"]["request_headers"].append("x")
    assert other["plugins"]["forward-auth"]["request_headers"] == []


REF = "$env://ANY"


@pytest.mark.parametrize(
    ("name", "conf"),
    [
        # A pattern, an enumeration, a number; a member that is required; within lists and one of several shapes.
        ("proxy-rewrite", {"uri": REF, "method": "$ENV://M", "headers": {"set": {"X-A": REF}}}),
        ("forward-auth", {"uri": "$secret://vault/1/a/b", "timeout": REF, "request_headers": [REF], "ssl_verify": REF}),
        ("limit-count", {"count": REF, "time_window": 60}),
        ("http-logger", {"uri": REF, "timeout": REF}),
    ],
)
def test_a_reference_stands_for_any_value(name: str, conf: dict[str, Any]):
    """apisix/apisix 13312. What else is asked for counts as before, and defaults are filled in."""
    plugins = validate("routes", "1", route(**{name: deepcopy(conf)}), OURS, refuse_unknown=True)["plugins"]
    assert plugins[name].items() >= {field: value for field, value in conf.items() if field != "headers"}.items()


@pytest.mark.parametrize(
    ("resource", "reason"),
    [
        (route(forward_auth={"timeout": REF}), of("forward-auth", 'property "uri" is required')),
        (
            route(forward_auth={"uri": REF, "timeout": "3"}),
            of("forward-auth", 'property "timeout" validation failed'),
        ),
        (route(forward_auth={"uri": REF, "_meta": {"disable": REF}}), of("forward-auth", 'property "_meta"')),
        (route(forward_auth={"uri": f" {REF}"}), of("forward-auth", 'property "uri" validation failed')),
        (route(forward_auth={"uri": "$SECRET://vault/1/a"}), of("forward-auth", 'property "uri" validation failed')),
    ],
)
def test_beside_a_reference_nothing_else_passes(resource: dict[str, Any], reason: str):
    with pytest.raises(InvalidResource) as refusal:
        validate("routes", "1", resource, OURS, refuse_unknown=True)
    assert refusal.value.reason.startswith(reason)


METADATA = [
    # name, metadata, path and reason; None: it passes
    ("http-logger", {"log_format": {"host": "$host"}}, None),
    ("http-logger", {"id": "http-logger", "create_time": 1, "update_time": 2, "log_format": {}}, None),
    ("request-id", {"whatever": 1}, None),
    ("request-id", {"upstream": False}, None),
    (
        "http-logger",
        {"log_format": REF},
        ("log_format", 'property "log_format" validation failed: wrong type: expected object, got string'),
    ),
    (
        "http-logger",
        {"log_format": 7},
        ("log_format", 'property "log_format" validation failed: wrong type: expected object, got number'),
    ),
    ("nobody", {}, ("id", "invalid plugin name")),
    ("http-logger", {"id": "other"}, ("id", "wrong plugin_metadata id")),
]


@pytest.mark.parametrize(("name", "metadata", "refusal"), METADATA)
def test_metadata(name: str, metadata: dict[str, Any], refusal: tuple[str, str] | None):
    if refusal is None:
        assert validate("plugin_metadata", name, metadata, OURS, refuse_unknown=True).items() >= metadata.items()
        return
    with pytest.raises(InvalidResource) as refused:
        validate("plugin_metadata", name, metadata, OURS, refuse_unknown=True)
    assert (refused.value.path, refused.value.reason) == refusal


def test_metadata_of_a_plugin_that_is_not_enabled_is_published_as_it_is():
    assert validate("plugin_metadata", "nobody", {"a": 1}, OURS) == {"a": 1}


def test_what_is_not_enabled_is_not_known():
    only = load_plugin_schemas(["forward-auth"])
    assert only.names == {"forward-auth"}
    assert only.problems == {}
    with pytest.raises(InvalidResource, match=r"unknown plugin \[http-logger\]"):
        validate("routes", "1", route(http_logger=URI), only, refuse_unknown=True)


def test_a_name_that_nothing_installed_has_is_a_problem_and_no_more():
    loaded = load_plugin_schemas(["forward-auth", "prometheus"])
    assert loaded.names == {"forward-auth"}
    assert loaded.problems == {"prometheus": "is not installed"}


UNUSABLE = [
    # content of the file, what is said of it
    (None, "cannot be read: No such file"),
    ("{", "is not JSON"),
    ("[]", "must be the schema of an object"),
    ('{"type": "array"}', "must be the schema of an object"),
    ('{"$schema": "https://json-schema.org/draft/2020-12/schema"}', "another draft than 7"),
    ('{"properties": {"_meta": {}}}', "without _meta"),
    ('{"properties": []}', "properties must be an object"),
    ('{"properties": {"a": {"type": "nonsense"}}}', "is not a JSON Schema"),
    ('{"properties": {"a": {"pattern": "("}}}', "is not a JSON Schema"),
    ('{"properties": {"a": {"$ref": "#/definitions/a"}}}', "$ref #/definitions/a names nothing"),
    ('{"properties": {"a": {"$ref": "http://127.0.0.1:1/a.json"}}}', "$ref http://127.0.0.1:1/a.json names nothing"),
    (
        '{"items": {"$ref": "#/definitions/a"}, "definitions": {"a": {"items": {"$ref": "#/definitions/a"}}}}',
        "leads back to itself",
    ),
]


def loaded_from(directory: Path, schema: str | None, metadata: str | None = None) -> PluginSchemas:
    path = directory / "mine.json"
    if schema is not None:
        path.write_text(schema)
    if metadata is not None:
        (directory / "mine.metadata.json").write_text(metadata)
    return load_plugin_schemas(["mine"], [InstalledPlugin("mine", "a.b", "C", "dist", path)])


@pytest.mark.parametrize(("content", "said"), UNUSABLE)
def test_a_schema_that_cannot_be_used_is_told_and_its_plugin_not_known(tmp_path: Path, content: str | None, said: str):
    loaded = loaded_from(tmp_path, content)
    assert loaded.names == frozenset()
    assert said in loaded.problems["mine"]
    assert "a.b:C of dist" in loaded.problems["mine"]


def test_neither_is_one_whose_metadata_has_no_usable_schema(tmp_path: Path):
    loaded = loaded_from(tmp_path, "{}", "[]")
    assert loaded.names == frozenset()
    assert "mine.metadata.json must be the schema of an object" in loaded.problems["mine"]


def test_references_within_the_file_are_written_out(tmp_path: Path):
    schema = {
        "properties": {"a": {"$ref": "#/definitions/count"}, "b": {"items": {"$ref": "#/definitions/a~1b"}}},
        "definitions": {"count": {"type": "integer", "default": 3}, "a/b": {"$ref": "#/definitions/count"}},
    }
    loaded = loaded_from(tmp_path, json.dumps(schema))
    assert loaded.problems == {}
    assert "$ref" not in json.dumps(loaded.schema_of("mine"))
    assert validate("routes", "1", route(mine={"b": [1]}), loaded)["plugins"]["mine"] == {"a": 3, "b": [1]}


def test_words_that_nobody_can_explain_are_refused_all_the_same(tmp_path: Path):
    loaded = loaded_from(tmp_path, '{"properties": {"at": {"type": "string", "format": "date"}}}')
    with pytest.raises(InvalidResource, match=r"plugin mine err: data\.at must be date"):
        validate("routes", "1", route(mine={"at": "no date"}), loaded)


# Every word of draft 7 that explain knows, so that it and the compiled check are held together in each.
WORDS: list[dict[str, Any]] = [
    {"minProperties": 1, "maxProperties": 2},
    {"propertyNames": {"maxLength": 1}},
    {"properties": {"a": {"maxItems": 1, "contains": {"type": "integer"}}}},
    {"properties": {"a": {"items": [{"type": "integer"}, {"type": "string"}], "additionalItems": False}}},
    {"properties": {"a": {"items": [{"type": "integer"}], "additionalItems": {"type": "string"}}}},
    {"properties": {"a": {"exclusiveMaximum": 2, "multipleOf": 2}}},
    {"properties": {"a": {"const": 1}, "b": {"type": "null"}}},
    {"if": {"properties": {"a": {"enum": [1]}}}, "then": {"required": ["b"]}, "else": {"required": ["c"]}},
    {"if": {"required": ["a"]}, "then": {"properties": {"a": {"type": "integer"}}}},
    {"anyOf": [{"required": ["a"]}, {"properties": {"b": False}}]},
]
SCHEMAS = [*({"type": "object"} | word for word in WORDS), *(OURS.schema_of(name) for name in sorted(OURS.names))]
CHECKS = [compile_check(schema, knows_const=True) for schema in SCHEMAS]
names = st.sampled_from(sorted({"a", "b", "c", *(name for schema in SCHEMAS for name in schema.get("properties", {}))}))
scalars = st.none() | st.booleans() | st.integers(-1, 700) | st.sampled_from([1.5, "", "x", "/a", "GET", "a:b", "http://a"])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)


@settings(max_examples=600, deadline=None)
@given(number=st.integers(0, len(SCHEMAS) - 1), conf=st.dictionaries(names, values, max_size=4))
def test_the_compiled_check_and_the_worded_one_agree(number: int, conf: dict[str, Any]):
    conf = copy_json(conf)
    complaint = explain(SCHEMAS[number], conf)
    failure = None
    try:
        CHECKS[number](deepcopy(conf))
    except fastjsonschema.JsonSchemaException as error:
        failure = error
    assert (failure is None) is (complaint is None), (failure, complaint)
    assert complaint is None or complaint.reason.isprintable()


def installed_with(folder: Path, **schemas: dict[str, Any]) -> PluginSchemas:
    """The schemas of a plugin `x` whose files are these: `x`, `x_consumer`, `x_metadata`."""
    for name, schema in schemas.items():
        (folder / f"{name.replace('_', '.')}.json").write_text(json.dumps(schema))
    return load_plugin_schemas(["x"], [InstalledPlugin("x", "x", "X", "x-1", folder / "x.json")])


def texts(*names: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, **more}


def test_consumers_and_credentials_have_a_schema_of_their_own_where_a_plugin_brings_one(tmp_path: Path):
    schemas = installed_with(tmp_path, x=texts("a", encrypt_fields=["a"]), x_consumer=texts("key", required=["key"]))
    for kind, reason in (("routes", None), ("consumers", 'property "key" is required')):
        complaint = schemas.complaint(kind, "1", {"plugins": {"x": {}}}, refuse_unknown=True)
        said = reason and "invalid plugins configuration: " + of("x", reason)
        assert (complaint and complaint.reason) == said
    assert schemas.schema_for("credentials", "x") is schemas.schema_for("consumers", "x")
    assert schemas.schema_for("consumer_groups", "x") is schemas.schema_for("routes", "x")
    assert schemas.schema_for("plugin_metadata", "x") is None


def test_without_one_the_schema_of_routes_is_theirs_too(tmp_path: Path):
    schemas = installed_with(tmp_path, x=texts("a"))
    assert schemas.schema_for("consumers", "x") is schemas.schema_for("routes", "x") is not None


@pytest.mark.parametrize("written", ["password", [1], ["a..b"], [""], {"password": True}])
def test_encrypt_fields_that_are_no_paths_make_a_schema_that_cannot_be_used(tmp_path: Path, written: Any):
    schemas = installed_with(tmp_path, x={"type": "object", "encrypt_fields": written})
    assert "its encrypt_fields must be an array of paths" in schemas.problems["x"]


SECRET_PLACES = {
    "a text": ({"a": {"type": "string", "pattern": "^k-"}}, ["a"], {"a": "hunter2"}),
    "a format": ({"a": {"type": "string", "format": "ip-or-cidr"}}, ["a"], {"a": "hunter2"}),
    "in an object": ({"o": {"properties": {"a": {"pattern": "^k-"}}}}, ["o.a"], {"o": {"a": "hunter2"}}),
    "an array": ({"a": {"items": {"pattern": "^k-"}}}, ["a"], {"a": ["k-1", "hunter2"]}),
    "an object of texts": ({"a": {"additionalProperties": {"pattern": "^k-"}}}, ["a"], {"a": {"h": "hunter2"}}),
    "in an array": ({"l": {"items": {"properties": {"a": {"pattern": "^k-"}}}}}, ["l.a"], {"l": [{"a": "hunter2"}]}),
}


@pytest.mark.parametrize("case", SECRET_PLACES)
def test_what_is_stored_encrypted_is_not_quoted_in_an_error(tmp_path: Path, case: str):
    properties, paths, value = SECRET_PLACES[case]
    for shown, fields in ((True, []), (False, paths)):
        schemas = installed_with(tmp_path, x={"type": "object", "properties": properties, "encrypt_fields": fields})
        complaint = schemas.complaint("routes", "1", {"plugins": {"x": value}}, refuse_unknown=True)
        assert complaint is not None
        assert ("hunter2" in complaint.reason) == shown, complaint.reason
        assert complaint.place[:2] == ("plugins", "x")


def test_which_fields_of_ours_are_stored_encrypted():
    found = {name: schema.encrypt_fields for name in OURS.names if (schema := OURS.schema_for("routes", name))}
    assert found["limit-count"] == (("redis_password",), ("sentinel_password",))
    assert found["http-logger"] == (("auth_header",),)


@pytest.mark.parametrize(
    ("kind", "id", "resource"),
    [("consumers", "jack", {"username": "jack"}), ("credentials", "jack/1", {})],
)
def test_what_is_wrong_with_plugins_of_consumers_is_said_as_apisix_says_it(
    kind: str, id: str, resource: dict[str, Any]
) -> None:
    bad = resource | {"plugins": {"forward-auth": {}}}
    with pytest.raises(InvalidResource) as refused:
        validate(kind, id, bad, OURS)
    before = "invalid plugins configuration: "
    assert refused.value.reason == before + of("forward-auth", 'property "uri" is required')
    with pytest.raises(InvalidResource) as refused:
        validate(kind, id, resource | {"plugins": {"no-plugin": {}}}, OURS, refuse_unknown=True)
    assert refused.value.reason == f"{before}unknown plugin [no-plugin]"
