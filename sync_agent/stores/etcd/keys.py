"""Where our keys lie in etcd: below `<prefix>/`, and nowhere else. No I/O.

The range is exactly that: a neighbour whose prefix begins like ours (`/apisix2`) is outside, and a user who has rights
on our prefix alone can read and watch all of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from sync_agent.stores.base import Event, KeyValue, check_key

log = logging.getLogger(__name__)

DELETE = 1  # mvccpb.Event.EventType


class KeySpace:
    """The keys below one prefix; `/apisix` and `/apisix/` are the same.

    `start` and `end` bound the range as etcd wants it. `dropped` counts what etcd sent and we did not take: keys
    outside of the range (etcd has had bugs of that kind) and keys that are not UTF-8, which cannot be resources.
    """

    def __init__(self, prefix: str) -> None:
        self.start = (prefix.rstrip("/") + "/").encode()
        # The root ends with "/", so the first key after all that begin with it ends with the character after "/".
        self.end = self.start[:-1] + b"0"
        self.dropped = 0

    def encode(self, key: str) -> bytes:
        """The key in etcd. Raises StoreError for one that cannot be."""
        return self.start + check_key(key)

    def range_below(self, below: str) -> tuple[bytes, bytes]:
        """Bounds of the keys that begin with `below` (ASCII) and go on behind it; of all keys for the empty one."""
        if not below:
            return self.start, self.end
        start = self.encode(below)
        return start + b"\0", start[:-1] + bytes([start[-1] + 1])

    def take_items(self, kvs: Iterable[Any]) -> tuple[KeyValue, ...]:
        """Ours among mvccpb.KeyValues, with relative keys."""
        return tuple(item for kv in kvs if (item := self._take(kv)) is not None)

    def take_events(self, events: Iterable[Any]) -> tuple[Event, ...]:
        """Ours among mvccpb.Events, with relative keys."""
        taken = ((event, self._take(event.kv)) for event in events)
        return tuple(
            Event(item.key, None if event.type == DELETE else item) for event, item in taken if item is not None
        )

    def _take(self, kv: Any) -> KeyValue | None:
        if not kv.key.startswith(self.start):
            self._drop(kv.key, "is outside of the prefix")
            return None
        try:
            key = kv.key[len(self.start) :].decode()
        except UnicodeDecodeError:
            self._drop(kv.key, "is not UTF-8")
            return None
        return KeyValue(key, kv.value, kv.create_revision, kv.mod_revision)

    def _drop(self, key: bytes, why: str) -> None:
        self.dropped += 1
        log.warning("etcd sent the key %r, which %s: ignored (%d such so far)", key, why, self.dropped)
