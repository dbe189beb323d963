"""The stores under test, behind one handle: open one, write to it as a stranger would, compact its history."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol

from gw.clock import SystemClock
from sync_agent.stores.base import Event, KeyValue, Store, WatchBatch
from sync_agent.stores.etcd.options import EtcdOptions
from sync_agent.stores.etcd.store import EtcdStore
from sync_agent.stores.sql.sqlite import DIALECT, SqliteDatabase
from sync_agent.stores.sql.store import SqlStore
from tests.support.etcd import Etcd


class Backend(Protocol):
    """One place where keys are kept. Several stores may be opened on it."""

    def opened(self) -> contextlib.AbstractAsyncContextManager[Store]: ...

    def put(self, key: str, value: str) -> None:
        """As another program writes."""
        ...

    def delete(self, key: str) -> None: ...

    async def compact(self) -> None:
        """Forget all history."""
        ...


class SqliteBackend:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "config.db"

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[SqlStore]:
        store = SqlStore(SqliteDatabase(self.path), DIALECT, SystemClock(), poll_interval_s=0.02)
        try:
            yield store
        finally:
            await store.close()

    def execute(self, sql: str, *parameters: object) -> None:
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql, parameters)

    def put(self, key: str, value: str) -> None:
        self.execute("INSERT INTO config (key, value) VALUES (?, ?)", key, value)

    def delete(self, key: str) -> None:
        self.execute("DELETE FROM config WHERE key = ?", key)

    async def compact(self) -> None:
        async with self.opened() as store:
            await store.compact((await store.head()).revision)


class EtcdBackend:
    def __init__(self, etcd: Etcd, prefix: str = "/apisix") -> None:
        self.etcd = etcd
        self.prefix = prefix

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[EtcdStore]:
        store = EtcdStore(EtcdOptions((self.etcd.endpoint,), self.prefix, timeout_s=10))
        try:
            yield store
        finally:
            await store.close()

    def put(self, key: str, value: str) -> None:
        self.etcd.put(f"{self.prefix}/{key}", value)

    def delete(self, key: str) -> None:
        self.etcd.delete(f"{self.prefix}/{key}")

    async def compact(self) -> None:
        self.etcd.compact()


class Watching:
    """A watch that is read in steps, each bounded by the test's own deadline."""

    def __init__(self, store: Store, start_revision: int) -> None:
        self._batches: AsyncGenerator[WatchBatch, None] = store.watch(start_revision)
        self.batches: list[WatchBatch] = []

    async def __aenter__(self) -> "Watching":
        self.opened = await anext(self._batches)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._batches.aclose()

    async def next(self) -> WatchBatch:
        batch = await anext(self._batches)
        self.batches.append(batch)
        return batch

    async def events(self, count: int) -> list[Event]:
        """The next `count` events, however they are cut into batches."""
        events: list[Event] = []
        while len(events) < count:
            events += (await self.next()).events
        return events


async def read_all(store: Store, page_size: int = 500) -> list[KeyValue]:
    return [item async for page in store.list(page_size) for item in page.items]


async def in_parallel(*work: object, at_once: int = 50) -> None:
    """Run coroutines, so many at once."""
    turns = asyncio.Semaphore(at_once)

    async def one(item: object) -> None:
        async with turns:
            await item  # type: ignore[misc]

    await asyncio.gather(*(one(item) for item in work))
