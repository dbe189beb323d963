"""Canonical bytes, content hash and digest: how two sides agree that they hold the same configuration.

A resource's canonical bytes are msgpack with the keys of every map sorted and without `update_time`, because a write
that changes nothing but the time of writing changes nothing in substance. Equal always means equal hash, never equal
revision: a store restored from a backup issues the same revisions again for other contents.

A content hash is taken over the resource's name as well, so no two resources share one. The digest is the sum of all
content hashes modulo 2^64: it does not depend on order, and one change costs one addition and one subtraction.
"""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgpack

from gw.model.keys import ResourceKey

DIGEST_MASK: Final = 2**64 - 1
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
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


def content_hash(key: ResourceKey, blob: bytes | memoryview) -> int:
    """64 bits over a resource's name and its canonical bytes. Never Python's `hash`, which no two processes share.

    Kind, id and bytes are told apart by NULs, which neither kind nor id holds.
    """
    hasher = blake2b(f"{key.kind}\0{key.id}\0".encode("utf-8", "surrogatepass"), digest_size=8)
    hasher.update(blob)
    return int.from_bytes(hasher.digest(), "little")


def fingerprint(part: Mapping[str, Any]) -> int:
    """64 bits over a part of a decoded resource, which has its keys in canonical order already."""
    return int.from_bytes(blake2b(msgpack.packb(part), digest_size=8).digest(), "little")


def digest_of(hashes: Iterable[int]) -> int:
    """The digest of a whole configuration, from the content hashes of its resources in any order."""
    return sum(hashes) & DIGEST_MASK


def _sorted(value: Any) -> Any:
    # PERF: most values are plain; the test for Mapping is an abstract class's, and slow.
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value
