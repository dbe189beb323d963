"""What the log needs of a database. A new database brings these, and nothing of the log is written again."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Dialect:
    """The statements that differ between databases.

    `begin_write` starts a transaction that no other writer can be in; `select_head` yields the newest revision ever
    given out, which stays when its row is compacted away. `before_compaction` and `after_compaction` switch off and on
    again that a commit waits for the disk: what of a compaction is lost with the power is compacted again.
    """

    begin_write: str
    select_head: str
    before_compaction: str
    after_compaction: str


class Connection(Protocol):
    """As much of a DB-API connection as the log uses, with `?` for parameters and no transaction of its own making."""

    def execute(self, sql: str, parameters: tuple[Any, ...] = ..., /) -> Any:
        """Run one statement; returns a cursor."""
        ...


class Database(Protocol):
    """One database, as the store drives it. Every method blocks, and runs in the store's one thread.

    Errors of the driver leave as StoreError, worded by whoever knows the database. `replacements` counts how often the
    database of that name was found to be another one than before, as far as `opened` can tell.
    """

    replacements: int

    def opened(self) -> tuple[Connection, int]:
        """The connection, opened when there is none or when it no longer leads to the database of that name.

        The number counts openings: when it moves, what was read before may be another database's.
        """
        ...

    def translated(self) -> AbstractContextManager[None]:
        """Turns the driver's errors inside the block into StoreError."""
        ...

    def changes(self) -> tuple[int, int]:
        """What compares unequal when somebody else has written, or the database was opened anew.

        Cheap: asked several times a second.
        """
        ...

    def hint(self) -> object:
        """What compares unequal when somebody has most likely written. At once, and in any thread; never raises."""
        ...

    def close(self) -> None:
        """Close the connection, when there is one."""
        ...
