"""Consumers, their credentials, and that no two have one identity; over each store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gw.model.keys import ResourceKey
from gw.schema import PluginSchemas
from gw.schema.plugin_schemas import PluginSchema
from sync_agent.identities import IDENTIFYING, Identities
from tests.support.admin import MakeStore, World, world

# What an identity is decides the plugin's name; what else its configuration may hold is not looked at here.
SCHEMAS = {name: PluginSchema({"type": "object"}, "a test") for name in IDENTIFYING}
PLUGINS = PluginSchemas(SCHEMAS, consumer_schemas=SCHEMAS)
NOT_FOUND = {"message": "Key not found"}


def play(
    scenario: Callable[[World], Awaitable[None]], directory: Path, make_store: MakeStore | None = None, **options: Any
) -> None:
    async def run() -> None:
        async with world(directory, make_store() if make_store else None, plugins=PLUGINS, **options) as made:
            await scenario(made)

    asyncio.run(run())


def consumer(name: str, plugin: str = "key-auth", value: str | None = None) -> dict[str, Any]:
    plugins = {} if value is None else {"plugins": {plugin: {IDENTIFYING[plugin]: value}}}
    return {"username": name, **plugins}


def credential(value: str, plugin: str = "key-auth") -> dict[str, Any]:
    return {"plugins": {plugin: {IDENTIFYING[plugin]: value}}}


PUTS = [
    # path, body, status, what is answered
    ("/consumers", {"username": "jack"}, 201, None),
    ("/consumers/jack", {"username": "jack"}, 201, None),
    ("/consumers/jack", {"username": "jill"}, 400, "wrong username"),
    ("/consumers/jack", {}, 400, 'invalid configuration: property "username" is required'),
    ("/consumers", {"id": "jack"}, 400, 'invalid configuration: property "username" is required'),
    ("/consumers", {"username": "jack", "id": "jack"}, 400, "invalid configuration: additional properties forbidden"),
    ("/consumers", {"username": 7}, 400, 'invalid configuration: property "username" validation failed: wrong type'),
    ("/consumers", {"username": "a b"}, 400, 'invalid configuration: property "username" validation failed'),
    ("/consumers", {"username": ""}, 400, 'invalid configuration: property "username" validation failed'),
    ("/consumers", {"username": "j/credentials/c"}, 400, 'invalid configuration: property "username" validation'),
    ("/consumers", {"username": "jack", "group_id": "g"}, 400, "failed to fetch consumer group info by consumer group"),
    ("/consumers", {"username": "jack", "plugins": {"nonsense": {}}}, 400, "unknown plugin [nonsense]"),
    ("/consumers", {"username": "jack", "create_time": 1}, 400, "the property is forbidden: create_time"),
    ("/consumers/nobody/credentials/c", {}, 404, "consumer not found"),
    ("/consumers/a%20b/credentials/c", {}, 400, 'invalid configuration: property "username" validation failed'),
    ("/consumers/there/credentials/c", {}, 201, None),
    ("/consumers/there/credentials", {"id": "c"}, 201, None),
    ("/consumers/there/credentials", {"id": 17}, 201, None),
    ("/consumers/there/credentials", {}, 400, "missing credential id"),
    ("/consumers/there/credentials/c", {"id": "d"}, 400, "wrong credential id"),
    ("/consumers/there/credentials/c", {"username": "x"}, 400, "invalid configuration: additional properties"),
    (
        "/consumers/there/credentials/c",
        {"plugins": {"key-auth": {"key": "a"}, "basic-auth": {"username": "b"}}},
        400,
        'invalid configuration: property "plugins" validation failed: expect object to have at most 1 properties',
    ),
]


@pytest.mark.parametrize(("path", "body", "status", "reason"), PUTS)
def test_puts(tmp_path: Path, path: str, body: dict[str, Any], status: int, reason: str | None) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/consumers", {"username": "there"})
        before = await admin.store.head()
        reply = await admin.ask("PUT", path, body)
        assert reply.status == status, reply.body
        if reason is not None:
            assert reason in reply.body["error_msg"]
            assert await admin.store.head() == before

    play(scenario, tmp_path)


def test_a_consumers_credentials_are_apart_from_it_and_go_with_it(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        for name in ("jack", "jackson"):
            await admin.ask("PUT", "/consumers", consumer(name))
            for id in ("a", "b"):
                reply = await admin.ask("PUT", f"/consumers/{name}/credentials/{id}", credential(f"{name}-{id}"))
                assert reply.status == 201, reply.body
                assert reply.body["key"] == f"/apisix/consumers/{name}/credentials/{id}"
                assert reply.body["value"]["id"] == id
        listed = await admin.ask("GET", "/consumers")
        assert [item["key"] for item in listed.body["list"]] == ["/apisix/consumers/jack", "/apisix/consumers/jackson"]
        listed = await admin.ask("GET", "/consumers/jack/credentials")
        keys = [f"/apisix/consumers/jack/credentials/{id}" for id in "ab"]
        assert ([item["key"] for item in listed.body["list"]], listed.body["total"]) == (keys, 2)
        assert (await admin.ask("GET", "/consumers/jack/credentials/a")).body["value"]["id"] == "a"
        assert (await admin.ask("DELETE", "/consumers/jack/credentials/a")).status == 200
        assert (await admin.ask("GET", "/consumers/jack/credentials/a")).body == NOT_FOUND
        assert (await admin.ask("GET", "/consumers/jack/credentials")).body["total"] == 1

        assert (await admin.ask("DELETE", "/consumers/jack")).status == 200
        await admin.ask("PUT", "/consumers", consumer("jack"))
        for path in ("/consumers/jack/credentials", "/consumers/jack/credentials/b", "/consumers/nobody/credentials"):
            reply = await admin.ask("GET", path)
            assert (reply.status, reply.body) == (404, NOT_FOUND)
        assert (await admin.ask("GET", "/consumers/jackson/credentials")).body["total"] == 2
        assert (await admin.ask("DELETE", "/consumers/nobody")).status == 404

    play(scenario, tmp_path, make_store)


@pytest.mark.parametrize("plugin", sorted(IDENTIFYING))
def test_no_two_consumers_have_one_identity(tmp_path: Path, make_store: MakeStore, plugin: str) -> None:
    refused = {"error_msg": "duplicate key found with consumer: jack"}

    async def scenario(admin: World) -> None:
        assert (await admin.ask("PUT", "/consumers", consumer("jack", plugin, "planted-identity"))).status == 201
        # The same again, and the same under another plugin, are no other's.
        assert (await admin.ask("PUT", "/consumers", consumer("jack", plugin, "planted-identity"))).status == 200
        other = next(name for name in sorted(IDENTIFYING) if name != plugin)
        assert (await admin.ask("PUT", "/consumers", consumer("jo", other, "planted-identity"))).status == 201

        before = await admin.store.head()
        reply = await admin.ask("PUT", "/consumers", consumer("jill", plugin, "planted-identity"))
        assert (reply.status, reply.body) == (400, refused)
        await admin.ask("PUT", "/consumers", consumer("jill"))
        for path in ("/consumers/jill/credentials/c", "/consumers/jack/credentials/c"):
            reply = await admin.ask("PUT", path, credential("planted-identity", plugin))
            assert (reply.status, reply.body) == (400, refused), path
        assert (await admin.store.head()).revision == before.revision + 1

        # Who gives it up leaves it to another.
        assert (await admin.ask("PUT", "/consumers", consumer("jack", plugin, "changed"))).status == 200
        reply = await admin.ask("PUT", "/consumers/jill/credentials/c", credential("planted-identity", plugin))
        assert reply.status == 201, reply.body
        reply = await admin.ask("PUT", "/consumers", consumer("jack", plugin, "planted-identity"))
        assert reply.body == {"error_msg": "duplicate key found with consumer: jill"}
        # A consumer may repeat what its own credential has: it is the same consumer, as in APISIX.
        assert (await admin.ask("PUT", "/consumers", consumer("jill", plugin, "planted-identity"))).status == 200
        assert (await admin.ask("DELETE", "/consumers/jill")).status == 200
        assert (await admin.ask("PUT", "/consumers", consumer("jack", plugin, "planted-identity"))).status == 200

    play(scenario, tmp_path, make_store)


def test_one_of_many_who_ask_for_an_identity_at_once_gets_it(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        for round in range(5):
            key = f"key-{round}"
            puts = [admin.ask("PUT", "/consumers", consumer(f"c{number}", value=key)) for number in range(8)]
            replies = await asyncio.gather(*puts)
            assert sorted(reply.status in (200, 201) for reply in replies) == [False] * 7 + [True]

    play(scenario, tmp_path, make_store)


def test_an_identity_that_nobody_could_have_is_nobodys(tmp_path: Path) -> None:
    """Values of other shapes, put past the Admin API, claim nothing and are in nobody's way."""

    async def scenario(admin: World) -> None:
        keys: list[Any] = [7, {"key": 7}, {"key": ""}, {}]
        odd = [[], "x", *({"key-auth": key} for key in keys)]
        for number, plugins in enumerate(odd):
            value = json.dumps({"username": f"odd{number}", "plugins": plugins}).encode()
            await admin.store.put(f"consumers/odd{number}", value)
        await admin.store.put("consumers/broken", b"not json")
        await admin.store.put("consumers/", b"init_dir")
        await admin.store.put("consumers/jack/elsewhere/x", b"{}")
        for value in ("7", "x", "{}"):
            assert (await admin.ask("PUT", "/consumers", consumer("jack", value=value))).status in (200, 201)

    play(scenario, tmp_path)


def test_the_agents_index_is_asked_and_not_every_consumer(tmp_path: Path) -> None:
    """One that is complete, empty at first as at every start, and knows nothing of jack, who stands in the store."""
    index = Identities()

    async def scenario(admin: World) -> None:
        await admin.store.put("consumers/jack", json.dumps(consumer("jack", value="a")).encode())
        refused = await admin.ask("PUT", "/consumers", consumer("jill", value="a"))
        assert refused.body == {"error_msg": "duplicate key found with consumer: jack"}, "until it is complete"
        index.is_complete = True
        assert (await admin.ask("PUT", "/consumers", consumer("jill", value="a"))).status == 201
        index.note(ResourceKey("consumers", "jack"), index.digests_of("consumers", consumer("jack", value="a")))
        refused = await admin.ask("PUT", "/consumers", consumer("joan", value="a"))
        assert refused.status == 400

    play(scenario, tmp_path, identities=index)
