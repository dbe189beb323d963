"""Every kind from birth to death, over each store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gw.model.operations import NOUNS
from gw.schema import load_plugin_schemas
from gw.settings.tree import OWN_PLUGINS
from tests.support.admin import MakeStore, MovedClock, World, world
from tests.support.resources import EXAMPLES, Example

BY_KIND = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.kind)
PLUGINS = load_plugin_schemas(OWN_PLUGINS)
NOT_FOUND = {"message": "Key not found"}


def play(
    scenario: Callable[[World], Awaitable[None]], directory: Path, make_store: MakeStore | None = None, **options: Any
) -> None:
    async def run() -> None:
        async with world(directory, make_store() if make_store else None, plugins=PLUGINS, **options) as made:
            await made.ask("PUT", "/consumers", {"username": "jack"})  # whose credentials there are
            await scenario(made)

    asyncio.run(run())


def shown(example: Example, value: dict[str, Any]) -> dict[str, Any]:
    """What an answer shows of a stored value: of an SSL, no private key."""
    return {name: member for name, member in value.items() if example.kind != "ssls" or name not in ("key", "keys")}


@BY_KIND
def test_from_birth_to_death(tmp_path: Path, make_store: MakeStore, example: Example) -> None:
    clock = MovedClock()
    born = int(clock.wall_s)
    key = f"/apisix/{example.store_key}"

    async def scenario(admin: World) -> None:
        if example.kind == "consumers":
            await admin.ask("DELETE", "/consumers/jack")
        missing = await admin.ask("GET", example.path)
        assert (missing.status, missing.body) == (404, NOT_FOUND)

        stored = dict(example.body)
        if example.stored_id is not None:
            stored["id"] = example.stored_id
        if example.kind != "plugin_metadata":
            stored |= {"create_time": born, "update_time": born}
        created = await admin.ask("PUT", example.path, dict(example.body))
        assert (created.status, created.body["key"]) == (201, key)
        assert created.body["value"] == shown(example, stored)

        clock.wall_s += 60
        again = await admin.ask("PUT", example.path, dict(example.body))
        assert (again.status, again.body["key"]) == (200, key)
        if "update_time" in stored:
            stored["update_time"] = born + 60

        found = await admin.ask("GET", example.path)
        assert (found.status, found.body["key"]) == (200, key)
        assert found.body["value"] == shown(example, stored)
        assert 0 < found.body["createdIndex"] < found.body["modifiedIndex"]

        listed = await admin.ask("GET", example.collection)
        assert (listed.status, listed.body) == (200, {"total": 1, "list": [found.body]})
        page = await admin.ask("GET", f"{example.collection}/?page=1&page_size=10")
        assert page.body == listed.body

        kv, _ = await admin.store.get(example.store_key)
        assert kv is not None
        assert set(json.loads(kv.value)) == set(stored), "nothing is added that was not sent"

        deleted = await admin.ask("DELETE", example.path)
        assert (deleted.status, deleted.body) == (200, {"key": key, "deleted": "1"})
        for method in ("GET", "DELETE"):
            gone = await admin.ask(method, example.path)
            assert (gone.status, gone.body) == (404, NOT_FOUND)
        empty = await admin.ask("GET", example.collection)
        # As APISIX has it: there is nothing in front of credentials that would make their directory one.
        expected = (404, NOT_FOUND) if example.kind == "credentials" else (200, {"total": 0, "list": []})
        assert (empty.status, empty.body) == expected

    play(scenario, tmp_path, make_store, clock=clock)


@BY_KIND
def test_the_id_may_stand_in_the_body(tmp_path: Path, example: Example) -> None:
    async def scenario(admin: World) -> None:
        member = "username" if example.kind == "consumers" else "id"
        if example.kind == "plugin_metadata":
            named = {**example.body, "id": "http-logger"}
        else:
            named = {**example.body, member: example.body.get(member) or example.stored_id}
        reply = await admin.ask("PUT", example.collection, named)
        assert reply.status in (200, 201), reply.body
        assert reply.body["key"] == f"/apisix/{example.store_key}"
        assert (await admin.ask("PUT", example.path, named)).status == 200
        other = "wrong username" if example.kind == "consumers" else f"wrong {NOUNS[example.kind]} id"
        reply = await admin.ask("PUT", example.path, {**named, member: "other"})
        assert (reply.status, reply.body) == (400, {"error_msg": other})

    play(scenario, tmp_path)


@BY_KIND
def test_posts(tmp_path: Path, example: Example) -> None:
    async def scenario(admin: World) -> None:
        before = await admin.store.head()
        reply = await admin.ask("POST", example.collection, dict(example.body))
        if example.can("create"):
            assert reply.status == 201, reply.body
            id = reply.body["value"]["id"]
            assert len(id) == 20
            assert reply.body["key"] == f"/apisix/{example.kind}/{id}"
            assert (await admin.ask("GET", f"{example.collection}/{id}")).status == 200
            return
        refusal = f"not supported `POST` method for {NOUNS[example.kind]}"
        assert (reply.status, reply.body) == (405, {"error_msg": refusal})
        assert "POST" not in reply.headers["Allow"]
        assert await admin.store.head() == before

    play(scenario, tmp_path)


PATCHES: dict[str, tuple[Any, str, Any]] = {
    # what is merged; then a path, and what is put there
    "routes": ({"desc": "x"}, "uri", "/r2"),
    "services": ({"desc": "x"}, "name", "s2"),
    "upstreams": ({"retries": 2}, "nodes", {"127.0.0.1:1981": 2}),
    "consumer_groups": ({"desc": "x"}, "labels/team", "b"),
    "global_rules": ({"plugins": {"request-id": {"header_name": "X-Id"}}}, "plugins/request-id/header_name", "X-I"),
    "plugin_configs": ({"desc": "x"}, "labels", {"team": "b"}),
    "ssls": ({"snis": ["b.example"], "sni": None}, "snis", ["c.example"]),
    "protos": ({"desc": "x"}, "content", 'syntax = "proto3";\nmessage N { int32 b = 1; }\n'),
    "secrets": ({"namespace": "x"}, "token", "another"),
}


@BY_KIND
def test_patches(tmp_path: Path, make_store: MakeStore, example: Example) -> None:
    async def scenario(admin: World) -> None:
        created = await admin.ask("PUT", example.path, dict(example.body))
        if not example.can("patch"):
            for path in (example.path, f"{example.path}/desc"):
                reply = await admin.ask("PATCH", path, {"desc": "x"})
                refusal = f"not supported `PATCH` method for {NOUNS[example.kind]}"
                assert (reply.status, reply.body) == (405, {"error_msg": refusal})
            return
        merged, place, value = PATCHES[example.kind]
        reply = await admin.ask("PATCH", example.path, merged)
        assert reply.status == 200, reply.body
        expected = dict(created.body["value"]) | {name: member for name, member in merged.items() if member is not None}
        for name in [name for name, member in merged.items() if member is None]:
            del expected[name]
        assert reply.body["value"] == expected | {"update_time": reply.body["value"]["update_time"]}
        reply = await admin.ask("PATCH", f"{example.path}/{place}", value)
        assert reply.status == 200, reply.body
        found = reply.body["value"]
        for step in place.split("/"):
            found = found[step]
        assert found == value
        assert (await admin.ask("GET", example.path)).body["value"] == reply.body["value"]

    play(scenario, tmp_path, make_store)


@pytest.mark.parametrize(("old", "kind"), [("ssl", "ssls"), ("proto", "protos")])
def test_the_names_of_2x(tmp_path: Path, make_store: MakeStore, old: str, kind: str) -> None:
    """In paths, and in a store that APISIX 2.x filled. What stands under the newer name counts."""
    example = next(each for each in EXAMPLES if each.kind == kind)

    async def scenario(admin: World) -> None:
        assert (await admin.ask("PUT", f"/{old}/a", dict(example.body))).body["key"] == f"/apisix/{kind}/a"
        assert (await admin.ask("GET", f"/{old}/a")).status == 200
        for id in "ab":
            value = {**example.body, "id": id, "labels": {"x": "old"}}
            await admin.store.put(f"{old}/{id}", json.dumps(value).encode())

        async def listed(query: str = "") -> set[str]:
            reply = await admin.ask("GET", f"/{kind}{query}")
            assert reply.body["total"] == len(reply.body["list"])
            return {item["key"].removeprefix("/apisix/") for item in reply.body["list"]}

        assert await listed() == await listed("?page=1&page_size=10") == {f"{kind}/a", f"{old}/b"}
        assert await listed("?label=x") == {f"{old}/b"}
        assert (await admin.ask("GET", f"/{kind}/b")).body["value"]["labels"] == {"x": "old"}

        # A write goes where the resource is, so that gateways of 2.x on the same store see it.
        reply = await admin.ask("PUT", f"/{kind}/b", dict(example.body))
        assert (reply.status, reply.body["key"]) == (200, f"/apisix/{old}/b")
        assert (await admin.ask("PATCH", f"/{kind}/b", {"labels": {"x": "y"}})).body["key"] == f"/apisix/{old}/b"

        # What is deleted is gone, under both names.
        for id in "ab":
            assert (await admin.ask("DELETE", f"/{kind}/{id}")).status == 200
            assert (await admin.ask("GET", f"/{kind}/{id}")).status == 404
        assert await listed() == set()

    play(scenario, tmp_path, make_store)


def test_a_manager_alone_is_no_secret(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        for method, path in (("PATCH", "/secrets/vault"), ("DELETE", "/secrets/vault"), ("DELETE", "/secrets")):
            reply = await admin.ask(method, path, {})
            assert (reply.status, reply.body) == (400, {"error_msg": "no secret id"}), (method, path)

    play(scenario, tmp_path)


def test_filters_of_stream_routes(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        upstream = {"type": "roundrobin", "nodes": {"127.0.0.1:1": 1}}
        await admin.ask("PUT", "/upstreams/u", upstream)
        await admin.ask("PUT", "/services/s", {"upstream_id": "u"})
        for number in range(4):
            refers = {"service_id": "s"} if number % 2 else {"upstream_id": "u"}
            reply = await admin.ask("PUT", f"/stream_routes/{number}", {"server_port": 9100 + number, **refers})
            assert reply.status == 201, reply.body
        for query, ids in (("service_id%3Ds", ["1", "3"]), ("upstream_id%3Du", ["0", "2"]), ("upstream_id%3Dx", [])):
            reply = await admin.ask("GET", f"/stream_routes?filter={query}")
            assert [item["value"]["id"] for item in reply.body["list"]] == ids
        assert (await admin.ask("GET", "/consumers?filter=service_id%3D1")).status == 400

    play(scenario, tmp_path)


def test_private_keys_never_come_back(tmp_path: Path) -> None:
    """APISIX keeps `key` back where one SSL is read; here no answer has one, nor `keys`."""
    pair = next(each for each in EXAMPLES if each.kind == "ssls").body
    body = {**pair, "certs": [pair["cert"]], "keys": [pair["key"]]}

    async def scenario(admin: World) -> None:
        asked = [
            ("PUT", "/ssls/1", body),
            ("PUT", "/ssls/1", body),
            ("POST", "/ssls", body),
            ("PATCH", "/ssls/1", {"snis": ["b.example"], "sni": None}),
            ("PATCH", "/ssls/1/key", body["key"]),
            ("PATCH", "/ssls/1", {"keys": body["keys"], "certs": body["certs"]}),
            ("GET", "/ssls/1", None),
            ("GET", "/ssls", None),
            ("GET", "/ssls?page=1&page_size=10", None),
            ("GET", "/ssl/1", None),
            ("PUT", "/ssls/2", {**body, "status": 7}),
            ("PUT", "/ssls/2", {**body, "key": body["key"] + "x" * 70000}),
            ("PATCH", "/ssls/1/keys", {"a": body["key"]}),
        ]
        for method, path, sent in asked:
            reply = await admin.ask(method, path, sent)
            text = json.dumps(reply.body)
            assert "PRIVATE KEY" not in text, (method, path)
            assert body["key"].splitlines()[1] not in text, (method, path)
        kv, _ = await admin.store.get("ssls/1")
        assert kv is not None
        assert {"key", "keys"} <= set(json.loads(kv.value)), "it is there all the same"

    play(scenario, tmp_path)
