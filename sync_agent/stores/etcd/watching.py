"""What a watch's responses mean. Decides only: responses in, batches or errors out.

- The first response says that the watch stands. kine sends no revision with it (0).
- A response's own revision is where the store stands, which may be ahead of events that are still to come: what has
  been seen is the revision of the last event. Only a response without events (a progress notification, sent to a watch
  that has caught up) says that everything up to the store's revision has been seen. It keeps a quiet prefix ahead of
  compaction while others write.
- We do not ask for notifications out of turn: etcd before 3.5.8 may send those ahead of earlier events (its issue
  15220). How often they come is the server's flag (--experimental-watch-progress-notify-interval, 10 min); where
  compaction is faster, a watch that was lost and finds history gone costs one more list and no change.
- We do not ask for fragments either (the messages of etcd3 have no field for it), so a revision always comes whole.
"""

from __future__ import annotations

from typing import Any

from gw.errors import Compacted, StoreError
from sync_agent.stores.base import Head, WatchBatch
from sync_agent.stores.etcd.keys import KeySpace


class WatchCanceled(StoreError):
    """The server ended the watch. `at_start`: it never stood, so a new token may help."""

    def __init__(self, reason: str, *, at_start: bool) -> None:
        super().__init__(f"etcd ended the watch: {reason or 'no reason given'}")
        self.at_start = at_start


class WatchReader:
    """Follows one watch from `start_revision` on."""

    def __init__(self, keys: KeySpace, start_revision: int) -> None:
        self._keys = keys
        self._next = start_revision
        self._watch_id: int | None = None

    def take(self, response: Any) -> WatchBatch | None:
        """The batch in a WatchResponse, None when there is nothing to tell.

        Raises Compacted, and WatchCanceled for any other end.
        """
        if response.canceled:
            if response.compact_revision:
                raise Compacted(response.compact_revision)
            raise WatchCanceled(response.cancel_reason, at_start=self._watch_id is None)
        head = Head(response.header.revision, store_id(response.header))
        if response.created:
            self._watch_id = response.watch_id
            return WatchBatch(head, ())
        if response.watch_id != self._watch_id:
            return None  # a broadcast, which promises nothing about our watch
        if not response.events:
            return self._advance(head, ())
        fresh = [event for event in response.events if event.kv.mod_revision >= self._next]
        if not fresh:
            return None
        return self._advance(Head(fresh[-1].kv.mod_revision, head.store_id), self._keys.take_events(fresh))

    def _advance(self, head: Head, events: tuple[Any, ...]) -> WatchBatch | None:
        if head.revision < self._next and not events:
            return None  # nothing new: kine's notifications may carry 0
        self._next = head.revision + 1
        return WatchBatch(head, events)


def store_id(header: Any) -> str:
    """The cluster's id as etcdctl shows it. kine has none, so all of them are "0"."""
    return f"{header.cluster_id:x}"
