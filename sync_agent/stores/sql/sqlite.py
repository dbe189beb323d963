"""The embedded database: one SQLite file. Opens it, lays out its tables, notices other writers and another file.

- The file is made 0600 in a directory of 0700; one that others may read is closed to them. It holds what the Admin
  API takes, upstream passwords and private keys with it.
- WAL, so that a person with `sqlite3` reads without holding the agent up. synchronous=FULL: an answered write is on
  the disk. It costs one fsync per write, and configuration is written at the pace of people.
- It is made when this process first opens it, never again: a file that vanishes under a running agent is a lost
  store, not an empty one, and must not be taken for the removal of all routes.
- Other programs write through the view `config (key, value, revision)`, which keeps the log for them:
  `sqlite3 config.db "INSERT INTO config (key, value) VALUES ('routes/1', '{...}')"`; UPDATE and DELETE likewise.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gw.errors import StoreError
from sync_agent.stores.sql.dialect import Dialect

log = logging.getLogger(__name__)

# "jwst" in ASCII: how `file` and we tell our databases from those of others.
APPLICATION_ID: Final = 0x6A777374
FORMAT: Final = 1
# How long a write waits for another program's transaction. Longer than a bulk edit in a shell takes, shorter than the
# patience of somebody who waits for the Admin API.
BUSY_TIMEOUT_S: Final = 5.0

DIALECT: Final = Dialect(
    begin_write="BEGIN IMMEDIATE",
    select_head="SELECT seq FROM sqlite_sequence WHERE name = 'log'",
    before_compaction="PRAGMA synchronous = NORMAL",
    after_compaction="PRAGMA synchronous = FULL",
)

_NEWEST = "(SELECT revision FROM log WHERE key = NEW.key ORDER BY revision DESC LIMIT 1)"
_NEWEST_CREATION = """(
    SELECT CASE WHEN value IS NOT NULL THEN COALESCE(create_revision, revision) END
    FROM log WHERE key = NEW.key ORDER BY revision DESC LIMIT 1)"""

SCHEMA: Final = (
    """CREATE TABLE log (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL CHECK (typeof(key) = 'text' AND key <> ''),
        value BLOB,
        create_revision INTEGER,
        expires_at REAL)""",
    "CREATE INDEX log_key ON log (key, revision)",
    "CREATE INDEX log_expiry ON log (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE VIEW config AS
        SELECT key, CAST(value AS TEXT) AS value, revision FROM log AS l
        WHERE value IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM log AS n WHERE n.key = l.key AND n.revision > l.revision)""",
    f"""CREATE TRIGGER config_insert INSTEAD OF INSERT ON config BEGIN
        UPDATE log SET expires_at = NULL WHERE revision = {_NEWEST};
        INSERT INTO log (key, value, create_revision)
            VALUES (NEW.key, CAST(NEW.value AS BLOB), {_NEWEST_CREATION});
    END""",  # noqa: S608 -- constants
    f"""CREATE TRIGGER config_update INSTEAD OF UPDATE OF value ON config BEGIN
        UPDATE log SET expires_at = NULL WHERE revision = {_NEWEST};
        INSERT INTO log (key, value, create_revision)
            VALUES (NEW.key, CAST(NEW.value AS BLOB), {_NEWEST_CREATION});
    END""",  # noqa: S608 -- constants
    """CREATE TRIGGER config_delete INSTEAD OF DELETE ON config BEGIN
        UPDATE log SET expires_at = NULL WHERE revision = OLD.revision;
        INSERT INTO log (key, value) VALUES (OLD.key, NULL);
    END""",
    # An empty store stands at revision 1, as etcd's does: 0 would read as "nothing seen yet".
    "INSERT INTO sqlite_sequence (name, seq) VALUES ('log', 1)",
    "INSERT INTO meta (name, value) VALUES ('compacted', '0')",
)

# SQLite's primary result codes -> what a person can do about them.
ADVICE: Final = {
    sqlite3.SQLITE_NOTADB: "restore a backup, or move the file away to begin with an empty store",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore a backup, or move it away to begin with an empty store",
    sqlite3.SQLITE_FULL: "free some space on its disk; what is stored is intact",
    sqlite3.SQLITE_BUSY: f"another program has held it for {BUSY_TIMEOUT_S:.0f} s: is a transaction open in a shell?",
    sqlite3.SQLITE_CANTOPEN: "the agent's user must be able to write the file and its directory",
    sqlite3.SQLITE_READONLY: "the agent's user must be able to write the file and its directory",
    sqlite3.SQLITE_PERM: "the agent's user must be able to write the file and its directory",
    sqlite3.SQLITE_IOERR: "see the kernel's log for its disk",
}
# No file has this inode: whatever comes after a file that vanished may be another one, even with the old one's number.
GONE: Final = (0, 0)
# After these the connection is as good as before.
HARMLESS: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)


class SqliteDatabase:
    """A SQLite file at `path`, opened when first asked for. Implements `dialect.Database`; used by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._log_path = f"{path}-wal"
        self._identity: tuple[int, int] | None = None  # device and inode of the file that was opened last
        self._openings = 0
        self.replacements = 0

    def opened(self) -> tuple[sqlite3.Connection, int]:
        """See Database. A file that was replaced is opened anew; one that is gone is a StoreError."""
        if self._connection is not None and self._identity != self._file_identity():
            log.warning("%s is another file than before: opening it anew", self.path)
            self.close()
        if self._connection is None:
            self._connection = self._open()
        return self._connection, self._openings

    def changes(self) -> tuple[int, int]:
        """See Database. SQLite keeps the second number in shared memory beside the file."""
        connection, openings = self.opened()
        return openings, connection.execute("PRAGMA data_version").fetchone()[0]

    def hint(self) -> object:
        """See Database. Every write goes to the file beside it; two within a tick of that one's clock look like one."""
        try:
            status = os.stat(self._log_path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def close(self) -> None:
        """See Database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """See Database."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the rest is detail
            if code not in HARMLESS:
                self.close()
            advice = ADVICE.get(code)
            raise StoreError(f"the store {self.path}: {error}{f' ({advice})' if advice else ''}") from error
        except OSError as error:
            raise StoreError(
                f"the store {self.path}: {error.strerror or error} (the agent's user must be able to make and write "
                f"{error.filename or self.path})"
            ) from error

    def _open(self) -> sqlite3.Connection:
        if self._openings == 0:
            self._make_file()
        identity = self._file_identity()
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            self._prepare(connection)
            # Only now: nothing of another program's database is changed.
            _switch_to_wal(connection)
            self._close_to_others()
        except BaseException:
            connection.close()
            raise
        if self._identity not in (None, identity):
            self.replacements += 1
        self._identity = identity
        self._openings += 1
        return connection

    def _make_file(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _close_to_others(self) -> None:
        status = self.path.stat()
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077:
            log.warning("%s was open to other users: its mode is 0600 now", self.path)
            self.path.chmod(0o600)

    def _file_identity(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self.close()
            if self._identity is not None:
                self._identity = GONE
            raise StoreError(
                f"the store {self.path} is gone (put it back from a backup, or restart the agent to begin with an "
                f"empty one)"
            ) from None
        return status.st_dev, status.st_ino

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Another agent or tool may be making the tables at this moment: looked at under the writer's lock.
        connection.execute(DIALECT.begin_write)
        try:
            if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
                self._lay_out(connection)
            else:
                self._check_layout(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    def _lay_out(self, connection: sqlite3.Connection) -> None:
        for statement in SCHEMA:
            connection.execute(statement)
        connection.execute("INSERT INTO meta (name, value) VALUES ('store_id', ?)", (str(uuid.uuid4()),))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {FORMAT}")

    def _check_layout(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(f"the store {self.path} is a database of another program (name another file in gw.store)")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise StoreError(
                f"the store {self.path} has format {version}, and this version of Jitterway knows {FORMAT} (use the "
                f"version that wrote it)"
            )


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """The one statement for which SQLite does not wait by itself, when another connection has the file open."""
    give_up_at = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return
