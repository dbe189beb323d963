"""What the agent asks of a configuration store, whichever it is. Values, errors and one protocol; no I/O.

The rules every store keeps, proven by tests/contract:

- A key is relative to the store's prefix (`routes/1`), ordered by its UTF-8 bytes. Values are bytes that nobody reads.
- Each write has a revision greater than all before it, also after a restart. An empty store stands at revision 1, as
  etcd's does. Deleting and expiring are writes.
- All pages of one list show the store at one revision.
- A watch delivers every event from its start revision on, in order, and never a part of a revision.
- Nothing is written that was not asked for: no directories, no placeholders.
- What goes wrong is a StoreError, worded for the operator: what, where, what to do; never a password or a value.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Protocol

from gw.errors import StoreError

# An unconditional write is a read and a conditional write. Losing this often to other writers of the same key is not
# contention but a loop, and somebody should hear of it.
WRITE_ATTEMPTS: Final = 16


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it stands. `create_revision` is that of its first write since it was last absent."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Head:
    """How far a store has got. Another `store_id` is another store, whose revisions mean nothing to the first."""

    revision: int
    store_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, ascending by key. All pages of a list carry the same head."""

    items: tuple[KeyValue, ...]
    head: Head


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a write.

    Put: `current` is the key as it stands afterwards, or, when refused, as it was found (None: absent).
    Delete: `current` is what was deleted, or, when refused, what was found; deleting what is absent does not succeed.
    """

    succeeded: bool
    head: Head
    current: KeyValue | None


@dataclass(frozen=True, slots=True)
class Event:
    """A key has a new value, or (`kv` is None) is gone: deleted or expired."""

    key: str
    kv: KeyValue | None


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in the store's order, whole revisions only.

    `head.revision` is what has been seen once this batch is applied, so a watch resumes at the one after it. The first
    batch of a watch is the exception: it has no events, and its head is where the store stands, which may be ahead of
    events still to come, or behind the start (then this is not the history that was asked for).
    """

    head: Head
    events: tuple[Event, ...]


class Store(Protocol):
    """A configuration store. Opens its connection when first used; every method may raise StoreError."""

    async def head(self) -> Head:
        """Where the store stands now."""
        ...

    async def may_have_changed(self, after: int) -> bool:
        """Whether a key may have changed after that revision, for good. False only where none has, for certain.

        A store that others write to, too, counts on without a change of ours.
        """
        ...

    def list(self, page_size: int = 500, *, below: str = "") -> AsyncGenerator[Page, None]:
        """Every key, `page_size` at a time, all at the revision of the first page. At least one page, maybe empty.

        With `below` (`routes/`), only the keys that begin with it and go on behind it.

        Raises Compacted when history is compacted past that revision before the last page.
        """
        ...

    async def get(self, key: str) -> tuple[KeyValue | None, Head]:
        """One key, None when absent."""
        ...

    async def put(self, key: str, value: bytes, *, expect: int | None = None, ttl_s: int | None = None) -> Written:
        """Write one key, if its mod_revision is `expect` (0: absent; None: whatever it is).

        With `ttl_s` (whole seconds, at least 1) the key is deleted by the store when that long has passed without a
        further put; it may take a little longer.
        """
        ...

    async def delete(self, key: str, *, expect: int | None = None) -> Written:
        """Delete one key, if its mod_revision is `expect` (None: whatever it is)."""
        ...

    def watch(self, start_revision: int) -> AsyncGenerator[WatchBatch, None]:
        """Every change from `start_revision` (at least 1) on, until closed.

        The first batch says that the watch stands. A start that lies in the future is waited for.
        Raises Compacted when history up to the start is gone, before or after the first batch; StoreError when the
        watch is lost.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and files. Watches that are open end with StoreError."""
        ...


def check_key(key: str) -> bytes:
    """The bytes of a key to write or read. Raises StoreError for one that no store can hold."""
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise StoreError(f"the key {key!r} is not valid Unicode, so no store can hold it") from None
    if not encoded or b"\0" in encoded:
        raise StoreError(f"the key {key!r} is empty or has a NUL, so no store can hold it")
    return encoded


def check_ttl(ttl_s: int | None) -> None:
    """Raises ValueError for a time to live that is not a positive number of seconds."""
    if ttl_s is not None and ttl_s < 1:
        raise ValueError(f"a time to live is at least 1 s, not {ttl_s}")


def check_start(start_revision: int) -> None:
    """Raises ValueError for a revision no watch can start at (etcd would read 0 as "from now on")."""
    if start_revision < 1:
        raise ValueError(f"a watch starts at revision 1 or later, not {start_revision}")
