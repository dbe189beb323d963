"""Keys and values that all workers of a host share: atomic, bounded, expiring, unharmed by the death of any of them.

LMDB does what is hard: processes take turns through a robust mutex, which a killed holder gives up; what a transaction
did not finish is not there. This module adds expiry and a bound that is never an error:

- Writing a new entry takes a few expired ones away, so the work is bounded and needs no timer.
- When the map is nearly full, each new entry pushes out those that expire first (without an expiry: that were written
  first), and they are counted. lua_shared_dict pushes out what was used longest ago; for windows of one length the two
  come to the same.
- What LMDB cannot work with any more is replaced by an empty one. Others see that within a second and follow.

An operation waits for the one before it, which takes some microseconds (longer when the kernel stops it just then).
"""

from __future__ import annotations

import logging
import math
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

import lmdb

from gw.clock import Clock
from gw.errors import SegmentError
from gw.shared.files import StateFiles
from gw.shared.records import (
    COUNTER_RECORD,
    EVICTIONS,
    INDEX_PREFIX,
    LONGEST_STORED_KEY,
    NEVER,
    DamagedRecord,
    Record,
    expiry_of,
    expiry_of_index_key,
    index_key,
    index_key_of,
    pack_count,
    pack_counter,
    pack_record,
    stored_key,
    stored_prefix,
    unpack_count,
    unpack_counter,
    unpack_record,
)
from gw.shm.trust import Trust

T = TypeVar("T")
_Transaction: TypeAlias = "lmdb.Transaction[bytes]"

# (new value, None to delete; seconds until it expires, None for never)
Change: TypeAlias = Callable[[bytes | None], tuple[bytes | None, float | None]]

# Larger ones need that many pages in a row, which a map full of small ones may not have.
MAX_VALUE_BYTES: Final = 64 * 1024

# Taken away for each new entry: more than one, so that a burst of short-lived entries is made up for.
PURGED_PER_WRITE: Final = 2
EVICTED_PER_WRITE: Final = 4
# To count the used pages takes as long as a write, so it is done once in so many bytes: 16 counters, or a large value.
BYTES_PER_LOOK: Final = 1024
# What LMDB and we add to a value.
_OVERHEAD_BYTES: Final = 64
# The rest is for copies of changed pages, for pages that a reader still holds, and for what is added between two looks.
USED_SHARE: Final = 0.75

# 30,000 years: more than 64 bits of microseconds can tell from never.
_FOR_EVER_S: Final = 1e12

# How often a process looks whether another has replaced the files, and frees the readers' slots of the dead.
LOOK_AFTER_US: Final = 1_000_000

# Taken away at most for one entry, and at once when LMDB is full all the same: some 300 us.
_EVICTED_AT_MOST: Final = 256
_ATTEMPTS: Final = 4

# How long a full map waits for readers of LMDB's own kind. It holds this worker's requests as well, but the alternative
# is to lose all counts of the host.
OUTLAST_MS: Final = 1000

log: Final = logging.getLogger(__name__)


class Count(NamedTuple):
    """A counter after it was counted up, and the seconds until it begins anew (infinite for never)."""

    value: int
    remaining_s: float


class Usage(NamedTuple):
    """How full it is. `evictions`: entries pushed out before they expired, since the state was created."""

    entries: int
    used_bytes: int
    size_bytes: int
    evictions: int


class SharedStore:
    """State of one gateway on its host. To be opened after the fork, once in each process.

    Every operation raises SegmentError when the files are gone and cannot be made anew, or after `close`; nothing else
    is the state's fault. Times are seconds of CLOCK_MONOTONIC.
    """

    def __init__(self, files: StateFiles, clock: Clock) -> None:
        self._files = files
        self._monotonic = clock.monotonic
        self._env, self._inode = files.open()
        self._was_closed = False
        self._look_after_us = 0
        self._bytes_to_look = 0
        self._is_crowded = False

    @classmethod
    def open(cls, directory: Path, size_bytes: int, clock: Clock, trust: Trust | None = None) -> SharedStore:
        """Join the state in `directory`, or create it, `size_bytes` large and reserved in full.

        Raises UntrustedSegment for a stranger's, SegmentError when there is no room for it.
        """
        return cls(StateFiles(directory, size_bytes, trust or Trust()), clock)

    def close(self) -> None:
        """Let go of it; the state stays. Twice is no error, an operation afterwards is a SegmentError."""
        self._was_closed = True
        self._env.close()

    def get(self, key: bytes) -> bytes | None:
        """The value, None when there is none or it expired."""
        stored, now_us = stored_key(key), self._now_us()

        def work(transaction: _Transaction) -> bytes | None:
            raw = transaction.get(stored)
            return unpack_record(stored, raw).value if raw is not None and expiry_of(raw) > now_us else None

        return self._read(work)

    def put(self, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        """Set a value for `ttl_s` seconds, None: until it is pushed out. Raises ValueError beyond MAX_VALUE_BYTES."""
        self.update(key, lambda _: (value, ttl_s))

    def delete(self, key: bytes) -> None:
        """Take a value away; none is no error."""
        self.update(key, lambda _: (None, None))

    def update(self, key: bytes, change: Change) -> bytes | None:
        """Set what `change` makes of the value that is there (None: none), with nobody in between; the new value.

        `change` must be quick, since all other writers wait for it, and may be called again. What it raises is passed
        on, and nothing is changed. Raises ValueError for a value beyond MAX_VALUE_BYTES.
        """
        stored, now_us = stored_key(key), self._now_us()

        def work(transaction: _Transaction) -> bytes | None:
            raw = transaction.get(stored)
            is_live = raw is not None and expiry_of(raw) > now_us
            value, ttl_s = change(unpack_record(stored, raw).value if raw is not None and is_live else None)
            if raw is not None:
                transaction.delete(index_key_of(raw))
            if value is not None:
                self._add(transaction, stored, key, value, _expiry_us(now_us, ttl_s), now_us)
            elif raw is not None:
                transaction.delete(stored)
            return value

        return self._write(work)

    def increment(self, key: bytes, by: int, ttl_s: float, initial: int = 0) -> Count:
        """Count up, from `initial` where there is none or it expired; it then lives for `ttl_s` seconds.

        A counter that is there keeps the time it has (ngx.shared.DICT.incr with init and init_ttl). It stops at the
        ends of 64 bits. Raises ValueError for a value that is no counter.
        """
        stored, now_us = stored_key(key), self._now_us()
        # PERF: a short counter that is there is counted in place, which is what nearly every request does.
        # bench/shared_state.py has the gain, test_a_counter_in_place_counts_as_any_other the meaning.
        try:
            with self._env.begin(write=True) as transaction:
                raw = transaction.get(stored)
                if raw is not None and len(raw) == COUNTER_RECORD.size and len(stored) < LONGEST_STORED_KEY:
                    expires_us, serial, number = COUNTER_RECORD.unpack(raw)
                    if now_us < expires_us < NEVER:
                        number += by
                        transaction.put(stored, COUNTER_RECORD.pack(expires_us, serial, number))
                        return Count(number, (expires_us - now_us) / 1e6)
        except (lmdb.Error, struct.error):
            pass  # met again below, where it is dealt with
        return self._write(lambda transaction: self._count(transaction, stored, key, by, ttl_s, initial, now_us))

    def items(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        """The keys that begin so, with their values, in the order of the keys (by their first 478 bytes)."""
        begin, now_us = stored_prefix(prefix), self._now_us()

        def work(transaction: _Transaction) -> list[tuple[bytes, bytes]]:
            found: list[tuple[bytes, bytes]] = []
            cursor = transaction.cursor()
            if not cursor.set_range(begin):
                return found
            for stored, raw in cursor.iternext():
                if not stored.startswith(begin):
                    break
                record = unpack_record(stored, raw)
                if record.expires_us > now_us and record.key.startswith(prefix):
                    found.append((record.key, record.value))
            return found

        return self._read(work)

    def usage(self) -> Usage:
        """How full it is, for metrics."""

        def work(transaction: _Transaction) -> Usage:
            size_bytes = self._env.info()["map_size"]
            evictions = transaction.get(EVICTIONS)
            # Each entry stands in the order of expiry as well.
            entries = (transaction.stat()["entries"] - (evictions is not None)) // 2
            return Usage(entries, _used_bytes(transaction), size_bytes, unpack_count(evictions))

        return self._read(work)

    # --- entries, inside a transaction

    def _count(
        self, transaction: _Transaction, stored: bytes, key: bytes, by: int, ttl_s: float, initial: int, now_us: int
    ) -> Count:
        raw = transaction.get(stored)
        if raw is not None and (expires_us := expiry_of(raw)) > now_us:
            packed = pack_counter(unpack_counter(unpack_record(stored, raw).value) + by)
            transaction.put(stored, raw[: -len(packed)] + packed)
        else:
            if raw is not None:
                transaction.delete(index_key_of(raw))
            packed, expires_us = pack_counter(initial + by), _expiry_us(now_us, ttl_s)
            self._add(transaction, stored, key, packed, expires_us, now_us)
        return Count(unpack_counter(packed), math.inf if expires_us == NEVER else (expires_us - now_us) / 1e6)

    def _add(
        self, transaction: _Transaction, stored: bytes, key: bytes, value: bytes, expires_us: int, now_us: int
    ) -> None:
        if len(value) > MAX_VALUE_BYTES:
            raise ValueError(f"{len(value)} bytes are too many for a value of shared state ({MAX_VALUE_BYTES} at most)")
        self._take_away(transaction, len(value), now_us)
        serial = transaction.id()
        transaction.put(stored, pack_record(stored, Record(expires_us, serial, key, value)))
        transaction.put(index_key(expires_us, serial), stored)

    def _take_away(self, transaction: _Transaction, wanted_bytes: int, now_us: int) -> None:
        """Make room for a new entry: expired ones, and in a crowded map those that expire first."""
        wanted_bytes += _OVERHEAD_BYTES
        self._bytes_to_look -= wanted_bytes
        if self._bytes_to_look < 0:
            self._bytes_to_look = BYTES_PER_LOOK
            self._is_crowded = self._used_share(transaction) > USED_SHARE
        if self._is_crowded:
            # Twice the room that is asked for, so that a crowded map becomes less so.
            _evict(transaction, now_us, NEVER, at_least=EVICTED_PER_WRITE, bytes_wanted=2 * wanted_bytes)
        else:
            _evict(transaction, now_us, now_us, at_least=PURGED_PER_WRITE)

    def _used_share(self, transaction: _Transaction) -> float:
        return _used_bytes(transaction) / self._env.info()["map_size"]

    # --- transactions, and what may go wrong with them

    def _now_us(self) -> int:
        now_us = int(self._monotonic() * 1e6)
        if now_us >= self._look_after_us:
            self._look_after_us = now_us + LOOK_AFTER_US
            self._look_after()
        return now_us

    def _look_after(self) -> None:
        """Follow who replaced the files, and free the slots of readers that were killed: they hold pages."""
        try:
            if self._files.inode() == self._inode:
                self._env.reader_check()
                return
        except lmdb.Error as error:
            self._replace(error)
        else:
            self._check_open()
            self._env.close()
            self._env, self._inode = self._files.open()

    def _read(self, work: Callable[[_Transaction], T]) -> T:
        # Reading takes its turn, too. A reader of LMDB's own kind locks nothing, but no page that was freed since it
        # began is used again: one that the kernel stops for some milliseconds lets the others' counts fill the map.
        for _ in range(_ATTEMPTS):
            try:
                with self._env.begin(write=True) as transaction:
                    return work(transaction)
            except (lmdb.Error, DamagedRecord) as error:
                self._repair(error)
        raise SegmentError(f"shared state {self._files.path} cannot be read, not even when it is empty")

    def _write(self, work: Callable[[_Transaction], T]) -> T:
        for attempt in range(_ATTEMPTS):
            try:
                with self._env.begin(write=True) as transaction:
                    return work(transaction)
            except lmdb.MapFullError as error:
                has_room = attempt < 2 and (self._outlast_readers() or self._evict_many())
                if not has_room:
                    self._replace(error)
            except (lmdb.Error, DamagedRecord) as error:
                self._repair(error)
        raise SegmentError(f"shared state {self._files.path} takes no value, not even an empty one")

    def _outlast_readers(self) -> bool:
        """Wait for those who read as LMDB does, and so keep freed pages; False when nobody does, or does not end.

        Whoever opens the files does so for a moment, inside lmdb.open, and may be stopped or killed there.
        """
        try:
            self._env.reader_check()
            waited_for = reading = self._reading()
            for _ in range(OUTLAST_MS):
                if not reading:
                    break
                time.sleep(0.001)
                self._env.reader_check()
                reading = waited_for & self._reading()
        except lmdb.Error:
            return False
        return bool(waited_for) and not reading

    def _reading(self) -> set[str]:
        """The slots of readers in the midst of it: process, thread and transaction, which is "-" for who is not."""
        return {line for line in self._env.readers().splitlines()[1:] if not line.endswith("-")}

    def _evict_many(self) -> bool:
        """For a map that is full all the same; False when there is no room even for that."""
        now_us = int(self._monotonic() * 1e6)
        try:
            self._env.reader_check()
            with self._env.begin(write=True) as transaction:
                _evict(transaction, now_us, NEVER, at_least=EVICTED_PER_WRITE, bytes_wanted=4 * MAX_VALUE_BYTES)
            # Pages of a transaction can be used by the next but one.
            with self._env.begin(write=True) as transaction:
                transaction.put(EVICTIONS, transaction.get(EVICTIONS, pack_count(0)))
        except (lmdb.Error, DamagedRecord):
            return False
        return True

    def _repair(self, error: Exception) -> None:
        if isinstance(error, lmdb.ReadersFullError) and self._env.reader_check():
            return
        self._replace(error)

    def _check_open(self) -> None:
        # Who comes late to its own closed store must not take the state from the others.
        if self._was_closed:
            raise SegmentError(f"shared state {self._files.path} was closed by this process")

    def _replace(self, error: Exception) -> None:
        self._check_open()
        broken, self._inode = self._inode, 0
        if broken:  # not again for each operation while it cannot be made anew
            log.warning("shared state %s does not work any more (%s): replacing it", self._files.path, error)
        self._env.close()
        self._env, self._inode = self._files.replace(broken)


def _evict(transaction: _Transaction, now_us: int, until_us: int, *, at_least: int, bytes_wanted: int = 0) -> None:
    """Take entries away that expire at `until_us` or before; the first to expire are the first to go."""
    evicted = freed_bytes = 0
    cursor = transaction.cursor()
    for number in range(_EVICTED_AT_MOST):
        if (number >= at_least and freed_bytes >= bytes_wanted) or not cursor.set_range(INDEX_PREFIX):
            break
        expires_us = expiry_of_index_key(cursor.key())
        if expires_us > until_us:
            break
        evicted += expires_us > now_us
        stored = cursor.value()
        cursor.delete()
        freed_bytes += _OVERHEAD_BYTES + len(transaction.pop(stored) or b"")
    if evicted:
        transaction.put(EVICTIONS, pack_count(unpack_count(transaction.get(EVICTIONS)) + evicted))


def _used_bytes(transaction: _Transaction) -> int:
    figures = transaction.stat()
    return figures["psize"] * (figures["branch_pages"] + figures["leaf_pages"] + figures["overflow_pages"])


def _expiry_us(now_us: int, ttl_s: float | None) -> int:
    return NEVER if ttl_s is None or ttl_s > _FOR_EVER_S else now_us + max(int(ttl_s * 1e6), 0)
