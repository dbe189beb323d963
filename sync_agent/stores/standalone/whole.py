"""What the two stores of this package share: reading and watching Contents, and refusing writes of single keys."""

from __future__ import annotations

import abc
from collections.abc import AsyncGenerator

from gw.clock import Clock
from gw.errors import StoreError
from sync_agent.stores.base import Head, KeyValue, Page, ReadOnly, WatchBatch, Written, check_key, check_start
from sync_agent.stores.standalone.contents import Contents


class WholeStore(abc.ABC):
    """A Store (sync_agent.stores.base) whose content is replaced as a whole, by whoever inherits."""

    def __init__(self, store_id: str, clock: Clock, poll_interval_s: float | None) -> None:
        """`poll_interval_s`: how often a watch refreshes; None: it is told."""
        self._contents = Contents(store_id, clock)
        self._poll_interval_s = poll_interval_s
        self._is_closed = False

    @abc.abstractmethod
    async def _refresh(self) -> None:
        """Bring the contents up to date. Raises StoreError when that cannot be done."""

    @abc.abstractmethod
    def read_only(self) -> ReadOnly:
        """Says how the content is changed instead."""

    async def head(self) -> Head:
        """As Store.head."""
        self._check_open()
        return self._contents.head

    async def may_have_changed(self, after: int) -> bool:
        """As Store.may_have_changed."""
        return after < (await self.head()).revision

    async def list(self, page_size: int = 500, *, below: str = "") -> AsyncGenerator[Page, None]:
        """As Store.list. Raises StoreError as long as there has been no content at all."""
        self._check_open()
        await self._refresh()
        async for page in self._contents.pages(page_size, below):
            yield page

    async def get(self, key: str) -> tuple[KeyValue | None, Head]:
        """As Store.get."""
        self._check_open()
        check_key(key)
        return self._contents.get(key), self._contents.head

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> Written:
        """Raises ReadOnly."""
        raise self.read_only()

    async def delete(self, key: str, *, expect: int | None = None) -> Written:
        """Raises ReadOnly."""
        raise self.read_only()

    async def watch(self, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """As Store.watch. Ends with StoreError, too, when a newer document cannot be used."""
        check_start(start_revision)
        self._check_open()
        await self._refresh()
        seen = start_revision - 1
        self._contents.since(seen)
        yield WatchBatch(self._contents.head, ())
        while True:
            batch = self._contents.since(seen)
            if batch.events:
                seen = batch.head.revision
                yield batch
                continue
            await self._contents.changed(self._poll_interval_s)
            self._check_open()
            await self._refresh()

    async def close(self) -> None:
        """As Store.close."""
        self._is_closed = True
        self._contents.wake()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the configuration store is closed")
