"""Get, put, delete and list, as `sync_agent.stores.base` promises them, on every store."""

import asyncio

import pytest

from gw.errors import StoreError
from sync_agent.stores.base import KeyValue
from tests.support.asynchronous import asynchronous
from tests.support.stores import Backend, in_parallel, read_all


@asynchronous
async def test_an_empty_store_has_a_head_and_one_empty_page(backend: Backend) -> None:
    async with backend.opened() as store:
        head = await store.head()
        pages = [page async for page in store.list()]
        assert head.revision >= 1
        assert head.store_id
        assert [page.items for page in pages] == [()]
        assert pages[0].head == head
        assert await store.get("routes/1") == (None, head)


@asynchronous
async def test_the_store_id_stays(backend: Backend) -> None:
    async with backend.opened() as store:
        first = await store.head()
    async with backend.opened() as store:
        await store.put("routes/1", b"{}")
        assert (await store.head()).store_id == first.store_id


@asynchronous
async def test_what_may_have_changed_since(backend: Backend) -> None:
    async with backend.opened() as store:
        revisions = [(await store.put(key, b"{}")).head.revision for key in ("routes/1", "routes/2")]
        assert not await store.may_have_changed(revisions[-1])
        for write in (store.put("routes/1", b"{}"), store.delete("routes/2"), store.put("routes/3", b"{}")):
            revisions.append((await write).head.revision)
            assert not await store.may_have_changed(revisions[-1])
            assert [await store.may_have_changed(each) for each in revisions[:-1]] == [True] * (len(revisions) - 1)
        assert await store.may_have_changed(0)
    await backend.compact()
    async with backend.opened() as store:
        assert not await store.may_have_changed(revisions[-1])
        assert await store.may_have_changed(revisions[0])


@asynchronous
async def test_put_creates_then_updates(backend: Backend) -> None:
    async with backend.opened() as store:
        created = await store.put("routes/1", b"one")
        assert created.succeeded
        revision = created.head.revision
        assert created.current == KeyValue("routes/1", b"one", revision, revision)

        updated = await store.put("routes/1", b"two")
        assert updated.succeeded
        assert updated.head.revision > revision
        assert updated.current == KeyValue("routes/1", b"two", revision, updated.head.revision)

        assert await store.get("routes/1") == (updated.current, updated.head)


@asynchronous
async def test_put_on_the_revision_read(backend: Backend) -> None:
    async with backend.opened() as store:
        first = await store.put("routes/1", b"one", expect=0)
        assert first.succeeded
        second = await store.put("routes/1", b"two", expect=first.head.revision)
        assert second.succeeded
        assert second.current == KeyValue("routes/1", b"two", first.head.revision, second.head.revision)

        stale = await store.put("routes/1", b"three", expect=first.head.revision)
        assert not stale.succeeded
        assert stale.current == second.current
        assert stale.head.revision >= second.head.revision
        assert (await store.get("routes/1"))[0] == second.current


@asynchronous
async def test_expect_0_wants_it_absent(backend: Backend) -> None:
    async with backend.opened() as store:
        first = await store.put("routes/1", b"one", expect=0)
        again = await store.put("routes/1", b"two", expect=0)
        assert not again.succeeded
        assert again.current == first.current


@asynchronous
async def test_expecting_what_is_absent_is_refused(backend: Backend) -> None:
    async with backend.opened() as store:
        before = await store.head()
        written = await store.put("routes/1", b"one", expect=before.revision)
        assert (written.succeeded, written.current) == (False, None)
        assert await store.head() == before


@asynchronous
async def test_delete_answers_what_was_deleted(backend: Backend) -> None:
    async with backend.opened() as store:
        put = await store.put("routes/1", b"one")
        deleted = await store.delete("routes/1")
        assert deleted.succeeded
        assert deleted.current == put.current
        assert deleted.head.revision > put.head.revision
        assert await store.get("routes/1") == (None, deleted.head)


@asynchronous
async def test_delete_on_the_revision_read(backend: Backend) -> None:
    async with backend.opened() as store:
        first = await store.put("routes/1", b"one")
        second = await store.put("routes/1", b"two")
        refused = await store.delete("routes/1", expect=first.head.revision)
        assert (refused.succeeded, refused.current) == (False, second.current)
        assert (await store.delete("routes/1", expect=second.head.revision)).succeeded


@asynchronous
async def test_deleting_what_is_absent_writes_nothing(backend: Backend) -> None:
    async with backend.opened() as store:
        before = await store.head()
        for expect in (None, 0, 1):
            deleted = await store.delete("routes/1", expect=expect)
            assert (deleted.succeeded, deleted.current) == (False, None)
        assert await store.head() == before


@asynchronous
async def test_a_key_that_comes_back_is_created_anew(backend: Backend) -> None:
    async with backend.opened() as store:
        await store.put("routes/1", b"one")
        await store.delete("routes/1")
        again = await store.put("routes/1", b"two", expect=0)
        assert again.current == KeyValue("routes/1", b"two", again.head.revision, again.head.revision)


@asynchronous
async def test_revisions_only_grow_also_over_a_restart(backend: Backend) -> None:
    revisions = []
    for value in (b"one", b"two", b"three"):
        async with backend.opened() as store:
            revisions.append((await store.put("routes/1", value)).head.revision)
            revisions.append((await store.delete("routes/1")).head.revision)
    assert revisions == sorted(set(revisions))


@pytest.mark.parametrize(
    "key",
    [
        "routes/1",
        "consumers/jack/credentials/key-auth",
        "plugins",
        "a b/%20/x?y=z&ü",
        "日本/経路",
        "routes/" + "x" * 1000,
        "-- '\"; DROP TABLE log",
        "trailing/",
        "//",
        "\n\t\x01",
    ],
)
@asynchronous
async def test_any_key_comes_back_as_it_went(backend: Backend, key: str) -> None:
    async with backend.opened() as store:
        written = await store.put(key, b"v", expect=0)
        assert written.succeeded
        assert await store.get(key) == (written.current, written.head)
        assert await read_all(store) == [written.current]
        assert (await store.delete(key, expect=written.head.revision)).succeeded


@pytest.mark.parametrize("key", ["", "nul\0", "\udcff"])
@asynchronous
async def test_keys_no_store_can_hold(backend: Backend, key: str) -> None:
    async with backend.opened() as store:
        for work in (store.put(key, b"v"), store.get(key), store.delete(key)):
            with pytest.raises(StoreError, match="no store can hold it"):
                await work


@pytest.mark.parametrize("value", [b"", b"\0\xff", b'{"id": "\xc3\xbc"}', b"x" * 1024 * 1024], ids=len)
@asynchronous
async def test_any_value_comes_back_as_it_went(backend: Backend, value: bytes) -> None:
    async with backend.opened() as store:
        written = await store.put("routes/1", value)
        assert written.current is not None
        assert written.current.value == value
        found, _head = await store.get("routes/1")
        assert found == written.current


@asynchronous
async def test_lists_ascend_by_the_bytes_of_the_key(backend: Backend) -> None:
    # UTF-16 order (what JavaScript or Java sort by) would put the emoji before U+FFFD.
    keys = ["a", "a/b", "a-b", "a\x7f", "b", "Z", "ä", "\ufffd", "😀", "a/", "aa"]
    async with backend.opened() as store:
        for key in keys:
            await store.put(key, key.encode())
        for page_size in (1, 3, 500):
            assert [item.key for item in await read_all(store, page_size)] == sorted(keys, key=str.encode)


@asynchronous
async def test_lists_of_what_is_below(backend: Backend) -> None:
    keys = ["a/", "a/b", "a/b/c", "a/c", "a/ä", "a0", "a", "b/a/b", "A/b"]
    async with backend.opened() as store:
        for key in keys:
            await store.put(key, b"")
        head = await store.head()
        for below, expected in {
            "a/": ["a/b", "a/b/c", "a/c", "a/ä"],
            "a/b/": ["a/b/c"],
            "b/": ["b/a/b"],
            "c/": [],
            "0/": [],
        }.items():
            for page_size in (1, 2, 500):
                pages = [page async for page in store.list(page_size, below=below)]
                assert [item.key for page in pages for item in page.items] == expected
                assert {page.head for page in pages} == {head}


@asynchronous
async def test_a_list_stands_at_one_revision_while_writes_go_on(backend: Backend) -> None:
    async with backend.opened() as store:
        for number in range(10):
            await store.put(f"routes/{number}", b"old")
        before = await read_all(store)
        head = await store.head()

        pages = []
        async for page in store.list(page_size=3):
            pages.append(page)
            await store.put(f"routes/{9 - len(pages)}", b"new")
            await store.put(f"routes/{len(pages)}a", b"new")
            await store.delete(f"routes/{9 - len(pages) - 4}")
        assert [item for page in pages for item in page.items] == before
        assert {page.head for page in pages} == {head}
        assert all(len(page.items) <= 3 for page in pages)


@asynchronous
async def test_thousands_of_keys_beyond_grpcs_message_limit(backend: Backend) -> None:
    keys = [f"routes/{number:05}" for number in range(3000)]
    value = b"x" * 2000  # 6 MB in all; a client's default limit is 4 MiB
    async with backend.opened() as store:
        await in_parallel(*(store.put(key, value, expect=0) for key in keys))
        for page_size in (500, 3000):
            items = await read_all(store, page_size)
            assert [item.key for item in items] == keys
            assert all(item.value == value for item in items)


@asynchronous
async def test_of_two_writers_on_one_revision_exactly_one_wins(backend: Backend) -> None:
    async with backend.opened() as one, backend.opened() as other:
        revision = 0
        for round_ in range(20):
            results = await asyncio.gather(
                one.put("routes/1", b"one%d" % round_, expect=revision),
                other.put("routes/1", b"other%d" % round_, expect=revision),
            )
            winners = [result for result in results if result.succeeded]
            losers = [result for result in results if not result.succeeded]
            assert (len(winners), len(losers)) == (1, 1)
            assert losers[0].current == winners[0].current
            revision = winners[0].head.revision


@asynchronous
async def test_unconditional_writes_get_through_among_others(backend: Backend) -> None:
    async with backend.opened() as one, backend.opened() as other:
        results = await asyncio.gather(*(store.put("routes/1", b"v") for store in (one, other) for _ in range(5)))
        assert all(result.succeeded for result in results)
        assert len({result.head.revision for result in results}) == 10


@asynchronous
async def test_nothing_is_written_that_was_not_asked_for(backend: Backend) -> None:
    async with backend.opened() as store:
        put = await store.put("routes/1", b"{}")
        await store.delete("routes/2")
        assert await read_all(store) == [put.current]


@asynchronous
async def test_what_others_left_comes_through_as_it_is(backend: Backend) -> None:
    async with backend.opened() as store:
        await store.head()
        backend.put("routes/", "init_dir")  # APISIX's placeholder
        backend.put("routes/1", "not { JSON")
        assert [(item.key, item.value) for item in await read_all(store)] == [
            ("routes/", b"init_dir"),
            ("routes/1", b"not { JSON"),
        ]


@asynchronous
async def test_a_closed_store_refuses(backend: Backend) -> None:
    async with backend.opened() as store:
        await store.head()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.head()


@asynchronous
async def test_a_time_to_live_is_whole_seconds(backend: Backend) -> None:
    async with backend.opened() as store:
        with pytest.raises(ValueError, match="at least 1 s"):
            await store.put("routes/1", b"v", ttl_s=0)
