"""Resources in memory as a store that is replaced as a whole: revisions, history and those who watch. No I/O.

Each replacement that changes anything is one revision and one batch. History is bounded by what is worth telling event
by event: after a larger change a watch is told that history is gone, and its reader lists, a page at a time, which
holds up the agent less than so many events at once.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from gw.clock import Clock
from gw.errors import Compacted
from sync_agent.stores.base import Event, Head, KeyValue, Page, WatchBatch
from sync_agent.stores.standalone.document import Value

# Judging an event takes some 50 us, so a batch of this many holds the agent for 25 ms.
MAX_TOLD_EVENTS: Final = 500
# Ordinary changes of single resources that a watch may be behind.
MAX_HISTORY_BATCHES: Final = 100
# As etcd's: an empty store has had one revision.
FIRST_REVISION: Final = 1


class Contents:
    """What the store holds now. For one event loop."""

    def __init__(self, store_id: str, clock: Clock) -> None:
        self._store_id = store_id
        self._clock = clock
        self._revision = FIRST_REVISION
        self._items: dict[str, KeyValue] = {}
        self._sorted: list[str] | None = []
        self._history: deque[WatchBatch] = deque()
        self._gone_revision = 0  # up to and with it history is gone
        self._changed = asyncio.Event()

    @property
    def head(self) -> Head:
        """Where the store stands."""
        return Head(self._revision, self._store_id)

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> KeyValue | None:
        """One key, None when absent."""
        return self._items.get(key)

    def difference(self, values: Mapping[str, Value]) -> dict[str, Value | None]:
        """What `replace` would change: values by key, None for what would go. May run in a thread of its own."""
        items = self._items
        changes: dict[str, Value | None] = {}
        for key, value in values.items():
            found = items.get(key)
            if found is None or found.value != value.raw or found.refusal != value.refusal:
                changes[key] = value
        changes.update((key, None) for key in items if key not in values)
        return changes

    def apply(self, changes: Mapping[str, Value | None]) -> None:
        """Make these changes, in one revision; none are no revision."""
        if not changes:
            return
        # Wall time, so that revisions grow over restarts, too, without being kept anywhere.
        revision = max(self._revision + 1, int(self._clock.wall() * 1000))
        events = []
        for key, value in changes.items():
            found = self._items.get(key)
            if value is None:
                self._items.pop(key, None)
                events.append(Event(key, None))
                continue
            created = revision if found is None else found.create_revision
            kv = self._items[key] = KeyValue(key, value.raw, created, revision, value.refusal)
            events.append(Event(key, kv))
        self._revision = revision
        self._sorted = None
        self._remember(WatchBatch(self.head, tuple(events)))
        self.wake()

    def wake(self) -> None:
        """Let those who wait for a change have a look, whether there is one or not."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self, timeout_s: float | None = None) -> None:
        """Wait for a change, a `wake`, or that long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def pages(self, page_size: int, below: str) -> AsyncGenerator[Page, None]:
        """Every key that begins with `below` and goes on behind it, as Store.list."""
        head, keys = self.head, self._keys()
        if below:
            first = bisect.bisect_right(keys, below.encode(), key=str.encode)
            keys = list(itertools.takewhile(lambda key: key.startswith(below), itertools.islice(keys, first, None)))
        items = self._items.copy()  # what changes while pages are handed out is another list's
        yield Page(tuple(items[key] for key in keys[:page_size]), head)
        for start in range(page_size, len(keys), page_size):
            yield Page(tuple(items[key] for key in keys[start : start + page_size]), head)

    def since(self, revision: int) -> WatchBatch:
        """What happened after a revision, maybe nothing. Raises Compacted when that is not known any more."""
        if revision < self._gone_revision:
            raise Compacted(self._gone_revision)
        first = bisect.bisect_right(self._history, revision, key=lambda batch: batch.head.revision)
        batches = itertools.islice(self._history, first, None)
        return WatchBatch(self.head, tuple(event for batch in batches for event in batch.events))

    def _remember(self, batch: WatchBatch) -> None:
        if len(batch.events) > MAX_TOLD_EVENTS:
            self._history.clear()
            self._gone_revision = batch.head.revision
            return
        self._history.append(batch)
        while len(self._history) > MAX_HISTORY_BATCHES or sum(len(each.events) for each in self._history) > (
            MAX_TOLD_EVENTS
        ):
            self._gone_revision = self._history.popleft().head.revision

    def _keys(self) -> list[str]:
        if self._sorted is None:
            self._sorted = sorted(self._items, key=str.encode)
        return self._sorted
