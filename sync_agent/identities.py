"""Which consumer or credential has which identity: the key or name by which an authentication plugin finds it.

Kept as changes come in, so that a write is compared with 100,000 consumers by one look. What is kept are keyed
digests, not the keys. It follows what the agent admits, so it may lag behind the store by what the watch has still to
bring, and what is refused is not in it: who relies on an answer asks the store for the resource it names
(sync_agent/admin/duplicates.py). No I/O.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

from gw.model.keys import ResourceKey

# Plugin -> the member of a consumer's configuration that tells consumers apart (APISIX 3.x, apisix/admin/utils.lua).
IDENTIFYING: Final[Mapping[str, str]] = {
    "key-auth": "key",
    "basic-auth": "username",
    "jwt-auth": "key",
    "hmac-auth": "key_id",
    "ldap-auth": "user_dn",
}
KINDS_WITH_IDENTITIES: Final = frozenset({"consumers", "credentials"})

Identity = tuple[str, str]  # plugin, value
Digests = tuple[bytes, ...]


def identities_of(kind: str, resource: Mapping[str, Any]) -> Iterator[Identity]:
    """The identities that a resource claims. Shapes that no schema would let through claim none."""
    plugins = resource.get("plugins") if kind in KINDS_WITH_IDENTITIES else None
    if not isinstance(plugins, Mapping):
        return
    for plugin, member in IDENTIFYING.items():
        conf = plugins.get(plugin)
        value = conf.get(member) if isinstance(conf, Mapping) else None
        if isinstance(value, str) and value:
            yield plugin, value


class Identities:
    """Identity -> the resources that have it: one, unless somebody wrote past the Admin API.

    `is_complete` is set by whoever has noted every resource there is.
    """

    def __init__(self) -> None:
        self.is_complete = False
        # A process of its own each: digests of two agents, or of two runs, cannot be compared.
        self._secret = secrets.token_bytes(32)
        self._owners: dict[bytes, tuple[ResourceKey, ...]] = {}
        self._digests: dict[ResourceKey, Digests] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def digests_of(self, kind: str, resource: Mapping[str, Any]) -> Digests:
        """What to note of a resource. Apart from noting it, because that is done for a whole store at once."""
        return tuple(self._digest(identity) for identity in identities_of(kind, resource))

    def note(self, key: ResourceKey, digests: Digests) -> None:
        """A resource has these identities now; none when it is gone."""
        before = self._digests.get(key, ())
        if digests == before:
            return
        for digest in before:
            self._disown(digest, key)
        for digest in digests:
            self._owners[digest] = (*self._owners.get(digest, ()), key)
        if digests:
            self._digests[key] = digests
        else:
            del self._digests[key]

    def owners(self, identity: Identity) -> tuple[ResourceKey, ...]:
        """Who has this identity, the one that had it first in front."""
        return self._owners.get(self._digest(identity), ())

    def _disown(self, digest: bytes, key: ResourceKey) -> None:
        left = tuple(owner for owner in self._owners[digest] if owner != key)
        if left:
            self._owners[digest] = left
        else:
            del self._owners[digest]

    def _digest(self, identity: Identity) -> bytes:
        plugin, value = identity
        # A plugin's name has no NUL, so no two identities read alike.
        text = f"{plugin}\0{value}".encode("utf-8", "surrogatepass")
        return blake2b(text, digest_size=16, key=self._secret).digest()
