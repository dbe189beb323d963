"""A base: the whole configuration in one segment, written before anything names it and never changed afterwards.

An index of chunks first, then the resources as separate blobs. The index is read in steps of one chunk, so that a
worker can load 100,000 entries between two events; a blob is not touched before somebody asks for it.

A chunk holds resources of one kind, column by column, because that decodes several times faster than an array per
resource: [kind, [id, ...], content hashes (u64 each), offset of the first blob, blob lengths (u32 each),
[routing, ...]]. The blobs of a chunk lie one after the other. Offsets count from the end of the index.
"""

import struct
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, repeat
from typing import Any, Final, NamedTuple, cast

import msgpack

from gw.errors import SegmentError
from gw.model.digest import content_hash
from gw.model.keys import ResourceKey
from gw.shm.layout import (
    HEADER_BYTES,
    Slot,
    SnapshotHeader,
    unpack_snapshot_header,
)
from gw.shm.segment import Segment

# About 0.2 ms of decoding: well under the longest slice (1 ms) a worker lets a rebuild hold its event loop.
CHUNK_RESOURCES: Final = 128
# What one step of checking takes in: about 0.1 ms of crc32.
CHECKED_BYTES: Final = 256 * 1024

_LENGTH: Final = struct.Struct("<I")
# What msgpack and struct raise for bytes that are not what they should be.
DECODE_ERRORS: Final = (ValueError, TypeError, IndexError, msgpack.UnpackException, struct.error)

# Ids come from a store that may hold any bytes; gw.model.digest hashes them in the same way.
pack: Final = partial(msgpack.packb, unicode_errors="surrogatepass")
unpack: Final = partial(msgpack.unpackb, use_list=False, unicode_errors="surrogatepass")

# ResourceKey(kind, id) without its Python frame: a third of the time of loading a large base.
_make_key: Final = cast("partial[ResourceKey]", partial(tuple.__new__, ResourceKey))


class Entry(NamedTuple):
    """A resource as the agent holds it. `routing` is what the router needs of it: opaque here, any msgpack value."""

    hash: int
    blob: bytes
    routing: Any


class EntryRef:
    """A resource as a worker holds it: its blob stays where it is until it is asked for.

    `routing` comes back as msgpack gives it: tuples for arrays.
    """

    __slots__ = ("_is_checked", "_length", "_offset", "_source", "hash", "routing")

    def __init__(self, hash: int, routing: Any, source: memoryview | bytes, offset: int, length: int) -> None:
        self.hash = hash
        self.routing = routing
        self._source = source
        self._offset = offset
        self._length = length
        self._is_checked = False

    def blob(self) -> bytes:
        """A copy of the canonical bytes, checked against the content hash when first read.

        Raises SegmentError when they do not match it, or when the base they lie in was closed.
        """
        try:
            blob = bytes(self._source[self._offset : self._offset + self._length])
        except ValueError:
            raise SegmentError("the snapshot that holds this resource is closed") from None
        if not self._is_checked:
            if content_hash(blob) != self.hash:
                raise SegmentError(f"a resource in shared memory does not match its content hash {self.hash:016x}")
            self._is_checked = True
        return blob


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
    return b"".join((_LENGTH.pack(len(encoded)), encoded))


def decode_steps(segment: Segment, slot: Slot) -> Generator[None, None, dict[ResourceKey, EntryRef]]:
    """Check a base against the slot that names it, and read its index, a piece between two yields.

    Raises SegmentError for anything that does not fit. What is returned refers to `segment.view`.
    """
    header = _check_header(segment, slot)
    end = HEADER_BYTES + header.index_bytes
    yield from _check_head(segment, slot, end)
    entries: dict[ResourceKey, EntryRef] = {}
    at = HEADER_BYTES
    try:
        while at < end:
            (length,) = _LENGTH.unpack_from(segment.view, at)
            at += _LENGTH.size
            entries.update(_decode_chunk(segment.view, segment.view[at : at + length], end))
            at += length
            yield
    except DECODE_ERRORS as error:
        raise SegmentError(f"the index of {segment.name} cannot be read: {error}") from error
    if len(entries) != header.resources:
        raise SegmentError(f"{segment.name} holds {len(entries)} resources and says {header.resources}")
    return entries


def _decode_chunk(view: memoryview, raw: memoryview, blobs: int) -> Iterator[tuple[ResourceKey, EntryRef]]:
    kind, ids, packed_hashes, offset, packed_lengths, routings = unpack(raw)
    count = len(ids)
    lengths = struct.unpack(f"<{count}I", packed_lengths)
    hashes = struct.unpack(f"<{count}Q", packed_hashes)
    first = blobs + offset
    if len(routings) != count or first + sum(lengths) > len(view):
        raise ValueError("its columns do not fit one another or the segment")
    offsets = accumulate(lengths, initial=first)
    refs = map(EntryRef, hashes, routings, repeat(view), offsets, lengths)  # ends with the shortest
    return zip(map(_make_key, zip(repeat(kind, count), ids, strict=True)), refs, strict=True)


def _check_header(segment: Segment, slot: Slot) -> SnapshotHeader:
    header = unpack_snapshot_header(bytes(segment.view[:HEADER_BYTES])) if segment.size >= HEADER_BYTES else None
    if header is None:
        raise SegmentError(f"{segment.name} is no snapshot of this format")
    is_named = (
        header.number == slot.snapshot_number
        and header.version == slot.snapshot_version
        and header.total_bytes == slot.snapshot_length == segment.size
        and HEADER_BYTES + header.index_bytes <= segment.size
    )
    if not is_named:
        raise SegmentError(f"{segment.name} is not the snapshot that the control segment names")
    return header


def _check_head(segment: Segment, slot: Slot, end: int) -> Generator[None, None, None]:
    checksum = 0
    for at in range(0, end, CHECKED_BYTES):
        checksum = zlib.crc32(segment.view[at : min(at + CHECKED_BYTES, end)], checksum)
        yield
    if checksum != slot.snapshot_checksum:
        raise SegmentError(f"the index of {segment.name} does not match its checksum")
