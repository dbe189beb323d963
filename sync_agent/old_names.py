"""Resources that APISIX 2.x stored under other names (`ssl/1` for `ssls/1`): which value counts where there are two.

The newer name's does, for as long as it is there. So what lies under an old name is remembered, to come back when the
newer one is deleted: without a further look at the store, as if the other one had never been there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gw.model.keys import OLD_NAMES, ResourceKey, has_old_name, parse_store_key
from sync_agent.stores.base import Event, KeyValue

_RENAMED: Final = frozenset(OLD_NAMES.values())


class OldNames:
    """What a store holds of the kinds that have had two names."""

    def __init__(self) -> None:
        self._old: dict[ResourceKey, KeyValue] = {}
        self._newer: set[ResourceKey] = set()

    def take(self, event: Event) -> Event | None:
        """What an event means for its resource: the event itself, another one, or (None) nothing."""
        key = parse_store_key(event.key)
        if key is None or key.kind not in _RENAMED:
            return event
        if has_old_name(event.key):
            if event.kv is None:
                self._old.pop(key, None)
            else:
                self._old[key] = event.kv
            return None if key in self._newer else event
        if event.kv is not None:
            self._newer.add(key)
            return event
        self._newer.discard(key)
        return Event(event.key, self._old.get(key))

    def counting(self) -> Iterator[KeyValue]:
        """The values under old names that count."""
        return (kv for key, kv in self._old.items() if key not in self._newer)
