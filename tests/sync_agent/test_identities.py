"""The index of identities, and how a write is held against it, over a real store."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from gw.clock import SystemClock
from gw.model.keys import ResourceKey, credential_key, parse_store_key
from sync_agent.admin.duplicates import Duplicates
from sync_agent.identities import Identities, identities_of
from sync_agent.intake import Intake
from sync_agent.stores.sql.sqlite import DIALECT, SqliteDatabase
from sync_agent.stores.sql.store import SqlStore
from tests.support.asynchronous import asynchronous

JACK, JILL = ResourceKey("consumers", "jack"), ResourceKey("consumers", "jill")
LIMIT_BYTES = 1 << 20


def a_store(directory: Path) -> SqlStore:
    return SqlStore(SqliteDatabase(directory / "config.db"), DIALECT, SystemClock(), poll_interval_s=0.02)


def holder(username: str | None = None, **keys: str) -> dict[str, Any]:
    """A consumer, or without a name a credential, with these keys by plugin (`key_auth="x"`)."""
    members = {"key-auth": "key", "basic-auth": "username"}
    plugins = {name.replace("_", "-"): {members[name.replace("_", "-")]: key} for name, key in keys.items()}
    return ({} if username is None else {"username": username}) | {"plugins": plugins}


def test_an_index_is_what_its_resources_are() -> None:
    """Whatever the history: noted, changed, given up, in any order."""
    rng = random.Random(7)
    index = Identities()
    now: dict[ResourceKey, dict[str, Any]] = {}
    for _ in range(3000):
        name = f"c{rng.randrange(20)}"
        key = ResourceKey("consumers", name) if rng.random() < 0.5 else credential_key(name, "x")
        held = [plugin for plugin in ("key_auth", "basic_auth") if rng.random() < 0.7]
        value = holder(**{plugin: f"k{rng.randrange(15)}" for plugin in held})
        if rng.random() < 0.3:
            now.pop(key, None)
            index.note(key, ())
        else:
            now[key] = value
            index.note(key, index.digests_of(key.kind, value))
    for plugin in ("key-auth", "basic-auth", "jwt-auth"):
        for number in range(16):
            identity = plugin, f"k{number}"
            expected = {key for key, value in now.items() if identity in set(identities_of(key.kind, value))}
            assert set(index.owners(identity)) == expected
    for key in now:
        index.note(key, ())
    assert len(index) == 0


def test_what_claims_no_identity() -> None:
    assert not [*identities_of("routes", holder("a", key_auth="x"))]
    for plugins in ({}, [], "x", None, {"key-auth": None}, {"key-auth": {"key": 5}}, {"key-auth": {"key": ""}}):
        assert not [*identities_of("consumers", {"plugins": plugins})]


class World:
    """A store, an intake that has read it, and the duplicates' judge. `catch_up` is what the watch does."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.intake = Intake({}, LIMIT_BYTES)
        self.processed = 0
        self.duplicates = Duplicates(store, self.intake.identities, lambda: self.processed)
        self.reads = 0

    async def load(self) -> None:
        reload = self.intake.begin_reload()
        async for page in self.store.list():
            reload.add_page(page.items)
            self.processed = page.head.revision
        reload.finish({})

    async def catch_up(self) -> None:
        async for batch in self.store.watch(self.processed + 1):
            self.intake.take_events(batch.events)
            self.processed = max(self.processed, batch.head.revision)
            if batch.events and self.processed >= (await self.store.head()).revision:
                return

    async def write(self, key: ResourceKey, value: dict[str, Any] | None, *, by_us: bool = True) -> None:
        name = str(key)
        written = await (self.store.put(name, json.dumps(value).encode()) if value else self.store.delete(name))
        if by_us:
            self.duplicates.wrote(key, value, written.head.revision)

    async def owner(self, key: ResourceKey, value: dict[str, Any]) -> str | None:
        found = await self.duplicates.find(key, value)
        return None if found is None else found.removeprefix("duplicate key found with consumer: ")


@asynchronous
async def test_who_has_an_identity(tmp_path: Path) -> None:
    world = World(a_store(tmp_path))
    await world.write(JACK, holder("jack", key_auth="a"), by_us=False)
    # Before the index is complete, every consumer is read.
    assert await world.owner(JILL, holder("jill", key_auth="a")) == "jack"
    await world.load()
    assert world.intake.identities.is_complete
    assert await world.owner(JILL, holder("jill", key_auth="a")) == "jack"
    assert await world.owner(JILL, holder("jill", key_auth="b")) is None
    assert await world.owner(JACK, holder("jack", key_auth="a")) is None

    # Our own writes count before the watch has brought them, whatever it brings meanwhile.
    await world.write(JACK, holder("jack", key_auth="b"))
    assert await world.owner(JILL, holder("jill", key_auth="a")) is None
    assert await world.owner(JILL, holder("jill", key_auth="b")) == "jack"
    await world.write(JILL, holder("jill", key_auth="a"))
    await world.write(JACK, None)
    assert await world.owner(JACK, holder("jack", key_auth="a")) == "jill"
    assert await world.owner(JILL, holder("jill", key_auth="b")) is None
    before = [await world.owner(JACK, holder("jack", key_auth=key)) for key in "ab"]
    await world.catch_up()
    assert [await world.owner(JACK, holder("jack", key_auth=key)) for key in "ab"] == before == ["jill", None]

    # What others wrote counts once the watch has brought it; what they took away is nobody's at once.
    await world.write(credential_key("jill", "c"), holder(basic_auth="x"), by_us=False)
    await world.catch_up()
    assert await world.owner(credential_key("jill", "d"), holder(basic_auth="x")) == "jill"
    await world.write(credential_key("jill", "c"), None, by_us=False)
    assert await world.owner(credential_key("jill", "d"), holder(basic_auth="x")) is None
    await world.store.close()


@asynchronous
async def test_writes_are_remembered_until_the_watch_has_brought_them(tmp_path: Path) -> None:
    """Also those of consumers that claim nothing, for whom nobody ever asks who has what."""
    world = World(a_store(tmp_path))
    await world.load()
    for number in range(50):
        await world.write(ResourceKey("consumers", f"c{number}"), {"username": f"c{number}"})
    assert world.duplicates.unconfirmed == 50
    await world.catch_up()
    await world.write(JACK, None)
    assert world.duplicates.unconfirmed <= 1
    await world.store.close()


@asynchronous
async def test_what_is_refused_keeps_the_identity_that_is_served(tmp_path: Path) -> None:
    world = World(a_store(tmp_path))
    await world.load()
    await world.write(JACK, holder("jack", key_auth="a"), by_us=False)
    await world.catch_up()
    await world.store.put("consumers/jack", b'{"username": "somebody else"}')
    await world.catch_up()
    assert world.intake.identities.owners(("key-auth", "a")) == (JACK,)
    assert JACK in world.intake.rejections
    await world.store.delete("consumers/jack")
    await world.catch_up()
    assert len(world.intake.identities) == 0
    await world.store.close()


@asynchronous
async def test_a_write_asks_the_store_about_those_alone_who_have_the_identity(tmp_path: Path) -> None:
    """Not about every consumer: a thousand writes among a thousand consumers are no million reads."""

    class Counting(SqlStore):
        reads = 0

        async def get(self, key: str) -> Any:
            Counting.reads += 1
            return await super().get(key)

        def list(self, page_size: int = 500, *, below: str = "") -> Any:
            raise AssertionError("nothing is listed")

    store = a_store(tmp_path)
    world = World(store)
    await world.load()
    store.__class__ = Counting
    for number in range(1000):
        key = ResourceKey("consumers", f"c{number}")
        value = holder(key.id, key_auth=f"k{number}", basic_auth=f"u{number}")
        assert await world.owner(key, value) is None
        world.intake.identities.note(key, world.intake.identities.digests_of(key.kind, value))
    assert Counting.reads == 0
    await store.put("consumers/c500", json.dumps(holder("c500", key_auth="k500")).encode())
    assert await world.owner(JACK, holder("jack", key_auth="k500", basic_auth="u501")) == "c500"
    assert Counting.reads <= 2
    assert parse_store_key("consumers/c500") == ResourceKey("consumers", "c500")
    await store.close()
