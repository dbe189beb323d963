"""The store over a SQL log. One thread does all that blocks; one task looks for other writers, expiry and old history.

Own writes wake the watches at once. Writes of other programs are noticed by the task's next look, which is also when
expired keys are deleted and, now and then, old history is compacted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Final, TypeVar

from gw.clock import Clock
from gw.errors import StoreError
from sync_agent.stores.base import Event, Head, KeyValue, Page, WatchBatch, Written, check_key, check_start, check_ttl
from sync_agent.stores.sql.dialect import Database, Dialect
from sync_agent.stores.sql.log import RevisionLog

log = logging.getLogger(__name__)

# A look costs 0.5 ms of CPU, most of it waking an idle thread (measured): 0.2 % of a core at this interval. A person
# who edits with a shell still sees the effect at once. Writes through the agent do not wait for it.
POLL_INTERVAL_S: Final = 0.25
# Between two looks the database's file tells whether one is worthwhile: asked 100 times a second, 20 us each, so that
# another program's change is served as soon as one through the agent, and a thousand a second are not 250 ms late each.
# The looks at the interval above are for expiry, and for what the file's time did not tell.
HINT_INTERVAL_S: Final = 0.01
# History is read by watches that resume, so it must outlast the agent's longest absence at the usual rate of change:
# this many revisions are a day at one write every nine seconds, and about 10 MB of ordinary routes.
KEEP_REVISIONS: Final = 10_000
# Events read at a time: bounds memory (resources are up to 1 MiB) without a thread switch per event.
EVENTS_AT_ONCE: Final = 200

T = TypeVar("T")


class SqlStore:
    """A Store over `database`. Opened when first used; `close` it.

    `poll_interval_s` is how late another program's write, or an expiry, may be noticed at most. History older than
    `keep_revisions` is compacted, a tenth of that at a time.
    """

    def __init__(
        self,
        database: Database,
        dialect: Dialect,
        clock: Clock,
        *,
        poll_interval_s: float = POLL_INTERVAL_S,
        keep_revisions: int = KEEP_REVISIONS,
    ) -> None:
        self._database = database
        self._dialect = dialect
        self._clock = clock
        self._poll_interval_s = poll_interval_s
        self._keep_revisions = keep_revisions
        self._executor: ThreadPoolExecutor | None = None
        self._poller: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # set, and replaced by a fresh one, when there may be something to read
        self._changes: tuple[int, int] | None = None  # Database.changes() when last looked
        self._closed = False

    async def head(self) -> Head:
        """See Store."""
        return await self._run(RevisionLog.head)

    async def may_have_changed(self, after: int) -> bool:
        """See Store. Nobody else's changes are counted here."""
        return (await self.head()).revision > after

    async def list(self, page_size: int = 500, *, below: str = "") -> AsyncGenerator[Page, None]:
        """See Store."""
        after, revision, opening = below, None, None
        while True:
            (items, head), number = await self._run_numbered(_reading_page(after, revision, page_size))
            if opening not in (None, number):
                raise StoreError("the store's database was replaced while it was listed (it is listed again)")
            inside = items if items and items[-1].key.startswith(below) else _that_begin_with(below, items)
            yield Page(inside, head)
            if len(inside) < page_size:
                return
            after, revision, opening = items[-1].key, head.revision, number

    async def get(self, key: str) -> tuple[KeyValue | None, Head]:
        """See Store."""
        check_key(key)
        return await self._run(lambda revisions: revisions.get(key))

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> Written:
        """See Store."""
        check_key(key)
        check_ttl(ttl_s)
        # Wall time: the expiry must hold across a restart of the host.
        expires_at = None if ttl_s is None else self._clock.wall() + ttl_s
        return self._noticed(await self._run(lambda revisions: revisions.put(key, value, expect, expires_at)))

    async def delete(self, key: str, *, expect: int | None = None) -> Written:
        """See Store."""
        check_key(key)
        return self._noticed(await self._run(lambda revisions: revisions.delete(key, expect)))

    async def watch(self, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """See Store."""
        check_start(start_revision)
        start, seen, opening = start_revision, None, None
        while True:
            changed = self._changed
            # The first read takes no event: it says whether the watch can stand, and where the store is.
            limit = 0 if seen is None else EVENTS_AT_ONCE
            (events, last, head), number = await self._run_numbered(_reading_events(start, limit))
            if seen is None:
                seen, opening = head, number
                yield WatchBatch(head, ())
                continue
            if number != opening or head.store_id != seen.store_id or head.revision < seen.revision:
                raise StoreError(
                    f"the store's database was replaced under the watch: from {seen.store_id} at revision "
                    f"{seen.revision} to {head.store_id} at {head.revision}"
                )
            seen = head
            if events:
                start = last + 1
                yield WatchBatch(Head(last, head.store_id), events)
            else:
                await changed.wait()

    async def compact(self, revision: int) -> None:
        """Forget history up to `revision`, which the store does by itself now and then."""
        await self._run(lambda revisions: revisions.compact(revision))
        self._wake()

    async def close(self) -> None:
        """See Store."""
        self._closed = True
        self._wake()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.get_running_loop().run_in_executor(executor, self._database.close)
            executor.shutdown()

    def _noticed(self, written: Written) -> Written:
        if written.succeeded:
            self._wake()
        return written

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _run(self, operation: Callable[[RevisionLog], T]) -> T:
        return (await self._run_numbered(operation))[0]

    async def _run_numbered(self, operation: Callable[[RevisionLog], T]) -> tuple[T, int]:
        """The operation's result, and the number of the opening (see Database) it was read through."""

        def work() -> tuple[T, int]:
            with self._database.translated():
                connection, number = self._database.opened()
                revisions = RevisionLog(connection, self._dialect, self._database.replacements)
                return operation(revisions), number

        if self._closed:
            raise StoreError("the store is closed")
        loop = asyncio.get_running_loop()
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
            self._poller = loop.create_task(self._poll(), name="store-poll")
        return await loop.run_in_executor(self._executor, work)

    async def _poll(self) -> None:
        problem, hint = "", self._database.hint()
        while True:
            await self._until_worthwhile(hint)
            hint = self._database.hint()
            try:
                if await self._run(self._look):
                    self._wake()
                problem = ""
            except StoreError as error:
                # The watches meet the same error and report it; here it is only told when it is a new one.
                self._wake()
                if str(error) != problem:
                    problem = str(error)
                    log.warning("%s", problem)
            except Exception as error:
                # Whatever it is, other programs' writes must go on being noticed once it is over.
                self._wake()
                if repr(error) != problem:
                    problem = repr(error)
                    log.exception("looking for changes in the store failed in a way that was not foreseen")

    async def _until_worthwhile(self, hint: object) -> None:
        """For the poll interval, or until the database gives another hint."""
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + self._poll_interval_s
        left_s = self._poll_interval_s
        while left_s > 0 and self._database.hint() == hint:
            await asyncio.sleep(min(HINT_INTERVAL_S, left_s))
            left_s = ends_s - loop.time()

    def _look(self, revisions: RevisionLog) -> bool:
        """In the thread: whether there may be something new for the watches."""
        changes, before = self._database.changes(), self._changes
        self._changes = changes
        expired = revisions.expire(self._clock.wall())
        history, step = revisions.count_history(), self._keep_revisions // 10
        if history > self._keep_revisions + step:
            # No more at once, or whoever wrote 100,000 keys would stop the watches for a third of a second.
            revisions.compact(revisions.head().revision - history + min(history - self._keep_revisions, 2 * step))
        return changes != before or expired > 0


def _that_begin_with(below: str, items: tuple[KeyValue, ...]) -> tuple[KeyValue, ...]:
    """Keys ascend, so what begins alike stands together, at the beginning of what follows it."""
    return tuple(takewhile(lambda item: item.key.startswith(below), items))


def _reading_page(
    after: str, revision: int | None, limit: int
) -> Callable[[RevisionLog], tuple[tuple[KeyValue, ...], Head]]:
    return lambda revisions: revisions.read_page(after, revision, limit)


def _reading_events(start: int, limit: int) -> Callable[[RevisionLog], tuple[tuple[Event, ...], int, Head]]:
    return lambda revisions: revisions.read_events(start, limit)
