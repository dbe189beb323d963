"""What `sync_agent.stores.base` promises to readers, on the stores whose content is replaced as a whole."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gw.errors import Compacted, StoreError
from sync_agent.stores.base import Event, KeyValue, ReadOnly
from sync_agent.stores.standalone.contents import MAX_HISTORY_BATCHES, MAX_TOLD_EVENTS
from sync_agent.stores.standalone.whole import WholeStore
from tests.support.asynchronous import asynchronous
from tests.support.stores import Watching, read_all
from tests.support.whole_stores import FileBackend, PushedBackend, WholeBackend


@pytest.fixture(params=["yaml", "json", "pushed"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> WholeBackend:
    return PushedBackend(tmp_path) if request.param == "pushed" else FileBackend(tmp_path, request.param)


def routes(*ids: str, uri: str = "/hello") -> dict[str, Any]:
    return {"routes": [{"id": id, "uri": uri} for id in ids]}


def value(id: str, uri: str = "/hello") -> bytes:
    return json.dumps({"id": id, "uri": uri}, separators=(",", ":")).encode()


async def start(store: WholeStore, backend: WholeBackend, document: dict[str, Any]) -> int:
    """Make the document the content, and wait until the store has it; its revision."""
    await backend.replace(store, document)
    wanted = sum(len(items) for items in document.values())
    while len(await read_all(store)) != wanted:
        await asyncio.sleep(0)
    return (await store.head()).revision


@asynchronous
async def test_an_empty_store_has_a_head_and_one_empty_page(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        pages = [page async for page in store.list()]
        assert [page.items for page in pages] == [()]
        assert pages[0].head == await store.head()
        assert pages[0].head.revision >= 1
        assert await store.get("routes/1") == (None, pages[0].head)


@asynchronous
async def test_a_replacement_is_one_revision_and_one_batch(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        await start(store, backend, routes("1", "2"))
        head = await store.head()
        async with Watching(store, head.revision + 1) as watching:
            assert watching.opened.head == head
            assert watching.opened.events == ()
            await backend.replace(store, routes("2", "3"))
            batch = await watching.next()
        now = batch.head.revision
        assert now > head.revision
        assert sorted(batch.events, key=lambda event: event.key) == [
            Event("routes/1", None),
            Event("routes/3", KeyValue("routes/3", value("3"), now, now)),
        ]
        found, _ = await store.get("routes/2")
        assert found == KeyValue("routes/2", value("2"), head.revision, head.revision)


@asynchronous
async def test_history_is_replayed_and_a_head_is_where_to_resume(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        first = await start(store, backend, routes("1"))
        second = await start(store, backend, routes("1", "2"))
        async with Watching(store, first) as watching:
            assert {event.key for event in await watching.events(2)} == {"routes/1", "routes/2"}
        async with Watching(store, second) as watching:
            assert [event.key for event in await watching.events(1)] == ["routes/2"]


@asynchronous
async def test_what_is_the_same_in_substance_is_no_revision(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        before = await start(store, backend, routes("1"))
        async with Watching(store, before + 1) as watching:
            await backend.replace(store, routes("1"))
            await backend.replace(store, routes("1", "2"))
            assert [event.key for event in (await watching.next()).events] == ["routes/2"]
        assert await store.may_have_changed(before)
        assert not await store.may_have_changed((await store.head()).revision)


@asynchronous
async def test_lists_ascend_and_all_pages_show_one_revision(backend: WholeBackend) -> None:
    ids = ["a", "a-b", "b", "Z", "ä", "\ufffd", "😀", "aa"]
    async with backend.opened() as store:
        await start(store, backend, routes(*ids))
        pages = store.list(page_size=3)
        seen = [await anext(pages)]
        await start(store, backend, routes("other"))
        seen += [page async for page in pages]
        assert [item.key for page in seen for item in page.items] == sorted(
            (f"routes/{id}" for id in ids), key=str.encode
        )
        assert len({page.head for page in seen}) == 1


@pytest.mark.parametrize("page_size", [1, 2, 500])
@asynchronous
async def test_lists_of_what_is_below(backend: WholeBackend, page_size: int) -> None:
    async with backend.opened() as store:
        document = routes("a", "a-b", "ä") | {"upstreams": [{"id": "a"}], "services": [{"id": "a"}]}
        await start(store, backend, document)
        for below, expected in {
            "routes/": ["routes/a", "routes/a-b", "routes/ä"],
            "routes/a": ["routes/a-b"],
            "s": ["services/a"],
            "z": [],
        }.items():
            pages = [page async for page in store.list(page_size, below=below)]
            assert [item.key for page in pages for item in page.items] == expected


@asynchronous
async def test_revisions_grow_over_a_restart_and_the_store_stays_itself(backend: WholeBackend) -> None:
    heads = []
    for id in ("1", "2", "3"):
        async with backend.opened() as store:
            await start(store, backend, routes(id))
            heads.append(await store.head())
    revisions = [head.revision for head in heads]
    assert revisions == sorted(set(revisions))
    assert len({head.store_id for head in heads}) == 1


@asynchronous
async def test_what_was_there_is_there_after_a_restart(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        await start(store, backend, routes("1", "2"))
        before = await read_all(store)
    async with backend.opened() as store:
        assert [(kv.key, kv.value) for kv in await read_all(store)] == [(kv.key, kv.value) for kv in before]


@asynchronous
async def test_a_large_change_is_to_be_listed_and_not_told(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        before = await start(store, backend, routes("1"))
        async with Watching(store, before + 1) as watching:
            await backend.replace(store, routes(*map(str, range(MAX_TOLD_EVENTS + 2))))
            with pytest.raises(Compacted) as caught:
                await watching.next()
        assert caught.value.revision == (await store.head()).revision
        async with Watching(store, caught.value.revision + 1) as watching:
            await backend.replace(store, routes(*map(str, range(MAX_TOLD_EVENTS + 1))))
            assert await watching.events(1) == [Event(f"routes/{MAX_TOLD_EVENTS + 1}", None)]


@asynchronous
async def test_history_is_bounded(tmp_path: Path) -> None:
    backend = PushedBackend(tmp_path)
    async with backend.opened() as store:
        first = await start(store, backend, routes("1"))
        for number in range(MAX_HISTORY_BATCHES + 1):
            await backend.replace(store, routes("1", uri=f"/{number}"))
        with pytest.raises(Compacted):
            async with Watching(store, first + 1):
                pass


@asynchronous
async def test_two_watches_see_the_same(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        revision = await start(store, backend, routes("1"))
        async with Watching(store, revision + 1) as one, Watching(store, revision + 1) as two:
            await backend.replace(store, routes("1", "2", "3"))
            assert await one.events(2) == await two.events(2)


@asynchronous
async def test_a_start_in_the_future_is_waited_for(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        await start(store, backend, routes("1"))
        async with Watching(store, (await store.head()).revision + 1) as watching:
            await backend.replace(store, routes("2"))
            assert len(await watching.events(2)) == 2
    with pytest.raises(ValueError, match="starts at revision 1"):
        await anext(store.watch(0))


@asynchronous
async def test_nothing_is_written_key_by_key(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        for work in (store.put("routes/1", b"{}"), store.delete("routes/1")):
            with pytest.raises(ReadOnly, match="resources"):
                await work


@asynchronous
async def test_closing_ends_watches_and_refuses(backend: WholeBackend) -> None:
    async with backend.opened() as store:
        revision = await start(store, backend, routes("1"))
        async with Watching(store, revision + 1) as watching:
            waiting = asyncio.ensure_future(watching.next())
            await asyncio.sleep(0)
            await store.close()
            with pytest.raises(StoreError, match="closed"):
                await waiting
        for work in (store.head(), store.get("routes/1"), read_all(store)):
            with pytest.raises(StoreError, match="closed"):
                await work
