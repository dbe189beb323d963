"""`/apisix/admin/schema`, `/plugins`: what there is to configure, and whether a configuration fits. Facts of
t/admin/schema.t, schema-validate.t and plugins.t of APISIX."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gw.model.keys import KINDS
from gw.model.operations import NOUNS
from gw.plugins.catalogue import Catalogue
from gw.plugins.registry import load_registry
from gw.settings.tree import OWN_PLUGINS
from tests.support.admin import ROUTE, VIEWER_KEY, World, world

CATALOGUE = Catalogue(load_registry(OWN_PLUGINS))


def play(scenario: Callable[[World], Awaitable[None]], directory: Path, **options: Any) -> None:
    async def run() -> None:
        async with world(directory, catalogue=CATALOGUE, **options) as made:
            await scenario(made)

    asyncio.run(run())


def ask_all(directory: Path, requests: list[tuple[str, str, Any]]) -> list[Any]:
    """The replies to (method, path, body), in order."""
    replies = []

    async def scenario(admin: World) -> None:
        for method, path, body in requests:
            replies.append(await admin.ask(method, path, body))

    play(scenario, directory)
    return replies


def test_the_schema_of_each_kind_is_there_under_its_singular_name(tmp_path: Path) -> None:
    names = {"plugins" if kind == "plugins" else NOUNS[kind].replace(" ", "_") for kind in KINDS} - {"secret"}
    assert names >= {"route", "service", "upstream", "consumer", "plugin_config", "ssl", "proto", "stream_route"}
    for name, reply in zip(names, ask_all(tmp_path, [("GET", f"/schema/{name}", None) for name in names]), strict=True):
        assert reply.status == 200, name
        assert reply.body["type"] == ("array" if name == "plugins" else "object")
        assert "create_time" in reply.body.get("properties", {}) or name == "plugins"


NOT_HERE = "plugin not found in subsystem http"
QUESTIONS = [
    # method, path, status, what is answered (None: anything)
    ("GET", "/schema/routes", 404, {"error_msg": NOT_HERE}),
    ("GET", "/schema/noexits", 404, {"error_msg": NOT_HERE}),
    ("GET", "/schema/plugins/no-exist", 404, {"error_msg": NOT_HERE}),
    ("GET", "/schema", 404, None),
    ("PUT", "/schema/service", 405, None),
    ("POST", "/schema/service", 405, None),
    ("GET", "/schema/limit-count", 200, None),
    ("GET", "/plugins/asdf", 404, {"error_msg": NOT_HERE}),
    ("GET", "/plugins", 400, {"error_msg": "not found plugin name"}),
    ("GET", "/plugins?subsystem=asdf", 400, {"error_msg": "unsupported subsystem: asdf"}),
    ("GET", "/plugins?all=true&subsystem=asdf", 400, {"error_msg": "unsupported subsystem: asdf"}),
    ("GET", "/plugins?all=true&subsystem=stream", 200, {}),
    ("GET", "/plugins/http-logger?subsystem=stream", 404, {"error_msg": "plugin not found in subsystem stream"}),
    ("GET", "/plugins/http-logger?schema_type=consumer", 400, {"error_msg": "not found schema"}),
    ("GET", "/plugins/list", 200, list(OWN_PLUGINS)),
    ("GET", "/plugins/list?subsystem=http", 200, list(OWN_PLUGINS)),
    ("GET", "/plugins/list?subsystem=stream", 200, []),
    ("GET", "/plugins/list?subsystem=asdf", 400, {"error_msg": "invalid subsystem passed"}),
    ("DELETE", "/plugins/http-logger", 405, None),
    ("GET", "/plugins/reload", 405, None),
    ("POST", "/plugins/reload", 405, None),
]


def test_answers_are_those_of_apisix(tmp_path: Path) -> None:
    replies = ask_all(tmp_path, [(method, path, None) for method, path, _, _ in QUESTIONS])
    for (method, path, status, body), reply in zip(QUESTIONS, replies, strict=True):
        assert reply.status == status, (method, path, reply)
        if body is not None:
            assert reply.body == body, (method, path)


def test_a_plugins_schema_has_the_members_that_every_plugin_has(tmp_path: Path) -> None:
    by_plugin, by_schema, all_of_them, route = ask_all(
        tmp_path,
        [
            ("GET", "/plugins/limit-count?subsystem=http", None),
            ("GET", "/schema/plugins/limit-count", None),
            ("GET", "/plugins?all=true", None),
            ("GET", "/schema/route", None),
        ],
    )
    assert by_plugin.body == by_schema.body == all_of_them.body["limit-count"]["schema"]
    # Beside the mark by which APISIX's clients know what was added, in its words.
    assert by_plugin.body["$comment"] == "this is a mark for our injected plugin schema"
    assert by_plugin.body["properties"]["_meta"]["properties"]["disable"] == {"type": "boolean"}
    assert route.body["properties"]["plugins"] == {"type": "object"}
    assert set(all_of_them.body) == set(OWN_PLUGINS)
    assert all_of_them.body["limit-count"].keys() == {"priority", "version", "schema", "metadata_schema"}
    assert all_of_them.body["limit-count"]["priority"] == 1002
    assert all_of_them.body["request-id"]["version"] == 0.1


def test_plugins_of_authentication_say_so_and_what_consumers_have(tmp_path: Path) -> None:
    of_routes, of_consumers, all_of_them = ask_all(
        tmp_path,
        [
            ("GET", "/plugins/basic-auth", None),
            ("GET", "/plugins/basic-auth?schema_type=consumer", None),
            ("GET", "/plugins?all=true", None),
        ],
    )
    told = all_of_them.body["basic-auth"]
    assert (told["type"], told["priority"]) == ("auth", 2520)
    assert told["schema"] == of_routes.body
    assert told["consumer_schema"] == of_consumers.body
    assert of_routes.body["title"] == "work with route or service object"
    assert of_consumers.body["title"] == "work with consumer object"
    assert of_consumers.body["required"] == ["username", "password"]
    assert of_consumers.body["encrypt_fields"] == ["password"]
    auth = [name for name, facts in all_of_them.body.items() if facts.get("type") == "auth"]
    assert auth == ["basic-auth", "key-auth"]


HTTPS = {"scheme": "https", "type": "roundrobin", "nodes": {"nghttp2.org": 1}}
JUDGED = [
    # kind, resource, what is wrong with it (None: nothing)
    ("routes", {"uri": "/httpbin/*", "upstream": HTTPS}, None),
    ("routes", {"id": 7, "uri": "/httpbin/*", "upstream": HTTPS}, None),
    (
        "routes",
        {"uri": 666, "upstream": HTTPS},
        'property "uri" validation failed: wrong type: expected string, got number',
    ),
    (
        "routes",
        {"uri": "", "upstream": HTTPS},
        'property "uri" validation failed: string too short, expected at least 1, got 0',
    ),
    (
        "routes",
        {"uris": "foobar", "upstream": HTTPS},
        'property "uris" validation failed: wrong type: expected array, got string',
    ),
    (
        "routes",
        {"uris": [], "upstream": HTTPS},
        'property "uris" validation failed: expect array to have at least 1 items',
    ),
    (
        "routes",
        {"uris": ["/foo", "/foo"], "upstream": HTTPS},
        'property "uris" validation failed: expected unique items but items 1 and 2 are equal',
    ),
    ("routes", {"upstream": HTTPS}, "allOf 1 failed: value should match only one schema, but matches none"),
    (
        "routes",
        {"uri": "/foo", "status": 3, "upstream": HTTPS},
        'property "status" validation failed: matches none of the enum values',
    ),
    ("upstreams", {"nodes": {"nghttp2.org": 100}, "type": "roundrobin"}, None),
    ("upstreams", {"nodes": {"nghttp2.org": 100}, "type": "chash"}, "missing key"),
    ("routes", ROUTE | {"plugins": {"nonsense": {}}}, "unknown plugin [nonsense]"),
    (
        "routes",
        ROUTE | {"plugins": {"forward-auth": {}}},
        'failed to check the configuration of plugin forward-auth err: property "uri" is required',
    ),
    ("routes", 7, "wrong type: expected object, got number"),
    ("consumers", {"username": "jack"}, None),
    ("consumers", {"plugins": {}}, 'property "username" is required'),
    ("credentials", {"id": "a", "plugins": {}}, None),
    ("plugin_metadata", {"log_format": 7}, None),
    ("plugin_metadata", {"id": "nonsense"}, "invalid plugin name"),
]


def test_a_resource_is_judged_without_being_stored(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        before = await admin.store.head()
        for kind, resource, complaint in JUDGED:
            reply = await admin.ask("POST", f"/schema/validate/{kind}", resource)
            if complaint is None:
                assert (reply.status, reply.body) == (200, None), (kind, resource, reply)
            else:
                assert (reply.status, reply.body) == (400, {"error_msg": complaint}), (kind, resource, reply)
        assert await admin.store.head() == before

    play(scenario, tmp_path)


CODE = [
    # what is judged; where gw.allow_code is off it is refused, as a PUT of it
    ("routes", ROUTE | {"filter_func": "lambda vars: True"}),
    ("services", {"script": "def access(conf): pass"}),
    ("global_rules", {"plugins": {"request-id": {"_meta": {"pre_function": "lambda ctx: None"}}}}),
]


@pytest.mark.parametrize("is_allowed", [False, True])
def test_code_is_judged_as_a_put_of_it_is(tmp_path: Path, is_allowed: bool) -> None:
    async def scenario(admin: World) -> None:
        for kind, resource in CODE:
            judged = await admin.ask("POST", f"/schema/validate/{kind}", resource)
            if is_allowed:
                assert judged.status == 200, (kind, judged)
            else:
                put = await admin.ask("PUT", f"/{kind}/1", resource)
                assert (judged.status, judged.body) == (put.status, put.body), kind
                assert judged.body["error_msg"].endswith("gw.allow_code is on; here it is off"), kind

    config = f"gw: {{allow_code: {str(is_allowed).lower()}}}\n"
    play(scenario, tmp_path, config=config, plugins=CATALOGUE.schemas)


BAD_BODIES = [
    (b"", "missing configurations"),
    (b"{", "invalid request body"),
    (b'{"uri": "/a", "uri": "/b"}', "invalid request body"),
    (b'{"uri": NaN}', "invalid request body"),
    (b'\xff{"uri": "/a"}', "invalid request body"),
    (b"[" * 5000 + b"]" * 5000, ""),
    (b'{"uri": "\\ud800"}', ""),
    (b'{"priority": 1' + b"0" * 400 + b"}", ""),
    (b'{"id": {"a": 1}, "uri": "/a"}', ""),
]


def test_bad_bodies_get_a_reason(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        for raw, beginning in BAD_BODIES:
            reply = await admin.ask("POST", "/schema/validate/routes", raw=raw)
            assert reply.status == 400, (raw[:40], reply)
            assert reply.body["error_msg"].startswith(beginning), raw[:40]
        too_long = await admin.ask("POST", "/schema/validate/routes", raw=b'"' + b"a" * (2 << 20) + b'"')
        assert too_long.status == 413
        for kind in ("nonsense", "plugins", "secrets"):
            unknown = await admin.ask("POST", f"/schema/validate/{kind}", {})
            assert (unknown.status, unknown.body) == (404, {"error_msg": f"Unsupported resource type: {kind}"})

    play(scenario, tmp_path)


def test_a_viewer_reads_schemas_and_judges_nothing(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        assert (await admin.ask("GET", "/schema/route", key=VIEWER_KEY)).status == 200
        assert (await admin.ask("GET", "/plugins/list", key=VIEWER_KEY)).status == 200
        # As APISIX: a viewer has GET.
        assert (await admin.ask("POST", "/schema/validate/routes", ROUTE, key=VIEWER_KEY)).status == 401
        assert (await admin.ask("PUT", "/plugins/reload", key=VIEWER_KEY)).status == 401

    play(scenario, tmp_path)


CONFIGURATIONS = [
    # what the file says when it is asked, a part of the obstacle (None: there is none)
    ({"apisix": {}}, None),
    ({"plugins": list(OWN_PLUGINS)[::-1]}, None),  # the order means nothing
    ({"plugins": [*OWN_PLUGINS, "mine"]}, "enables mine: `gw reload --agent`"),
    ({"plugins": list(OWN_PLUGINS)[1:]}, f"no longer enables {OWN_PLUGINS[0]}"),
    ({"plugin_attr": {"limit-count": {"secret": "planted-5f2c9a"}}}, "has another plugin_attr.limit-count"),
    ({"plugins": "all"}, "cannot be used at plugins"),
    ("apisix: [", "cannot be used"),
]


@pytest.mark.parametrize(("config", "obstacle"), CONFIGURATIONS)
def test_plugins_reload_says_done_only_when_what_is_configured_runs(
    tmp_path: Path, config: dict[str, Any] | str, obstacle: str | None
) -> None:
    async def scenario(admin: World) -> None:
        text = config if isinstance(config, str) else yaml.safe_dump(config)
        (tmp_path / "config.yaml").write_text(text)
        reply = await admin.ask("PUT", "/plugins/reload")
        if obstacle is None:
            assert (reply.status, reply.body) == (200, "done")
            assert reply.headers["content-type"].startswith("text/plain")
        else:
            assert reply.status == 409
            assert obstacle in reply.body["error_msg"]
            assert "planted" not in reply.body["error_msg"]

    play(scenario, tmp_path)
