"""What the board needs of the state that all workers of a host share (gw.shared.store has it, a layer's neighbour)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from gw.errors import SegmentError

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

# From what is held (None: nothing) to what is to be held (None: nothing) and for how many seconds (None: for ever).
Change = Callable[[bytes | None], tuple[bytes | None, float | None]]


class Store(Protocol):
    """Entries that expire; what has expired is not there. Each method is atomic among all processes."""

    def get(self, key: bytes) -> bytes | None: ...
    def put(self, key: bytes, value: bytes, ttl_s: float | None = None) -> None: ...
    def delete(self, key: bytes) -> None: ...
    def update(self, key: bytes, change: Change) -> bytes | None: ...
    def items(self, prefix: bytes) -> list[tuple[bytes, bytes]]: ...


class LenientStore:
    """A store that is empty while it cannot be used: checks stop then, every node is healthy, and no request fails."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._works = True

    def get(self, key: bytes) -> bytes | None:
        return self._ask(lambda: self._store.get(key), None)

    def put(self, key: bytes, value: bytes, ttl_s: float | None = None) -> None:
        self._ask(lambda: self._store.put(key, value, ttl_s), None)

    def delete(self, key: bytes) -> None:
        self._ask(lambda: self._store.delete(key), None)

    def update(self, key: bytes, change: Change) -> bytes | None:
        return self._ask(lambda: self._store.update(key, change), None)

    def items(self, prefix: bytes) -> list[tuple[bytes, bytes]]:
        return self._ask(lambda: self._store.items(prefix), [])

    def _ask(self, question: Callable[[], T], otherwise: T) -> T:
        try:
            answer = question()
        except SegmentError as error:
            if self._works:
                log.error("nothing is known of the health of nodes, all are taken for healthy: %s", error)
            self._works = False
            return otherwise
        if not self._works:
            log.warning("the health of nodes is known again")
        self._works = True
        return answer
