"""Canonical bytes, content hash and digest: how two sides agree that they hold the same configuration.

A resource's canonical bytes are msgpack with the keys of every map sorted and without `update_time`, because a write
that changes nothing but the time of writing changes nothing in substance. Equal always means equal hash, never equal
revision: a store restored from a backup issues the same revisions again for other contents.

The digest is the sum of one hash per resource modulo 2^64, so it does not depend on order and one change costs one
addition and one subtraction.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgpack

from gw.model.keys import ResourceKey

DIGEST_MASK: Final = 2**64 - 1
# Bookkeeping of the store, not configuration.
UNHASHED_FIELDS: Final = frozenset({"update_time"})


def encode_resource(resource: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a resource: what is published to workers and what its content hash is taken over.

    Raises ValueError, OverflowError, UnicodeEncodeError or RecursionError for what msgpack cannot carry (integers over
    64 bits, lone surrogates, nesting of hundreds of levels). Nothing of that passes `gw.schema.validate`.
    """
    kept = {name: value for name, value in resource.items() if name not in UNHASHED_FIELDS}
    return bytes(msgpack.packb(_sorted(kept)))


def decode_resource(blob: bytes | memoryview) -> dict[str, Any]:
    """The resource behind canonical bytes. No extension types: the bytes meet no decoder that could run code."""
    resource: dict[str, Any] = msgpack.unpackb(blob, strict_map_key=True)
    return resource


def content_hash(blob: bytes | memoryview) -> int:
    """64 bits over canonical bytes. Never Python's `hash`, which differs from process to process."""
    return int.from_bytes(blake2b(blob, digest_size=8).digest(), "little")


def entry_hash(key: ResourceKey, content: int) -> int:
    """What one resource adds to the digest. Kind and id are told apart by a NUL, which neither holds."""
    named = f"{key.kind}\0{key.id}\0".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(named + content.to_bytes(8, "little"), digest_size=8).digest(), "little")


def digest_of(contents: Iterable[tuple[ResourceKey, int]]) -> int:
    """The digest of a whole configuration, from (key, content hash) pairs in any order."""
    return sum(entry_hash(key, content) for key, content in contents) & DIGEST_MASK


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value
