"""Which checkers changed on the board, for every process to see with one read.

One entry of the board: a number that grows with each change, and the marks of the last of them. A process that looks
often enough finds each change by name; one that does not, and any after the entry was lost, looks at all there is.
Bytes, little endian: number u64, then up to 64 marks of 8 bytes, the newest last.
"""

from __future__ import annotations

import struct
from typing import Final

from gw.health.checker import MARK_BYTES
from gw.health.store import Store

NEWS_KEY: Final = b"health/news"
# Changes between two looks (0.1 s) that are told by name: some 500 bytes, copied at each change of a state.
REMEMBERED: Final = 64
_NUMBER: Final = struct.Struct("<Q")


def announce(store: Store, mark: bytes, now_s: float) -> None:
    """Say that a checker changed. `now_s` is the monotonic time."""

    def change(held: bytes | None) -> tuple[bytes, None]:
        if held is None:
            # Never a number that was seen before the entry was lost, nor near one.
            return _NUMBER.pack(int(now_s * 1e6)) + mark, None
        number = _NUMBER.unpack_from(held)[0] + 1
        marks = held[_NUMBER.size :] + mark
        return _NUMBER.pack(number) + marks[-REMEMBERED * MARK_BYTES :], None

    store.update(NEWS_KEY, change)


class Feed:
    """One reader's place."""

    __slots__ = ("_seen", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: int | None = None

    def news(self) -> frozenset[bytes] | None:
        """The marks of what changed since the last call; None where that is not known, as at the first: look at all."""
        held = self._store.get(NEWS_KEY)
        number = 0 if held is None else _NUMBER.unpack_from(held)[0]
        seen, self._seen = self._seen, number
        if number == seen:
            return frozenset()
        marks = b"" if held is None else held[_NUMBER.size :]
        if seen is None or not 0 < number - seen <= len(marks) // MARK_BYTES:
            return None
        starts = range(len(marks) - (number - seen) * MARK_BYTES, len(marks), MARK_BYTES)
        return frozenset(marks[at : at + MARK_BYTES] for at in starts)
