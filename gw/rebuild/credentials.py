"""Which consumers and credentials may be meant by what a client shows: an index, brought up to date change by change.

What is indexed of a credential is a keyed hash of the field by which its plugin finds it (the key of key-auth, the user
name of basic-auth), under a key that each worker draws. So nobody learns from the time that a look takes how much of a
key was right, or can choose keys that fall together; and of 100,000 consumers nothing else is held until one comes.

Of several that show the same to one plugin the first by id counts, whatever came first. The others are reported: the
Admin API refuses them, so they were written past it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from gw.model.keys import ResourceKey
from gw.model.secret_references import UnresolvedReference, resolve_references
from gw.parted import PartedDict
from gw.pipeline.caller import is_credential
from gw.rebuild.entry import CredentialEntry

log = logging.getLogger(__name__)

_HASH_BYTES: Final = 8


# Auth plugins of APISIX that have something in consumers. Whether or not one is here, that is a credential and nothing
# that a request of this consumer would have to run, so one that is missing keeps nobody out who came by another.
KNOWN_AUTH_PLUGINS: Final = frozenset(
    ("basic-auth", "hmac-auth", "jwe-decrypt", "jwt-auth", "key-auth", "ldap-auth", "wolf-rbac")
)


class Reading(NamedTuple):
    """What is read of a credential. `fields`: by auth plugin, the field by which it finds one; `key`: of the hashes."""

    fields: Mapping[str, str]
    key: bytes

    def hash(self, value: str) -> int:
        """The keyed hash under which a value stands."""
        data = value.encode("utf-8", "surrogateescape")
        return int.from_bytes(blake2b(data, digest_size=_HASH_BYTES, key=self.key).digest(), "little")

    def of(self, entry: CredentialEntry) -> tuple[tuple[str, int], ...]:
        """The plugins that a resource has something to show to, each with the hash. Raises SegmentError.

        Nothing is shown by what is switched off, empty, or a reference that nobody resolved.
        """
        plugins: Any = entry.decode().get("plugins") or {}
        found = []
        for plugin, field in self.fields.items():
            conf = resolved(plugins.get(plugin), entry.key)
            if conf is None or (conf.get("_meta") or {}).get("disable"):
                continue
            value = conf.get(field)
            if is_credential(value):
                found.append((plugin, self.hash(value)))
        return tuple(found)


def resolved(conf: Any, owner: ResourceKey) -> Mapping[str, Any] | None:
    """What a consumer or credential has for an auth plugin, with what its references name.

    None where it has nothing, or a reference names nothing: then it lets nobody in, which is logged.
    """
    if not isinstance(conf, Mapping):
        return None
    try:
        found: Mapping[str, Any] = resolve_references(conf, os.environ)
    except UnresolvedReference as error:
        log.error("%s lets nobody in: %s", owner, error)
        return None
    return found


# As most stand alone under their hash, one is kept as it is.
_Bucket = CredentialEntry | tuple[CredentialEntry, ...]


class CredentialIndex:
    """`duplicates` names the resources that show what another one shows, too, with the reason."""

    __slots__ = ("_by_plugin", "_duplicates", "_reading")

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._by_plugin: dict[str, PartedDict[int, _Bucket]] = {plugin: PartedDict() for plugin in reading.fields}
        self._duplicates: dict[ResourceKey, dict[str, str]] = {}

    @property
    def duplicates(self) -> dict[ResourceKey, str]:
        return {key: "; ".join(reasons.values()) for key, reasons in self._duplicates.items()}

    @property
    def duplicate_count(self) -> int:
        return len(self._duplicates)

    def put(self, entry: CredentialEntry) -> None:
        """Take one in. Raises SegmentError, and has changed nothing then."""
        if entry.shows is None:
            entry.shows = self._reading.of(entry)
        for plugin, hash in entry.shows:
            # PERF: mostly nothing stands there yet, and a full rebuild comes by 100,000 times.
            if self._by_plugin[plugin].setdefault(hash, entry) is not entry:
                self._change(plugin, hash, lambda held: sorted({*held, entry}, key=_order))

    def remove(self, entry: CredentialEntry) -> None:
        """Take one out."""
        for plugin, hash in entry.shows or ():
            self._change(plugin, hash, lambda held: [each for each in held if each is not entry])

    def find(self, plugin: str, value: str) -> tuple[CredentialEntry, ...]:
        """Those that may be meant, the one that counts first: mostly one or none. Values are still to be compared."""
        by_hash = self._by_plugin.get(plugin)
        found = None if by_hash is None else by_hash.get(self._reading.hash(value))
        return _held(found)

    def drain(self) -> Iterator[None]:
        """Steps that let go of everything."""
        for by_hash in self._by_plugin.values():
            yield from by_hash.drain()

    def _change(self, plugin: str, hash: int, change: Any) -> None:
        by_hash = self._by_plugin[plugin]
        before = _held(by_hash.get(hash))
        after: list[CredentialEntry] = change(before)
        if after:
            by_hash[hash] = after[0] if len(after) == 1 else tuple(after)
        else:
            by_hash.pop(hash)
        if len(before) > 1 or len(after) > 1:
            self._note_duplicates(plugin, before, after)

    def _note_duplicates(
        self, plugin: str, before: tuple[CredentialEntry, ...], after: list[CredentialEntry]
    ) -> None:
        """Two values with one 64-bit hash would be reported, too: it does not happen, and harms nobody if it does."""
        for entry in before:
            reasons = self._duplicates.get(entry.key, {})
            reasons.pop(plugin, None)
            if not reasons:
                self._duplicates.pop(entry.key, None)
        for entry in after[1:]:
            reason = f"{plugin}: {after[0].key} shows the same {self._reading.fields[plugin]}, and counts"
            self._duplicates.setdefault(entry.key, {})[plugin] = reason
            if entry not in before:
                log.error("%s: %s", entry.key, reason)


def _held(bucket: _Bucket | None) -> tuple[CredentialEntry, ...]:
    if bucket is None:
        return ()
    return bucket if isinstance(bucket, tuple) else (bucket,)


def _order(entry: CredentialEntry) -> str:
    return entry.id
