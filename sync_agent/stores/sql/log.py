"""The log of revisions: one row per write, numbered by the database, in portable SQL. Blocking; no threads, no clock.

    revision         the number of the write
    key              relative, ordered by its bytes
    value            NULL: the key is deleted by this row
    create_revision  NULL: the key is created by this row
    expires_at       wall time, seconds; NULL: never; only ever set on the newest row of its key

A key stands as its newest row says. At revision R it stood as its newest row up to R said, so a list can be read in
pieces while writes go on. Compaction up to C drops the rows that say nothing about C or later: those that a newer row
up to C replaces, and deletions. After it, lists at C or later and watches from C + 1 on are whole; others are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gw.errors import Compacted
from sync_agent.stores.base import Event, Head, KeyValue, Written
from sync_agent.stores.sql.dialect import Connection, Dialect

COLUMNS = "key, value, COALESCE(create_revision, revision), revision"

SELECT_NEWEST = f"SELECT {COLUMNS} FROM log WHERE key = ? ORDER BY revision DESC LIMIT 1"  # noqa: S608 -- constants
SELECT_PAGE = f"""
    SELECT {COLUMNS} FROM log AS l
    WHERE key > ? AND revision <= ? AND value IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM log AS n WHERE n.key = l.key AND n.revision > l.revision AND n.revision <= ?)
    ORDER BY key LIMIT ?"""  # noqa: S608 -- constants
SELECT_EVENTS = f"SELECT {COLUMNS} FROM log WHERE revision >= ? ORDER BY revision LIMIT ?"  # noqa: S608 -- constants
SELECT_EXPIRED = "SELECT key, revision FROM log WHERE expires_at <= ? ORDER BY expires_at, revision"
APPEND = "INSERT INTO log (key, value, create_revision, expires_at) VALUES (?, ?, ?, ?)"
# A row that is no longer its key's newest loses its expiry: the index on it holds what is still to expire, no more.
DISARM = "UPDATE log SET expires_at = NULL WHERE revision = ? AND expires_at IS NOT NULL"
# Only keys written since the last compaction can have become superfluous in part: the cost is that of what is new.
DROP_REPLACED = """
    DELETE FROM log WHERE revision <= ?
        AND key IN (SELECT key FROM log WHERE revision > ? AND revision <= ?)
        AND EXISTS (SELECT 1 FROM log AS n WHERE n.key = log.key AND n.revision > log.revision AND n.revision <= ?)"""
DROP_DELETED = "DELETE FROM log WHERE value IS NULL AND revision > ? AND revision <= ?"
SELECT_META = "SELECT value FROM meta WHERE name = ?"
SET_COMPACTED = "UPDATE meta SET value = ? WHERE name = 'compacted'"


class RevisionLog:
    """The log behind one connection. Each method is one transaction; errors are the driver's, and Compacted.

    `replacements` is the database's: a copy put in its place has the id of the original and may have any revision, so
    the id that is told carries the count, or a watch would go on in a history that it has not read.
    """

    def __init__(self, connection: Connection, dialect: Dialect, replacements: int = 0) -> None:
        self._connection = connection
        self._dialect = dialect
        self._replacements = replacements

    def head(self) -> Head:
        """The newest revision, and whose it is."""
        with self._reading():
            return self._head()

    def get(self, key: str) -> tuple[KeyValue | None, Head]:
        """One key as it stands."""
        with self._reading():
            return self._find(key), self._head()

    def read_page(self, after: str, revision: int | None, limit: int) -> tuple[tuple[KeyValue, ...], Head]:
        """Up to `limit` keys after `after`, as they stood at `revision` (None: now); the head carries that revision."""
        with self._reading():
            head = self._head()
            at = head.revision if revision is None else revision
            if at < self._compacted():
                raise Compacted(self._compacted())
            rows = self._connection.execute(SELECT_PAGE, (after, at, at, limit)).fetchall()
            return tuple(_key_value(row) for row in rows), Head(at, head.store_id)

    def read_events(self, start: int, limit: int) -> tuple[tuple[Event, ...], int, Head]:
        """Up to `limit` events from revision `start` on, the revision of the last of them (0: none), and the head."""
        with self._reading():
            if start <= self._compacted():
                raise Compacted(self._compacted())
            rows = self._connection.execute(SELECT_EVENTS, (start, limit)).fetchall()
            return tuple(_event(row) for row in rows), rows[-1][3] if rows else 0, self._head()

    def put(self, key: str, value: bytes, expect: int | None, expires_at: float | None) -> Written:
        """Append a value, if the key's revision is `expect` (0: absent; None: whatever it is)."""
        with self._writing():
            current = self._find(key)
            if not _is_expected(current, expect):
                return Written(False, self._head(), current)
            self._append(key, value, current, expires_at)
            return Written(True, self._head(), self._find(key))

    def delete(self, key: str, expect: int | None) -> Written:
        """Append a deletion, if there is something to delete and its revision is `expect` (None: whatever it is)."""
        with self._writing():
            current = self._find(key)
            if current is None or not _is_expected(current, expect):
                return Written(False, self._head(), current)
            self._append_deletion(key, current.mod_revision)
            return Written(True, self._head(), current)

    def expire(self, now: float) -> int:
        """Delete what has expired at wall time `now`; returns how many keys that were."""
        # Looked at first without a lock: mostly there is nothing, and other writers should not wait for that.
        if self._connection.execute(SELECT_EXPIRED, (now,)).fetchone() is None:
            return 0
        with self._writing():
            expired = self._connection.execute(SELECT_EXPIRED, (now,)).fetchall()
            for key, revision in expired:
                self._append_deletion(key, revision)
            return len(expired)

    def compact(self, revision: int) -> None:
        """Forget the history up to `revision`; nothing happens when that is forgotten already."""
        self._connection.execute(self._dialect.before_compaction)
        try:
            self._compact(revision)
        finally:
            self._connection.execute(self._dialect.after_compaction)

    def _compact(self, revision: int) -> None:
        with self._writing():
            start, end = self._compacted(), min(revision, self._head().revision)
            if end <= start:
                return
            self._connection.execute(DROP_REPLACED, (end, start, end, end))
            self._connection.execute(DROP_DELETED, (start, end))
            self._connection.execute(SET_COMPACTED, (str(end),))

    def count_history(self) -> int:
        """How many revisions there are that have not been compacted."""
        with self._reading():
            return self._head().revision - self._compacted()

    def _append(self, key: str, value: bytes, current: KeyValue | None, expires_at: float | None) -> None:
        if current is not None:
            self._connection.execute(DISARM, (current.mod_revision,))
        self._connection.execute(APPEND, (key, value, current.create_revision if current else None, expires_at))

    def _append_deletion(self, key: str, revision: int) -> None:
        self._connection.execute(DISARM, (revision,))
        self._connection.execute(APPEND, (key, None, None, None))

    def _find(self, key: str) -> KeyValue | None:
        row = self._connection.execute(SELECT_NEWEST, (key,)).fetchone()
        return None if row is None or row[1] is None else _key_value(row)

    def _head(self) -> Head:
        revision = self._connection.execute(self._dialect.select_head).fetchone()[0]
        store_id = self._meta("store_id")
        return Head(revision, f"{store_id}+{self._replacements}" if self._replacements else store_id)

    def _compacted(self) -> int:
        return int(self._meta("compacted"))

    def _meta(self, name: str) -> str:
        value: str = self._connection.execute(SELECT_META, (name,)).fetchone()[0]
        return value

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        return self._transaction("BEGIN")

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return self._transaction(self._dialect.begin_write)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            # A database that is full or broken may have rolled back by itself already.
            with contextlib.suppress(Exception):
                self._connection.execute("ROLLBACK")
            raise


def _is_expected(current: KeyValue | None, expect: int | None) -> bool:
    return expect is None or expect == (current.mod_revision if current else 0)


def _key_value(row: Any) -> KeyValue:
    key, value, create_revision, revision = row
    # Somebody else's client may have stored text where we store bytes.
    return KeyValue(key, value if isinstance(value, bytes) else str(value).encode(), create_revision, revision)


def _event(row: Any) -> Event:
    return Event(row[0], None if row[1] is None else _key_value(row))
