"""The store over etcd's requests: ranges in pages, transactions that compare, one watch stream each.

The transactions have the shape Kubernetes sends and kine therefore knows: compare one modification revision; write; or
else read. kine has no plain writes with the old value, so what a write replaces is read before, and is what it was
read as when the comparison holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from gw.errors import StoreError
from sync_agent.stores.base import (
    WRITE_ATTEMPTS,
    Head,
    KeyValue,
    Page,
    WatchBatch,
    Written,
    check_start,
    check_ttl,
)
from sync_agent.stores.etcd.connection import Connection, Stream
from sync_agent.stores.etcd.keys import KeySpace
from sync_agent.stores.etcd.options import EtcdOptions
from sync_agent.stores.etcd.rpc import pb
from sync_agent.stores.etcd.watching import WatchCanceled, WatchReader, store_id


class EtcdStore:
    """A Store over one etcd cluster and prefix. Connects when first used; `close` it."""

    def __init__(self, options: EtcdOptions) -> None:
        self._connection = Connection(options)
        self._keys = KeySpace(options.prefix)

    async def head(self) -> Head:
        """See Store."""
        # Any key of ours will do: the answer's header is what is wanted, and a user may read no other keys.
        return _head(await self._read(pb.RangeRequest(key=self._keys.start)))

    async def may_have_changed(self, after: int) -> bool:
        """See Store. A key that was written and still is there tells so itself; of others deleted, the number does.

        The revision of a cluster is that of all its prefixes. What cannot be told (history that was compacted, a filter
        that kine does not know) counts as a change.
        """
        ours = {"key": self._keys.start, "range_end": self._keys.end}
        try:
            before = await self._read(pb.RangeRequest(**ours, count_only=True, revision=after))
            now = await self._read(pb.RangeRequest(**ours, count_only=True))
            if not 0 < after <= now.header.revision or before.count != now.count:
                return True
            written = await self._read(pb.RangeRequest(**ours, keys_only=True, limit=1, min_mod_revision=after + 1))
        except StoreError:
            return True
        return bool(written.kvs)

    async def list(self, page_size: int = 500, *, below: str = "") -> AsyncGenerator[Page, None]:
        """See Store."""
        start, end = self._keys.range_below(below)
        # No sort order: etcd answers in key order, and given one it would read the whole range for each page.
        request = pb.RangeRequest(key=start, range_end=end, limit=page_size)
        head = None
        while True:
            answer = await self._read(request)
            head = head or _head(answer)
            yield Page(self._keys.take_items(answer.kvs), head)
            if not answer.more:
                return
            request = pb.RangeRequest(
                key=answer.kvs[-1].key + b"\0", range_end=end, limit=page_size, revision=head.revision
            )

    async def get(self, key: str) -> tuple[KeyValue | None, Head]:
        """See Store."""
        answer = await self._read(pb.RangeRequest(key=self._keys.encode(key)))
        return self._first(answer.kvs), _head(answer)

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> Written:
        """See Store."""
        check_ttl(ttl_s)
        encoded = self._keys.encode(key)
        # Given out before it is known whether it will be used; an unused lease ends by itself.
        lease = 0 if ttl_s is None else await self._grant_lease(ttl_s)
        for _ in range(WRITE_ATTEMPTS):
            found = None
            if expect != 0:
                found, head = await self.get(key)
                if not _is_expected(found, expect):
                    return Written(False, head, found)
            write = pb.RequestOp(request_put=pb.PutRequest(key=encoded, value=value, lease=lease))
            answer = await self._write(encoded, found, write)
            if answer.succeeded:
                revision = answer.header.revision
                created = found.create_revision if found else revision
                return Written(True, _head(answer), KeyValue(key, value, created, revision))
            if expect is not None:
                return Written(False, _head(answer), self._found(answer))
        raise _contended(key)

    async def delete(self, key: str, *, expect: int | None = None) -> Written:
        """See Store."""
        encoded = self._keys.encode(key)
        for _ in range(WRITE_ATTEMPTS):
            found, head = await self.get(key)
            if found is None or not _is_expected(found, expect):
                return Written(False, head, found)
            write = pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=encoded))
            answer = await self._write(encoded, found, write)
            if answer.succeeded:
                return Written(True, _head(answer), found)
            if expect is not None:
                return Written(False, _head(answer), self._found(answer))
        raise _contended(key)

    async def watch(self, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """See Store."""
        check_start(start_revision)
        for may_renew in (True, False):
            reader = WatchReader(self._keys, start_revision)
            async with self._connection.stream() as stream:
                try:
                    first = await self._start_watch(stream, reader, start_revision)
                except WatchCanceled as canceled:
                    # etcd takes a token when a watch is created, and words an expired one as a missing permission.
                    if canceled.at_start and self._connection.forget_token() and may_renew:
                        continue
                    raise
                yield first
                while True:
                    batch = reader.take(await stream.receive())
                    if batch is not None:
                        yield batch

    async def close(self) -> None:
        """See Store."""
        await self._connection.close()

    async def _start_watch(self, stream: Stream, reader: WatchReader, start_revision: int) -> WatchBatch:
        # One revision early: etcd lets a watch stand that starts at the compacted revision itself, though a deletion
        # there may be gone without a trace (etcd's issue 18089). What is delivered twice the reader drops.
        create = pb.WatchCreateRequest(
            key=self._keys.start,
            range_end=self._keys.end,
            start_revision=max(1, start_revision - 1),
            progress_notify=True,
        )
        try:
            async with asyncio.timeout(self._connection.timeout_s):
                await stream.send(pb.WatchRequest(create_request=create))
                first = reader.take(await stream.receive())
        except TimeoutError:
            raise StoreError(f"etcd did not begin the watch within {self._connection.timeout_s:g} s") from None
        if first is None:
            raise StoreError("etcd's first answer to a watch was not that it stands")
        # kine says only that the watch stands, not at which revision.
        return first if first.head.revision else WatchBatch(await self.head(), ())

    async def _read(self, request: Any) -> Any:
        return await self._connection.call(lambda stubs: stubs.kv.Range, request, repeatable=True)

    async def _write(self, encoded: bytes, found: KeyValue | None, write: Any) -> Any:
        """The answer to a transaction that writes when the key is still as it was found, and else reads it."""
        compare = pb.Compare(
            target=pb.Compare.MOD,
            result=pb.Compare.EQUAL,
            key=encoded,
            mod_revision=found.mod_revision if found else 0,
        )
        otherwise = pb.RequestOp(request_range=pb.RangeRequest(key=encoded))
        request = pb.TxnRequest(compare=[compare], success=[write], failure=[otherwise])
        return await self._connection.call(lambda stubs: stubs.kv.Txn, request, repeatable=False)

    def _found(self, answer: Any) -> KeyValue | None:
        """What a refused transaction read. kine answers a refused deletion in the form of a deletion."""
        response = answer.responses[0] if answer.responses else pb.ResponseOp()
        return self._first(response.response_range.kvs) or self._first(response.response_delete_range.prev_kvs)

    def _first(self, kvs: Any) -> KeyValue | None:
        items = self._keys.take_items(kvs)
        return items[0] if items else None

    async def _grant_lease(self, ttl_s: int) -> int:
        answer = await self._connection.call(
            lambda stubs: stubs.lease.LeaseGrant, pb.LeaseGrantRequest(TTL=ttl_s), repeatable=True
        )
        lease: int = answer.ID
        if not lease:
            raise StoreError("etcd granted no lease, so a key with a time to live cannot be written")
        return lease


def _head(answer: Any) -> Head:
    return Head(answer.header.revision, store_id(answer.header))


def _is_expected(found: KeyValue | None, expect: int | None) -> bool:
    return expect is None or expect == (found.mod_revision if found else 0)


def _contended(key: str) -> StoreError:
    return StoreError(f"{key} was changed by others {WRITE_ATTEMPTS} times while it was being written: try again later")
