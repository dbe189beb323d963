"""A base: the whole configuration in one segment, written before anything names it and never changed afterwards.

An index of chunks first, then the resources as separate blobs. The index is read in steps of one chunk, so that a
worker can load 100,000 entries between two events; a blob is not touched before somebody asks for it (`base.py`).

A chunk holds resources of one kind, column by column, because that decodes several times faster than an array per
resource: [kind, [id, ...], content hashes (u64 each), offset of the first blob, blob lengths (u32 each),
[routing, ...]]. The blobs of a chunk lie one after the other. Offsets count from the end of the index.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgpack

from gw.model.keys import ResourceKey
from gw.shm.layout import HEADER_BYTES, SnapshotHeader, pack_snapshot_header

# About 0.2 ms of decoding: well under the longest slice (1 ms) a worker lets a rebuild hold its event loop.
CHUNK_RESOURCES: Final = 128
# What one store to a new segment carries, so that 100,000 blobs are neither as many stores nor one copy of them all.
STORED_BYTES: Final = 1024 * 1024

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


class EncodedSnapshot(NamedTuple):
    """A base ready to be stored: `pieces` one after the other fill `length` bytes."""

    pieces: Sequence[bytes]
    length: int
    checksum: int  # of header and index


def encode_snapshot(number: int, version: int, digest: int, entries: Mapping[ResourceKey, Entry]) -> EncodedSnapshot:
    """Resources in the order of their keys, which is the store's."""
    index = []
    offset = 0
    for kind, keys in (chunks := list(_chunks(sorted(entries)))):
        encoded = _encode_chunk(kind, keys, entries, offset)
        index += [INDEX_LENGTH.pack(len(encoded)), encoded]
        offset += sum(len(entries[key].blob) for key in keys)
    index_bytes = sum(map(len, index))
    length = HEADER_BYTES + index_bytes + offset
    header = SnapshotHeader(len(entries), number, version, digest, index_bytes, length)
    head = b"".join((pack_snapshot_header(header), *index))
    blobs = (entries[key].blob for _, keys in chunks for key in keys)
    return EncodedSnapshot([head, *_joined(blobs)], length, zlib.crc32(head))


def _chunks(keys: Sequence[ResourceKey]) -> Iterator[tuple[str, Sequence[ResourceKey]]]:
    for kind, group in groupby(keys, key=lambda key: key.kind):
        of_kind = list(group)
        for start in range(0, len(of_kind), CHUNK_RESOURCES):
            yield kind, of_kind[start : start + CHUNK_RESOURCES]


def _encode_chunk(kind: str, keys: Sequence[ResourceKey], entries: Mapping[ResourceKey, Entry], offset: int) -> bytes:
    found = [entries[key] for key in keys]
    columns = (
        kind,
        [key.id for key in keys],
        struct.pack(f"<{len(found)}Q", *(entry.hash for entry in found)),
        offset,
        struct.pack(f"<{len(found)}I", *(len(entry.blob) for entry in found)),
        [entry.routing for entry in found],
    )
    return bytes(pack(columns))


def _joined(blobs: Iterator[bytes]) -> Iterator[bytes]:
    piece: list[bytes] = []
    size = 0
    for blob in blobs:
        piece.append(blob)
        size += len(blob)
        if size >= STORED_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)
