"""What is SQLite's own: the file, its mode, other programs, replacement, damage, old history."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from gw.clock import SystemClock
from gw.errors import Compacted, StoreError
from sync_agent.stores.base import Event
from sync_agent.stores.sql.log import RevisionLog
from sync_agent.stores.sql.sqlite import DIALECT, SqliteDatabase
from sync_agent.stores.sql.store import SqlStore
from tests.support.asynchronous import asynchronous
from tests.support.stores import SqliteBackend, Watching, read_all


class HandClock:
    """Moved by hand."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def cpu(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@asynchronous
async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "new" / "er")
    before = os.umask(0)
    try:
        async with backend.opened() as store:
            await store.put("routes/1", b"secret")
            assert mode(backend.path.parent) == 0o700
            files = sorted(backend.path.parent.iterdir())
            assert [file.name for file in files] == ["config.db", "config.db-shm", "config.db-wal"]
            assert {mode(file) for file in files} == {0o600}
    finally:
        os.umask(before)


@asynchronous
async def test_a_file_open_to_others_is_closed_to_them(backend: SqliteBackend) -> None:
    async with backend.opened() as store:
        await store.head()
    backend.path.chmod(0o644)
    async with backend.opened() as store:
        await store.head()
        assert mode(backend.path) == 0o600


@asynchronous
async def test_an_answered_write_is_on_the_disk(backend: SqliteBackend) -> None:
    async with backend.opened() as store:
        await store.head()
        connection, _openings = store._database.opened()
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


@asynchronous
async def test_a_killed_writer_loses_nothing(backend: SqliteBackend) -> None:
    program = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.support.stores import SqliteBackend
async def main():
    async with SqliteBackend(Path(sys.argv[1])).opened() as store:
        for number in range(50):
            await store.put(f"routes/{number:02}", b"v")
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    result = subprocess.run([sys.executable, "-c", program, backend.path.parent], cwd=Path(__file__).parents[2])
    assert result.returncode == -9
    async with backend.opened() as store:
        assert len(await read_all(store)) == 50
        assert (await store.head()).revision == 51


@asynchronous
async def test_a_person_with_a_shell_is_noticed(backend: SqliteBackend) -> None:
    async with backend.opened() as store, Watching(store, (await store.head()).revision + 1) as watching:
        for statement in (
            "INSERT INTO config (key, value) VALUES ('routes/1', '{}')",
            "UPDATE config SET value = '{\"uri\": \"/*\"}' WHERE key = 'routes/1'",
            "DELETE FROM config",
            "INSERT INTO config (key, value) VALUES ('routes/1', 'again')",
        ):
            backend.execute(statement)
        events = await watching.events(4)
        assert [event.kv and event.kv.value for event in events] == [b"{}", b'{"uri": "/*"}', None, b"again"]
        assert [event.kv and event.kv.create_revision for event in events] == [2, 2, None, 5]
        put = await store.put("routes/1", b"ours")
        assert put.current is not None
        assert put.current.create_revision == 5
        with closing(sqlite3.connect(backend.path)) as shell:
            assert shell.execute("SELECT * FROM config").fetchall() == [("routes/1", "ours", 6)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO config (key, value) VALUES ('routes/1', 'two')",
        "UPDATE config SET value = 'two' WHERE key = 'routes/1'",
    ],
)
@asynchronous
async def test_what_a_shell_writes_over_a_key_does_not_expire(backend: SqliteBackend, statement: str) -> None:
    clock = HandClock()
    store = SqlStore(SqliteDatabase(backend.path), DIALECT, clock, poll_interval_s=0.01)
    try:
        first = await store.put("routes/1", b"one", ttl_s=60)
        last = await store.put("routes/later", b"v", ttl_s=61)
        backend.execute(statement)
        async with Watching(store, last.head.revision + 2) as watching:
            clock.now += 61
            assert await watching.events(1) == [Event("routes/later", None)]
        [item] = await read_all(store)
        assert (item.value, item.create_revision) == (b"two", first.head.revision)
    finally:
        await store.close()


@asynchronous
async def test_expiry_goes_by_wall_time_and_holds_over_a_restart(tmp_path: Path) -> None:
    clock = HandClock()
    path = tmp_path / "config.db"
    store = SqlStore(SqliteDatabase(path), DIALECT, clock, poll_interval_s=0.01)
    written = await store.put("routes/1", b"v", ttl_s=60)
    await store.put("routes/2", b"v", ttl_s=61)
    await store.close()

    clock.now += 60
    store = SqlStore(SqliteDatabase(path), DIALECT, clock, poll_interval_s=0.01)
    try:
        async with Watching(store, written.head.revision + 2) as watching:
            assert await watching.events(1) == [Event("routes/1", None)]
        assert [item.key for item in await read_all(store)] == ["routes/2"]
    finally:
        await store.close()


@asynchronous
async def test_another_programs_write_is_noticed_without_waiting_for_the_next_look(tmp_path: Path) -> None:
    path = tmp_path / "config.db"
    store = SqlStore(SqliteDatabase(path), DIALECT, SystemClock(), poll_interval_s=3600)
    try:
        async with Watching(store, 2) as watching:
            with closing(sqlite3.connect(path)) as shell, shell:
                shell.execute("INSERT INTO config (key, value) VALUES ('routes/1', '{}')")
            [event] = await watching.events(1)
            assert event.key == "routes/1"
    finally:
        await store.close()


def test_a_compaction_does_not_wait_for_the_disk_and_writes_do(tmp_path: Path) -> None:
    """What SQLite is told, since a power cut cannot be had: full (2) for writes, normal while history is dropped."""
    connection, _ = SqliteDatabase(tmp_path / "config.db").opened()
    revisions = RevisionLog(connection, DIALECT)
    for value in (b"a", b"b"):
        revisions.put("routes/1", value, None, None)
    told = []
    connection.set_trace_callback(lambda sql: told.append(sql) if "synchronous" in sql or sql == "COMMIT" else None)
    revisions.compact(3)
    assert told == [DIALECT.before_compaction, "COMMIT", DIALECT.after_compaction]
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


@asynchronous
async def test_old_history_is_compacted_by_itself(tmp_path: Path) -> None:
    store = SqlStore(
        SqliteDatabase(tmp_path / "config.db"), DIALECT, SystemClock(), poll_interval_s=0.01, keep_revisions=20
    )
    try:
        await store.put("routes/kept", b"v")
        await store.put("routes/gone", b"v")
        await store.delete("routes/gone")
        for number in range(40):
            last = await store.put("routes/1", b"%d" % number)
        # It goes on while writes come and leaves what is under a tenth too much: where it ends is in between.
        while (compacted := await _wait_for_compaction(store)) < last.head.revision - 22:
            await asyncio.sleep(0.01)
        assert compacted <= last.head.revision - 20
        assert [item.key for item in await read_all(store)] == ["routes/1", "routes/kept"]
        async with Watching(store, compacted + 1) as watching:
            events = await watching.events(last.head.revision - compacted)
            assert events[-1] == Event("routes/1", last.current)
        with closing(sqlite3.connect(tmp_path / "config.db")) as shell:
            [rows] = shell.execute("SELECT COUNT(*) FROM log").fetchone()
            # The poll may come round when routes/1 has not been written yet.
            standing = 2 if last.current.create_revision <= compacted else 1
            assert rows == standing + last.head.revision - compacted
    finally:
        await store.close()


async def _wait_for_compaction(store: SqlStore) -> int:
    """The revision up to which history is gone, once the store's own poll has come round to it."""
    while True:
        try:
            async with Watching(store, 2):
                await asyncio.sleep(0.01)
        except Compacted as gone:
            return gone.revision


@asynchronous
async def test_compaction_in_steps_leaves_every_state_true(backend: SqliteBackend) -> None:
    """All that can happen to a key, compacted at each revision: lists and watches stay as they were."""
    async with backend.opened() as store:
        for key, value in [("a", b"1"), ("b", b"1"), ("a", b"2"), ("b", None), ("c", b"1"), ("b", b"3"), ("a", None)]:
            if value is None:
                await store.delete(key)
            else:
                await store.put(key, value)
        head = await store.head()
        before = await read_all(store)
        async with Watching(store, 1) as watching:
            history = await watching.events(7)
        for revision in range(1, head.revision + 1):
            await store.compact(revision)
            assert await read_all(store) == before
            rest = history[revision - 1 :]  # the first write has revision 2
            async with Watching(store, revision + 1) as watching:
                assert await watching.events(len(rest)) == rest
            with pytest.raises(Compacted, match=str(revision)):
                async with Watching(store, revision):
                    pass
        with closing(sqlite3.connect(backend.path)) as shell:
            assert shell.execute("SELECT key FROM log ORDER BY key").fetchall() == [("b",), ("c",)]
        assert await store.head() == head


@asynchronous
async def test_a_backup_put_in_place_ends_the_watch(backend: SqliteBackend, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    async with backend.opened() as store:
        await store.put("routes/1", b"old")
        with closing(sqlite3.connect(backend.path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        for _ in range(5):
            last = await store.put("routes/1", b"new")
        async with Watching(store, last.head.revision + 1) as watching:
            for suffix in ("-wal", "-shm"):
                Path(f"{backend.path}{suffix}").unlink(missing_ok=True)
            backup.rename(backend.path)
            with pytest.raises(StoreError, match="replaced"):
                await watching.next()
        head = await store.head()
        assert head.revision < last.head.revision
        assert [item.value for item in await read_all(store)] == [b"old"]
        async with Watching(store, last.head.revision + 1) as watching:
            assert watching.opened.head == head


@asynchronous
async def test_another_file_ends_the_watch_even_at_the_same_revision(backend: SqliteBackend, tmp_path: Path) -> None:
    async with backend.opened() as store:
        last = await store.put("routes/1", b"v")
        with closing(sqlite3.connect(backend.path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as target:
            source.backup(target)
        async with Watching(store, last.head.revision + 1) as watching:
            for suffix in ("-wal", "-shm"):
                Path(f"{backend.path}{suffix}").unlink(missing_ok=True)
            (tmp_path / "copy.db").rename(backend.path)
            with pytest.raises(StoreError, match="replaced"):
                await watching.next()
        # A copy may have been written to on its way, so it counts as another store at any revision.
        head = await store.head()
        assert head.revision == last.head.revision
        assert head.store_id != last.head.store_id


@asynchronous
async def test_a_backup_restored_by_a_shell_ends_the_watch(backend: SqliteBackend, tmp_path: Path) -> None:
    """`.restore` writes into the file that is open: the same inode, and a revision that goes back."""
    backup = tmp_path / "backup.db"
    async with backend.opened() as store:
        await store.put("routes/1", b"old")
        with closing(sqlite3.connect(backend.path)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        last = await store.put("routes/1", b"new")
        async with Watching(store, last.head.revision + 1) as watching:
            with closing(sqlite3.connect(backup)) as source, closing(sqlite3.connect(backend.path)) as target:
                source.backup(target)
            with pytest.raises(StoreError, match="replaced"):
                await watching.next()
        assert [item.value for item in await read_all(store)] == [b"old"]


@asynchronous
async def test_a_file_that_vanishes_is_a_lost_store_not_an_empty_one(backend: SqliteBackend, tmp_path: Path) -> None:
    async with backend.opened() as store:
        head = (await store.put("routes/1", b"v")).head
        async with Watching(store, head.revision + 1) as watching:
            for file in tmp_path.glob("config.db*"):
                file.rename(tmp_path / f"away-{file.name}")
            with pytest.raises(StoreError, match="is gone"):
                await watching.next()
        with pytest.raises(StoreError, match="is gone"):
            await store.put("routes/2", b"v")
        assert not backend.path.exists()
        for file in tmp_path.glob("away-config.db*"):
            file.rename(tmp_path / file.name.removeprefix("away-"))
        written = await store.put("routes/2", b"v")
        assert written.succeeded
        assert written.head.store_id != head.store_id, "what was done to it while it was away is not known"
        assert [item.key for item in await read_all(store)] == ["routes/1", "routes/2"]


@asynchronous
async def test_what_is_not_a_database(backend: SqliteBackend) -> None:
    backend.path.write_bytes(b"this is not a database, it is a text of some length" * 100)
    async with backend.opened() as store:
        with pytest.raises(StoreError, match=r"config\.db: file is not a database \(restore a backup, or move"):
            await store.head()
    assert backend.path.read_bytes().startswith(b"this is not")


@asynchronous
async def test_another_programs_database_is_left_alone(backend: SqliteBackend) -> None:
    backend.execute("CREATE TABLE theirs (a)")
    before = backend.path.read_bytes()
    async with backend.opened() as store:
        with pytest.raises(StoreError, match="a database of another program"):
            await store.head()
    assert backend.path.read_bytes() == before


@asynchronous
async def test_a_newer_format_is_refused(backend: SqliteBackend) -> None:
    async with backend.opened() as store:
        await store.head()
    backend.execute("PRAGMA user_version = 2")
    async with backend.opened() as store:
        with pytest.raises(StoreError, match="has format 2, and this version of Jitterway knows 1"):
            await store.head()


@asynchronous
async def test_a_damaged_file_is_reported_and_another_one_taken(backend: SqliteBackend, tmp_path: Path) -> None:
    async with backend.opened() as store:
        for number in range(200):
            await store.put(f"routes/{number}", b"v" * 500)
    shutil.copy(backend.path, tmp_path / "good.db")
    with backend.path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 32768)
    async with backend.opened() as store:
        with pytest.raises(StoreError, match=r"config\.db: .*malformed.*restore a backup"):
            await read_all(store)
        (tmp_path / "good.db").rename(backend.path)
        assert len(await read_all(store)) == 200


@asynchronous
async def test_a_full_disk_is_reported_and_nothing_is_lost(backend: SqliteBackend) -> None:
    async with backend.opened() as store:
        kept = await store.put("routes/1", b"v")
        connection, _openings = store._database.opened()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 10}")  # SQLite's own way to run out of room
        with pytest.raises(StoreError, match=r"config\.db: database or disk is full \(free some space"):
            await store.put("routes/2", b"x" * 1024 * 1024)
        assert await read_all(store) == [kept.current]
        assert (await store.put("routes/2", b"small")).succeeded


@asynchronous
async def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with SqliteBackend(tmp_path / "file" / "below").opened() as store:
        with pytest.raises(StoreError, match=r"below/config\.db: Not a directory .*must be able to make and write"):
            await store.head()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@asynchronous
async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        async with SqliteBackend(tmp_path).opened() as store:
            with pytest.raises(StoreError, match=r"config\.db: Permission denied .*must be able to make and write"):
                await store.head()
    finally:
        tmp_path.chmod(0o700)


@asynchronous
async def test_a_transaction_left_open_elsewhere_is_named(
    backend: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_agent.stores.sql.sqlite.BUSY_TIMEOUT_S", 0.05)
    async with backend.opened() as store:
        await store.put("routes/1", b"v")
        with closing(sqlite3.connect(backend.path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"database is locked \(another program has held it"):
                await store.put("routes/1", b"w")
            assert len(await read_all(store)) == 1  # readers do not wait
            shell.execute("ROLLBACK")
        assert (await store.put("routes/1", b"w")).succeeded


@asynchronous
async def test_several_may_make_the_file_at_once(tmp_path: Path) -> None:
    for attempt in range(10):
        backend = SqliteBackend(tmp_path / str(attempt))
        async with AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(backend.opened()) for _ in range(4)]
            heads = await asyncio.gather(*(store.head() for store in stores))
            assert len(set(heads)) == 1
