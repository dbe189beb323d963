"""Watches, expiry and compaction, as `sync_agent.stores.base` promises them, on every store."""

import asyncio

import pytest

from gw.errors import Compacted, StoreError
from sync_agent.stores.base import Event, Store
from tests.support.asynchronous import asynchronous
from tests.support.stores import Backend, Watching, in_parallel, read_all


@asynchronous
async def test_the_first_batch_says_that_the_watch_stands(backend: Backend) -> None:
    async with backend.opened() as store:
        head = (await store.put("routes/1", b"one")).head
        async with Watching(store, head.revision + 1) as watching:
            assert watching.opened.head == head
            assert watching.opened.events == ()


@asynchronous
async def test_changes_arrive_in_order(backend: Backend) -> None:
    async with backend.opened() as store:
        head = await store.head()
        async with Watching(store, head.revision + 1) as watching:
            one = await store.put("routes/1", b"one")
            two = await store.put("routes/2", b"two")
            three = await store.put("routes/1", b"three")
            four = await store.delete("routes/2")
            assert await watching.events(4) == [
                Event("routes/1", one.current),
                Event("routes/2", two.current),
                Event("routes/1", three.current),
                Event("routes/2", None),
            ]
            assert watching.batches[-1].head == four.head


@asynchronous
async def test_history_is_replayed_and_then_followed(backend: Backend) -> None:
    async with backend.opened() as store:
        first = await store.put("routes/1", b"one")
        second = await store.put("routes/1", b"two")
        await store.delete("routes/1")
        async with Watching(store, second.head.revision) as watching:
            assert await watching.events(2) == [Event("routes/1", second.current), Event("routes/1", None)]
            last = await store.put("routes/9", b"new")
            assert await watching.events(1) == [Event("routes/9", last.current)]
        async with Watching(store, first.head.revision) as watching:
            assert [event.kv and event.kv.value for event in await watching.events(4)] == [b"one", b"two", None, b"new"]


@asynchronous
async def test_a_batchs_head_is_where_to_resume(backend: Backend) -> None:
    """Reading a long history in pieces, each from where the last one ended, misses nothing and repeats nothing."""
    async with backend.opened() as store:
        start = (await store.head()).revision + 1
        await in_parallel(*(store.put(f"routes/{number}", b"v" * 100, expect=0) for number in range(1200)))
        end = (await store.head()).revision
        seen: list[str] = []
        while start <= end:
            async with Watching(store, start) as watching:
                batch = await watching.next()
                assert batch.events
                revisions = [event.kv.mod_revision for event in batch.events if event.kv]
                assert start <= revisions[0]
                assert revisions == sorted(revisions)
                assert revisions[-1] == batch.head.revision
                seen += [event.key for event in batch.events]
                start = batch.head.revision + 1
        assert sorted(seen) == sorted(f"routes/{number}" for number in range(1200))


@asynchronous
async def test_a_start_in_the_future_is_waited_for(backend: Backend) -> None:
    async with backend.opened() as store:
        head = await store.head()
        async with Watching(store, head.revision + 3) as watching:
            assert watching.opened.head == head
            for value in (b"one", b"two", b"three"):
                last = await store.put("routes/1", value)
            assert await watching.events(1) == [Event("routes/1", last.current)]


@asynchronous
async def test_two_watches_see_the_same(backend: Backend) -> None:
    async with backend.opened() as store, backend.opened() as other:
        start = (await store.head()).revision + 1
        async with Watching(store, start) as one, Watching(store, start) as two, Watching(other, start) as three:
            for number in range(5):
                await store.put(f"routes/{number}", b"v")
            first = await one.events(5)
            assert await two.events(5) == first
            assert await three.events(5) == first


@asynchronous
async def test_another_programs_writes_are_noticed(backend: Backend) -> None:
    async with backend.opened() as store, Watching(store, (await store.head()).revision + 1) as watching:
        await asyncio.to_thread(backend.put, "routes/1", '{"uri": "/ü"}')
        [event] = await watching.events(1)
        assert event.kv is not None
        assert event.kv.value == '{"uri": "/ü"}'.encode()
        assert (await store.get("routes/1"))[0] == event.kv
        await asyncio.to_thread(backend.put, "routes/1", "{}")
        [changed] = await watching.events(1)
        assert changed.kv is not None
        assert changed.kv.create_revision == event.kv.create_revision
        await asyncio.to_thread(backend.delete, "routes/1")
        assert await watching.events(1) == [Event("routes/1", None)]
        assert await read_all(store) == []


@asynchronous
async def test_large_values_are_delivered(backend: Backend) -> None:
    value = b"x" * 1024 * 1024
    async with backend.opened() as store:
        start = (await store.head()).revision + 1
        for number in range(6):  # more than 4 MiB in what is one batch for etcd
            await store.put(f"routes/{number}", value)
        async with Watching(store, start) as watching:
            assert [event.kv.value == value for event in await watching.events(6) if event.kv] == [True] * 6


@asynchronous
async def test_an_expired_key_is_deleted(backend: Backend) -> None:
    async with backend.opened() as store, Watching(store, (await store.head()).revision + 1) as watching:
        put = await store.put("routes/1", b"one", ttl_s=1)
        assert put.succeeded
        assert await watching.events(2) == [Event("routes/1", put.current), Event("routes/1", None)]
        assert await store.get("routes/1") == (None, watching.batches[-1].head)


@asynchronous
async def test_a_further_put_renews_or_lifts_the_expiry(backend: Backend) -> None:
    async with backend.opened() as store, Watching(store, (await store.head()).revision + 1) as watching:
        await store.put("routes/lifted", b"one", ttl_s=1)
        await store.put("routes/lifted", b"two")
        await store.put("routes/renewed", b"one", ttl_s=1)
        await store.put("routes/renewed", b"two", ttl_s=3600)
        await store.put("routes/short", b"one", ttl_s=1)
        # The others' first leases end before this one does.
        while Event("routes/short", None) not in (await watching.next()).events:
            pass
        assert [item.key for item in await read_all(store)] == ["routes/lifted", "routes/renewed"]


@asynchronous
async def test_compacted_history_is_refused_and_the_rest_is_whole(backend: Backend) -> None:
    async with backend.opened() as store:
        first = await store.put("routes/1", b"one")
        await store.put("routes/1", b"two")
        kept = await store.put("routes/2", b"three")
        gone = await store.put("routes/3", b"four")
        gone = await store.delete("routes/3")
        before = await read_all(store)
        await backend.compact()

        with pytest.raises(Compacted) as caught:
            async with Watching(store, first.head.revision) as watching:
                await watching.events(1)
        assert caught.value.revision >= gone.head.revision
        assert await read_all(store) == before
        assert before[-1] == kept.current

        async with Watching(store, gone.head.revision + 1) as watching:
            new = await store.put("routes/3", b"five")
            assert await watching.events(1) == [Event("routes/3", new.current)]


@asynchronous
async def test_a_deletion_at_the_compacted_revision_is_not_lost_without_a_word(backend: Backend) -> None:
    async with backend.opened() as store:
        await store.put("routes/1", b"one")
        gone = await store.delete("routes/1")
        await backend.compact()
        with pytest.raises(Compacted):
            async with Watching(store, gone.head.revision) as watching:
                await watching.events(1)
        async with Watching(store, gone.head.revision + 1) as watching:
            new = await store.put("routes/2", b"two")
            assert await watching.events(1) == [Event("routes/2", new.current)]


@asynchronous
async def test_a_list_overtaken_by_compaction_says_so(backend: Backend) -> None:
    async with backend.opened() as store:
        for number in range(4):
            await store.put(f"routes/{number}", b"old")
        pages = store.list(page_size=2)
        await anext(pages)
        await store.put("routes/3", b"new")
        await backend.compact()
        with pytest.raises(Compacted):
            await anext(pages)


@asynchronous
async def test_a_watch_that_is_closed_leaves_the_store_usable(backend: Backend) -> None:
    async with backend.opened() as store:
        start = (await store.head()).revision + 1
        for _ in range(3):
            async with Watching(store, start):
                pass
        reading = asyncio.ensure_future(_read_for_ever(store, start))
        await store.put("routes/1", b"one")
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (await store.put("routes/1", b"two")).succeeded


@asynchronous
async def test_closing_the_store_ends_its_watches(backend: Backend) -> None:
    async with backend.opened() as store:
        stands = asyncio.Event()
        reading = asyncio.ensure_future(_read_for_ever(store, (await store.head()).revision + 1, stands))
        await stands.wait()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await reading


@asynchronous
async def test_a_watch_starts_at_revision_1_or_later(backend: Backend) -> None:
    async with backend.opened() as store:
        with pytest.raises(ValueError, match="starts at revision 1"):
            await anext(store.watch(0))


async def _read_for_ever(store: Store, start: int, stands: asyncio.Event | None = None) -> None:
    async for _batch in store.watch(start):
        if stands is not None:
            stands.set()
