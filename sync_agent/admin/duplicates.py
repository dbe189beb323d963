"""Two consumers must not have one identity: requests would count for either of them, by chance.

Whom to ask about says the agent's index (sync_agent/identities.py), with this agent's own writes of which the watch has
not brought word yet laid over it; whether it still has the identity says the store as it stands. So nobody is refused
for what is no longer so. The caller sees to it that no other write of this host comes between; one of another host that
the watch has not told of, or past the Admin API, is not stopped. Until the index is complete, every consumer is read.

APISIX looks at what a worker has synchronized (pull request 13529), and words it the same. A reference to a secret
counts as the text that it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from typing import Any

from gw.model.keys import ResourceKey, parse_store_key
from sync_agent.admin.stored import StoredValueError, parse_stored
from sync_agent.identities import KINDS_WITH_IDENTITIES, Identities, Identity, identities_of
from sync_agent.stores.base import KeyValue, Store

# A value of the store, with secrets in clear. Raises StoredValueError.
Open = Callable[[ResourceKey, bytes], Mapping[str, Any]]


def _as_stored(key: ResourceKey, value: bytes) -> Mapping[str, Any]:
    return parse_stored(value)


class Duplicates:
    """Finds who has an identity already. `processed` is the revision up to which `identities` has word of writes."""

    def __init__(
        self, store: Store, identities: Identities, processed: Callable[[], int], open: Open = _as_stored
    ) -> None:
        self._store = store
        self._known = identities
        self._processed = processed
        self._open = open
        self._recent = Identities()
        self._revisions: dict[ResourceKey, int] = {}  # of recent writes

    @property
    def unconfirmed(self) -> int:
        """Writes of which the watch has not brought word yet, as far as anybody has looked."""
        return len(self._revisions)

    def concern(self, key: ResourceKey, value: Mapping[str, Any]) -> bool:
        """Does this resource claim an identity?"""
        return any(True for _ in identities_of(key.kind, value))

    async def find(self, key: ResourceKey, value: Mapping[str, Any]) -> str | None:
        """Why a resource cannot have the identities it claims, in APISIX's words; None when it can."""
        claimed = frozenset(identities_of(key.kind, value))
        self._forget_what_is_known()
        others = self._claimants(claimed) if self._known.is_complete else self._everybody()
        async with contextlib.aclosing(others):
            async for other, found in others:
                if not _is_same_owner(key, other) and self._has_one_of(claimed, other, found):
                    return f"duplicate key found with consumer: {other.id.partition('/')[0]}"
        return None

    def wrote(self, key: ResourceKey, value: Mapping[str, Any] | None, revision: int) -> None:
        """This agent wrote a resource, or (None) deleted it."""
        if key.kind in KINDS_WITH_IDENTITIES:
            self._forget_what_is_known()
            self._recent.note(key, () if value is None else self._recent.digests_of(key.kind, value))
            self._revisions[key] = revision

    def _forget_what_is_known(self) -> None:
        processed = self._processed()
        for key in [key for key, revision in self._revisions.items() if revision <= processed]:
            del self._revisions[key]
            self._recent.note(key, ())

    async def _claimants(self, claimed: Collection[Identity]) -> AsyncGenerator[tuple[ResourceKey, KeyValue], None]:
        for identity in claimed:
            known = (owner for owner in self._known.owners(identity) if owner not in self._revisions)
            for owner in {*known, *self._recent.owners(identity)}:
                found, _ = await self._store.get(str(owner))
                if found is not None:
                    yield owner, found

    async def _everybody(self) -> AsyncGenerator[tuple[ResourceKey, KeyValue], None]:
        async with contextlib.aclosing(self._store.list(below="consumers/")) as pages:
            async for page in pages:
                for kv in page.items:
                    if (key := parse_store_key(kv.key)) is not None:
                        yield key, kv

    def _has_one_of(self, claimed: Collection[Identity], key: ResourceKey, found: KeyValue) -> bool:
        with contextlib.suppress(StoredValueError):
            return any(identity in claimed for identity in identities_of(key.kind, self._open(key, found.value)))
        return False


def _is_same_owner(key: ResourceKey, other: ResourceKey) -> bool:
    """A consumer may repeat what its own credentials have, but no credential what its consumer or another one has."""
    return other == key or (key.kind == "consumers" and other.id.partition("/")[0] == key.id)
