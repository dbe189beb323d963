"""Plugins over the Admin API: their configurations, plugin configs, global rules, metadata; over each store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gw.model.operations import Create, Outcome, Patch
from gw.schema import load_plugin_schemas
from gw.settings.tree import OWN_PLUGINS
from tests.support.admin import ADMIN_KEY, ROUTE, MakeStore, World, world

AUTH = {"forward-auth": {"uri": "http://127.0.0.1:1"}}
LOG = {"http-logger": {"uri": "http://127.0.0.1:1"}}
PLUGINS = load_plugin_schemas(OWN_PLUGINS)


def play(scenario: Callable[[World], Awaitable[None]], directory: Path, make_store: MakeStore | None = None) -> None:
    async def run() -> None:
        async with world(directory, make_store() if make_store else None, plugins=PLUGINS) as made:
            await scenario(made)

    asyncio.run(run())


REFUSALS = [
    # path, body, what is answered
    ("/routes/1", ROUTE | {"plugins": {"jwt-auth": {}}}, "unknown plugin [jwt-auth]"),
    (
        "/routes/1",
        ROUTE | {"plugins": {"forward-auth": {}}},
        'failed to check the configuration of plugin forward-auth err: property "uri" is required',
    ),
    (
        "/services/1",
        {"plugins": {"forward-auth": {"uri": 7}}},
        'failed to check the configuration of plugin forward-auth err: property "uri" validation failed: '
        "wrong type: expected string, got number",
    ),
    (
        "/plugin_configs/1",
        {"plugins": {"http-logger": {}}},
        'failed to check the configuration of plugin http-logger err: property "uri" is required',
    ),
    ("/plugin_configs/1", {}, 'invalid configuration: property "plugins" is required'),
    (
        "/plugin_configs/1",
        {"labels": "a", "plugins": {}},
        'invalid configuration: property "labels" validation failed: wrong type: expected object, got string',
    ),
    ("/plugin_configs", {"plugins": {}}, "missing plugin config id"),
    ("/plugin_configs/1", {"id": "2", "plugins": {}}, "wrong plugin config id"),
    ("/global_rules/1", {"plugins": {"jwt-auth": {}}}, "unknown plugin [jwt-auth]"),
    ("/global_rules/1", {}, 'invalid configuration: property "plugins" is required'),
    ("/plugin_metadata", {"log_format": {}}, "missing plugin name"),
    ("/plugin_metadata/jwt-auth", {}, "invalid plugin name"),
    (
        "/plugin_metadata/http-logger",
        {"log_format": 7},
        'invalid configuration: property "log_format" validation failed: wrong type: expected object, got number',
    ),
    ("/routes/1", ROUTE | {"plugin_config_id": 7}, "failed to fetch plugin config info by plugin config id [7], "),
]


@pytest.mark.parametrize(("path", "body", "reason"), REFUSALS)
def test_what_is_refused_is_400_and_not_written(tmp_path: Path, path: str, body: dict[str, Any], reason: str) -> None:
    async def scenario(admin: World) -> None:
        before = await admin.store.head()
        reply = await admin.ask("PUT", path, body)
        assert reply.status == 400
        assert reply.body["error_msg"].startswith(reason), reply.body
        assert await admin.store.head() == before

    play(scenario, tmp_path)


def test_what_is_stored_is_what_was_sent(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        for path, body in (
            ("/routes/1", ROUTE | {"plugins": AUTH}),
            ("/plugin_configs/1", {"plugins": AUTH, "desc": "x"}),
            ("/global_rules/1", {"plugins": LOG}),
        ):
            assert (await admin.ask("PUT", path, body)).status == 201
            value = (await admin.ask("GET", path)).body["value"]
            assert value.items() >= body.items(), "no defaults"
            assert {"id", "create_time", "update_time"} <= value.keys()
            listed = (await admin.ask("GET", path.rpartition("/")[0])).body
            assert (listed["total"], listed["list"][0]["value"]) == (1, value)
            assert (await admin.ask("DELETE", path)).status == 200
            assert (await admin.ask("GET", path)).status == 404

    play(scenario, tmp_path, make_store)


def test_patches_of_what_has_plugins(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        for path in ("/plugin_configs/1", "/global_rules/1"):
            await admin.ask("PUT", path, {"plugins": AUTH})
            whole = await admin.ask("PATCH", path, {"plugins": {"forward-auth": {"timeout": 5}}})
            assert whole.body["value"]["plugins"] == {"forward-auth": AUTH["forward-auth"] | {"timeout": 5}}
            part = await admin.ask("PATCH", f"{path}/plugins", LOG if path.startswith("/g") else AUTH)
            assert part.status == 200
            bad = await admin.ask("PATCH", f"{path}/plugins/forward-auth", {"uri": 7})
            assert (bad.status, bad.body["error_msg"][:26]) == (400, "failed to check the config")
            gone = await admin.ask("PATCH", path, {"plugins": None})
            assert gone.body["error_msg"] == 'invalid configuration: property "plugins" is required'

    play(scenario, tmp_path)


def test_metadata_is_the_plugins_own(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        metadata = {"log_format": {"host": "$host"}}
        assert (await admin.ask("PUT", "/plugin_metadata/http-logger", metadata)).status == 201
        assert (await admin.ask("PUT", "/plugin_metadata/http-logger", metadata)).status == 200
        reply = await admin.ask("GET", "/plugin_metadata/http-logger")
        assert reply.body["value"] == metadata
        assert reply.body["key"] == "/apisix/plugin_metadata/http-logger"
        assert (await admin.ask("GET", "/plugin_metadata")).body["total"] == 1
        assert (await admin.ask("DELETE", "/plugin_metadata/http-logger")).status == 200
        assert (await admin.ask("DELETE", "/plugin_metadata/http-logger")).status == 404

    play(scenario, tmp_path, make_store)


UNSUPPORTED = [
    ("POST", "/plugin_configs", "not supported `POST` method for plugin config"),
    ("POST", "/plugin_configs/1", "not supported `POST` method for plugin config"),
    ("POST", "/global_rules", "not supported `POST` method for global rule"),
    ("POST", "/plugin_metadata", "not supported `POST` method for plugin_metadata"),
    ("PATCH", "/plugin_metadata/http-logger", "not supported `PATCH` method for plugin_metadata"),
    ("PATCH", "/plugin_metadata/http-logger/log_format", "not supported `PATCH` method for plugin_metadata"),
]


@pytest.mark.parametrize(("method", "path", "reason"), UNSUPPORTED)
def test_what_cannot_be_done_with_a_kind_is_405(tmp_path: Path, method: str, path: str, reason: str) -> None:
    async def scenario(admin: World) -> None:
        reply = await admin.ask(method, path, {"plugins": {}})
        assert (reply.status, reply.body) == (405, {"error_msg": reason})

    play(scenario, tmp_path)


def test_the_agent_refuses_it_too(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        for operation in (Create("global_rules", {"plugins": {}}), Patch("plugin_metadata", "http-logger", {})):
            answer = await admin.client.call(operation, ADMIN_KEY)
            assert answer.outcome is Outcome.INVALID

    play(scenario, tmp_path)


def test_a_plugin_config_in_use_stays(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/plugin_configs/7", {"plugins": AUTH})
        assert (await admin.ask("PUT", "/routes/1", ROUTE | {"plugin_config_id": 7})).status == 201
        refused = await admin.ask("DELETE", "/plugin_configs/7")
        assert (refused.status, refused.body) == (
            400,
            {"error_msg": "can not delete this plugin config, route [1] is still using it now"},
        )
        assert (await admin.ask("DELETE", "/plugin_configs/7?force=true")).status == 200
        await admin.ask("PUT", "/plugin_configs/7", {"plugins": AUTH})
        assert (await admin.ask("DELETE", "/routes/1")).status == 200
        assert (await admin.ask("DELETE", "/plugin_configs/7")).status == 200

    play(scenario, tmp_path, make_store)


def test_a_plugin_is_in_one_global_rule(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        assert (await admin.ask("PUT", "/global_rules/1", {"plugins": AUTH})).status == 201
        assert (await admin.ask("PUT", "/global_rules/2", {"plugins": LOG})).status == 201
        assert (await admin.ask("PUT", "/global_rules/1", {"plugins": AUTH})).status == 200
        for method, path, body in (
            ("PUT", "/global_rules/3", {"plugins": AUTH}),
            ("PUT", "/global_rules/2", {"plugins": AUTH | LOG}),
            ("PATCH", "/global_rules/2", {"plugins": AUTH}),
        ):
            reply = await admin.ask(method, path, body)
            assert reply.status == 400
            assert reply.body["error_msg"] == "plugin 'forward-auth' already exists in global rule with id '1'"

    play(scenario, tmp_path, make_store)


def test_what_lies_in_the_store_with_a_plugin_nobody_knows_can_be_read_and_removed(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        value = ROUTE | {"id": "1", "plugins": {"jwt-auth": {}}}
        await admin.store.put("routes/1", json.dumps(value).encode())
        assert (await admin.ask("GET", "/routes/1")).body["value"] == value
        patched = await admin.ask("PATCH", "/routes/1", {"desc": "x"})
        assert (patched.status, patched.body) == (400, {"error_msg": "unknown plugin [jwt-auth]"})
        assert (await admin.ask("PATCH", "/routes/1", {"plugins": None})).status == 200

    play(scenario, tmp_path)
