"""A base: the whole configuration in one segment, written before anything names it and never changed afterwards.

An index of chunks first, then the resources as separate blobs. The index is read in steps of one chunk, so that a
worker can load 100,000 entries between two events; a blob is not touched before somebody asks for it. Here is what both
sides share: `base_writer.py` writes, `base.py` reads.

A chunk holds resources of one kind, column by column, because that decodes several times faster than an array per
resource: [kind, [id, ...], content hashes (u64 each), offset of the first blob, blob lengths (u32 each),
[routing, ...]]. The blobs of a chunk lie one after the other. Offsets count from the end of the index.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgpack

from gw.model.keys import ResourceKey

# About 0.2 ms of decoding: well under the longest slice (1 ms) a worker lets a rebuild hold its event loop.
CHUNK_RESOURCES: Final = 128

INDEX_LENGTH: Final = struct.Struct("<I")
# What msgpack and struct raise for bytes that are not what they should be.
DECODE_ERRORS: Final = (ValueError, TypeError, IndexError, msgpack.UnpackException, struct.error)

# Ids come from a store that may hold any bytes; gw.model.digest hashes them in the same way.
pack: Final = partial(msgpack.packb, unicode_errors="surrogatepass")
unpack: Final = partial(msgpack.unpackb, use_list=False, unicode_errors="surrogatepass")


def unpacker(raw: bytes | memoryview) -> Any:
    """A `msgpack.Unpacker` over these bytes, to take them in piece by piece."""
    pieces = msgpack.Unpacker(use_list=False, unicode_errors="surrogatepass", max_buffer_size=max(len(raw), 1))
    pieces.feed(raw)
    return pieces


class Entry(NamedTuple):
    """A resource as the agent holds it. `routing` is what the router needs of it: opaque here, any msgpack value."""

    hash: int
    blob: bytes
    routing: Any


def encode_chunk(kind: str, keys: Sequence[ResourceKey], entries: Mapping[ResourceKey, Entry], offset: int) -> bytes:
    """A chunk of the index, its length before it; `offset` is that of its first blob."""
    found = [entries[key] for key in keys]
    columns = (
        kind,
        [key.id for key in keys],
        struct.pack(f"<{len(found)}Q", *(entry.hash for entry in found)),
        offset,
        struct.pack(f"<{len(found)}I", *(len(entry.blob) for entry in found)),
        [entry.routing for entry in found],
    )
    encoded = pack(columns)
    return b"".join((INDEX_LENGTH.pack(len(encoded)), encoded))
