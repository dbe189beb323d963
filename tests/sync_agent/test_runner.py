"""The agent's inside on a real SQLite file and real shared memory: what is published when the store misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.model.keys import ResourceKey
from gw.shm.layout import AgentState
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixNewSegment, PosixSegment, PosixSpace, no_room, unlink_all
from gw.shm.writer import Publisher
from sync_agent.intake import Intake, deletion
from sync_agent.last_good import Kept, LastGood
from sync_agent.machine import Machine
from sync_agent.outlet import Outlet
from sync_agent.runner import PAGE_KEYS, Runner
from sync_agent.stores.base import Head, Page, WatchBatch
from sync_agent.stores.sql.sqlite import DIALECT, SqliteDatabase
from sync_agent.stores.sql.store import SqlStore
from tests.support.asynchronous import asynchronous
from tests.support.shm import unique_name
from tests.support.stores import SqliteBackend


class FillableSpace(PosixSpace):
    """/dev/shm that has no room for new segments while `is_full`."""

    is_full = False

    def create(self, name: str, size: int, mode: int) -> PosixSegment:
        if self.is_full:
            raise no_room(name, size, 0)
        return super().create(name, size, mode)

    def create_steps(self, name: str, size: int, mode: int) -> Generator[None, None, PosixNewSegment]:
        if self.is_full:
            raise no_room(name, size, 0)
        return super().create_steps(name, size, mode)


class InterruptedStore(SqlStore):
    """Between the first two pages of its first list, `meanwhile` happens to the real database."""

    def __init__(self, path: Path, meanwhile: Callable[[], Any]) -> None:
        super().__init__(SqliteDatabase(path), DIALECT, SystemClock(), poll_interval_s=0.02)
        self._meanwhile: Callable[[], Any] | None = meanwhile

    async def list(self, page_size: int = 500, *, below: str = "") -> AsyncGenerator[Page, None]:
        async for page in super().list(page_size, below=below):
            yield page
            meanwhile, self._meanwhile = self._meanwhile, None
            if meanwhile is not None:
                await meanwhile()


class HastyStore(SqlStore):
    """Its first watch tells of another past twice, and nobody has a turn in between."""

    def __init__(self, path: Path) -> None:
        super().__init__(SqliteDatabase(path), DIALECT, SystemClock(), poll_interval_s=0.02)
        self.watches = 0

    async def watch(self, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        self.watches += 1
        if self.watches == 1:
            for _ in range(2):
                yield WatchBatch(Head(start_revision, "another"), ())
        async with contextlib.aclosing(super().watch(start_revision)) as batches:
            async for batch in batches:
                yield batch


class Host:
    """One host's shared memory and files. `agent` runs the agent's inside on them; several may follow one another."""

    def __init__(self, directory: Path) -> None:
        self.space = FillableSpace()
        self.names = SegmentNames(unique_name())
        self.store = SqliteBackend(directory)
        self.last_good_path = directory / "data" / "last-good.test"
        self.log_size_bytes = 64 * 1024

    @contextlib.asynccontextmanager
    async def agent(self, store: SqlStore | None = None) -> AsyncIterator[Agent]:
        async with contextlib.AsyncExitStack() as stack:
            if store is None:
                store = await stack.enter_async_context(self.store.opened())
            else:
                stack.push_async_callback(store.close)
            publisher = Publisher.attach(
                self.space, self.names, log_size_bytes=self.log_size_bytes, clock=SystemClock()
            )
            stack.callback(publisher.close)
            last_good = LastGood(self.last_good_path)
            outlet = Outlet(publisher, set, last_good, SystemClock(), unjudged=publisher.entries)
            stack.push_async_callback(outlet.close)
            intake = Intake(publisher.entries, 100_000)
            machine = Machine(random.Random(1))
            runner = Runner(machine, store, intake, outlet)
            tasks = [asyncio.create_task(work) for work in (runner.run(), outlet.run())]
            try:
                yield Agent(publisher, outlet, machine, store)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                for task in tasks:
                    assert task.cancelled(), task.exception()

    def write(self, id: str, uri: str, **more: Any) -> None:
        """As another program does."""
        self.store.put(f"routes/{id}", json.dumps(route(uri, **more)))

    def bases(self) -> list[int]:
        """The snapshots there are."""
        numbers = map(self.names.snapshot_number, self.space.list(self.names.prefix))
        return [number for number in numbers if number is not None]

    def back_up(self, to: Path) -> None:
        with contextlib.closing(sqlite3.connect(self.store.path)) as source, contextlib.closing(
            sqlite3.connect(to)
        ) as target:
            source.backup(target)

    def put_in_place(self, backup: Path) -> None:
        """As docs tell it: what lies beside the old file goes with it."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.store.path}{suffix}").unlink(missing_ok=True)
        backup.rename(self.store.path)


class Agent:
    def __init__(self, publisher: Publisher, outlet: Outlet, machine: Machine, store: SqlStore) -> None:
        self.publisher = publisher
        self.outlet = outlet
        self.machine = machine
        self.store = store

    @property
    def version(self) -> int:
        return self.publisher.version

    @property
    def uris(self) -> dict[str, str]:
        return {key.id: entry.routing[0][0] for key, entry in self.publisher.entries.items()}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Bounded by the test's own deadline."""
        while not condition():
            await asyncio.sleep(0.005)

    async def follows(self) -> None:
        """Until all that the store holds is processed."""
        head = await self.store.head()
        await self.until(
            lambda: (seen := self.machine.seen) is not None
            and seen.store_id == head.store_id
            and self.publisher.revision >= head.revision
        )


def route(uri: str, **more: Any) -> dict[str, Any]:
    return {"uri": uri, "upstream": {"nodes": {"127.0.0.1:80": 1}}, **more}


@pytest.fixture
def host(tmp_path: Path):
    host = Host(tmp_path)
    yield host
    unlink_all(host.space, host.names)


@asynchronous
async def test_what_changes_nothing_in_substance_moves_the_revision_only(host: Host) -> None:
    async with host.agent() as agent:
        await agent.follows()
        host.write("1", "/a", update_time=1)
        await agent.until(lambda: agent.uris == {"1": "/a"})
        version = agent.version
        host.write("1", "/a", update_time=1)
        host.write("1", "/a", update_time=2)
        await agent.follows()
        assert agent.version == version


@asynchronous
async def test_a_restart_publishes_the_difference_of_the_gap_and_nothing_when_there_is_none(host: Host) -> None:
    async with host.agent() as agent:
        await agent.follows()
        for id in "abc":
            host.write(id, f"/{id}")
        await agent.until(lambda: len(agent.uris) == 3)
        version, epoch = agent.version, agent.publisher.epoch
    async with host.agent() as agent:
        await agent.follows()
        assert (agent.version, agent.publisher.epoch) == (version, epoch)
    host.store.delete("routes/a")
    host.write("b", "/changed")
    await host.store.compact()
    reader = SnapshotReader(host.space, host.names, SystemClock())
    cursor = reader.load().cursor
    async with host.agent() as agent:
        await agent.follows()
        assert agent.uris == {"b": "/changed", "c": "/c"}
        assert agent.version == version + 1
        difference = reader.changes(cursor)
        assert difference is not None
        assert sorted((change.key.id, change.blob is None) for change in difference.changes) == [
            ("a", True),
            ("b", False),
        ]
    reader.close()


@asynchronous
async def test_a_store_that_comes_back_from_a_backup_is_read_again_whatever_its_revision(
    host: Host, tmp_path: Path
) -> None:
    backup, edited = tmp_path / "backup.db", tmp_path / "edited"
    async with host.agent() as agent:
        await agent.follows()
        host.write("a", "/a")
        host.write("b", "/b")
        host.back_up(backup)
        host.write("b", "/b-after")
        host.write("c", "/c-after")
        await agent.until(lambda: agent.uris == {"a": "/a", "b": "/b-after", "c": "/c-after"})
        versions = [agent.version]

        edited.mkdir()
        elsewhere = SqliteBackend(edited)
        shutil.copy(backup, elsewhere.path)

        host.put_in_place(backup)
        await agent.until(lambda: agent.uris == {"a": "/a", "b": "/b"})
        versions.append(agent.version)

        # A copy that went its own way, past the revision that is followed.
        for number in range(8):
            elsewhere.put("routes/a", json.dumps(route(f"/edited-{number}")))
        with contextlib.closing(sqlite3.connect(elsewhere.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        host.put_in_place(elsewhere.path)
        await agent.until(lambda: agent.uris == {"a": "/edited-7", "b": "/b"})
        versions.append(agent.version)
        await agent.follows()
        assert versions == [versions[0], versions[0] + 1, versions[0] + 2]

        # The same content in another file is no change.
        host.back_up(backup)
        host.put_in_place(backup)
        await agent.follows()
        assert agent.version == versions[-1]


@asynchronous
async def test_a_list_that_breaks_off_between_two_pages_loses_nothing(host: Host) -> None:
    async with host.store.opened() as store:
        for number in range(PAGE_KEYS + 10):
            await store.put(f"routes/{number:04}", json.dumps(route(f"/{number}")).encode())

    async def compact() -> None:
        host.write("0000", "/meanwhile")
        await host.store.compact()

    async with host.agent(InterruptedStore(host.store.path, compact)) as agent:
        await agent.follows()
        assert len(agent.uris) == PAGE_KEYS + 10
        assert agent.uris["0000"] == "/meanwhile"
        assert agent.version == 1


@asynchronous
async def test_what_a_stopped_watch_had_still_to_say_is_not_heard(host: Host) -> None:
    async with host.store.opened() as store:
        await store.put("routes/1", json.dumps(route("/a")).encode())
    hasty = HastyStore(host.store.path)
    async with host.agent(hasty) as agent:
        await agent.until(lambda: hasty.watches == 2)
        host.write("2", "/b")
        await agent.until(lambda: agent.uris == {"1": "/a", "2": "/b"})


@asynchronous
async def test_the_heartbeat_says_whether_the_store_is_followed(host: Host) -> None:
    async with host.agent() as agent:
        await agent.follows()
        await agent.until(lambda: agent.publisher.slot.state is AgentState.WATCHING)
        host.store.path.rename(host.store.path.with_suffix(".away"))
        await agent.until(lambda: agent.publisher.slot.state is AgentState.BACKING_OFF)
        host.store.path.with_suffix(".away").rename(host.store.path)
        await agent.until(lambda: agent.publisher.slot.state is AgentState.WATCHING)


@asynchronous
async def test_what_waits_when_the_agent_stops_is_published_and_kept(host: Host) -> None:
    def kept() -> Kept | None:
        return LastGood(host.last_good_path).load()

    async with host.agent() as agent:
        await agent.follows()
        host.write("1", "/a")
        await agent.until(lambda: (found := kept()) is not None and len(found.entries) == 1)
        key = ResourceKey("routes", "1")
        for revision in (1001, 1002):  # the second one waits to be published with what comes after it
            agent.outlet.offer([deletion(key)] if revision == 1002 else [], revision)
        assert agent.uris == {"1": "/a"}
    assert agent.uris == {}
    found = kept()
    assert found is not None
    assert (found.entries, found.revision) == ({}, 1002)
    reader = SnapshotReader(host.space, host.names, SystemClock())
    slot = reader.peek()
    reader.close()
    assert slot is not None
    assert (slot.state, slot.version, slot.revision) == (AgentState.STOPPED, found.version, 1002)


@asynchronous
async def test_without_room_changes_wait_and_what_is_deleted_meanwhile_never_appears(host: Host) -> None:
    large = {"labels": {f"l{number}": "x" * 250 for number in range(100)}}  # over a quarter of the ring: needs a base
    async with host.agent() as agent:
        await agent.follows()
        host.write("kept", "/kept")
        await agent.until(lambda: agent.uris == {"kept": "/kept"})
        version = agent.version
        host.space.is_full = True
        host.write("large", "/large", **large)
        host.write("gone", "/gone", **large)
        await agent.until(lambda: "no room" in agent.outlet.problem)
        # The deletion is only seen by a full list, while the change still waits for room.
        aside = SqliteBackend(host.store.path.parent / "aside")
        aside.path.parent.mkdir()
        host.back_up(aside.path)
        aside.delete("routes/gone")
        host.put_in_place(aside.path)
        head = await agent.store.head()
        await agent.until(lambda: agent.machine.seen == head)
        assert (agent.uris, agent.version) == ({"kept": "/kept"}, version)
        host.space.is_full = False
        await agent.until(lambda: agent.outlet.problem == "")
        assert agent.uris == {"kept": "/kept", "large": "/large"}


@asynchronous
async def test_a_base_that_finds_no_room_is_renewed_later_and_no_version_is_missed(host: Host) -> None:
    host.log_size_bytes = 16 * 1024
    async with host.agent() as agent:
        await agent.follows()
        host.write("1", "/0")
        await agent.until(lambda: agent.version > 0 and agent.uris == {"1": "/0"})
        base = agent.publisher.slot.snapshot_number
        reader = SnapshotReader(host.space, host.names, SystemClock())
        host.space.is_full = True
        # More than half of the ring, so that a base is due, and less than all of it.
        for number in range(1, 31):
            host.write("1", f"/{number}", desc="x" * 200)
            await agent.until(lambda number=number: agent.uris == {"1": f"/{number}"})
        slot = agent.publisher.slot
        assert slot.snapshot_number == base
        assert (slot.log_end - slot.log_base) * 2 > host.log_size_bytes
        assert reader.load().slot.version == agent.version
        host.space.is_full = False
        for number in range(31, 51):
            host.write("1", f"/{number}")
            await agent.until(lambda number=number: agent.uris == {"1": f"/{number}"})
        assert agent.publisher.slot.snapshot_number > base
        assert reader.load().slot.version == agent.version
        reader.close()
        await agent.until(lambda: host.bases() == [agent.publisher.slot.snapshot_number])


@asynchronous
async def test_a_last_good_file_that_cannot_be_written_stops_nothing_and_is_told(host: Host) -> None:
    host.last_good_path.parent.write_text("where the directory should be")
    async with host.agent() as agent:
        await agent.follows()
        host.write("1", "/1")
        await agent.until(lambda: agent.uris == {"1": "/1"})
        await agent.until(lambda: str(host.last_good_path) in agent.outlet.problem)
        host.write("2", "/2")
        await agent.until(lambda: len(agent.uris) == 2)
        host.last_good_path.parent.unlink()
        await agent.until(lambda: agent.outlet.problem == "")
        kept = LastGood(host.last_good_path).load()
        assert kept is not None
        assert kept.version == agent.version
