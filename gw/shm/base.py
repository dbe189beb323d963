"""A base as it is read: checked against the slot that names it, its index a chunk at a time, a blob when asked for.

The bytes, and how they come about, are in `snapshot.py`. A base is never changed, so nothing read from it is copied
first; its mapping outlives its name, so who has it open reads on when the writer has unlinked it.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

from gw.errors import SegmentError
from gw.model.digest import content_hash
from gw.model.keys import ResourceKey
from gw.shm.layout import HEADER_BYTES, Slot, SnapshotHeader, unpack_snapshot_header
from gw.shm.segment import Segment
from gw.shm.snapshot import DECODE_ERRORS, INDEX_LENGTH, unpack

# What one step of checking takes in: about 0.1 ms of crc32.
CHECKED_BYTES: Final = 256 * 1024
# Where a blob lies is one number, since a worker keeps 100,000 of them: offset above, length (a u32) below.
LENGTH_BITS: Final = 32
LENGTH_MASK: Final = (1 << LENGTH_BITS) - 1


class Chunk(NamedTuple):
    """Resources of one kind, column by column. `places` are to be given to `Base.blob`.

    `routings` come as msgpack gives them, tuples for arrays, and are not looked into here.
    """

    kind: str
    ids: Sequence[str]
    hashes: Sequence[int]
    places: Sequence[int]
    routings: Sequence[Any]


class Base:
    """An open base. Unmapped by `close`, or when nothing refers to it any more.

    Raises SegmentError when the segment is not what the slot names; its index is checked by `check_steps`.
    """

    __slots__ = ("_header", "_segment", "_slot")

    def __init__(self, segment: Segment, slot: Slot) -> None:
        self._header = _check_header(segment, slot)
        self._segment = segment
        self._slot = slot

    @property
    def number(self) -> int:
        """The number in its name."""
        return self._header.number

    @property
    def version(self) -> int:
        """The version it holds; what came after it stands in the log."""
        return self._header.version

    def __len__(self) -> int:
        """How many resources it holds."""
        return self._header.resources

    def check_steps(self) -> Iterator[None]:
        """Steps that raise SegmentError unless the index is what the slot says. Before `chunks` is believed."""
        checksum = 0
        end = HEADER_BYTES + self._header.index_bytes
        for at in range(0, end, CHECKED_BYTES):
            checksum = zlib.crc32(self._segment.view[at : min(at + CHECKED_BYTES, end)], checksum)
            yield
        if checksum != self._slot.snapshot_checksum:
            raise SegmentError(f"the index of {self._segment.name} does not match its checksum")

    def chunks(self) -> Iterator[Chunk]:
        """The index. Raises SegmentError where it cannot be read, or does not hold as many resources as it says."""
        view, at, end = self._segment.view, HEADER_BYTES, HEADER_BYTES + self._header.index_bytes
        resources = 0
        while at < end:
            try:
                (length,) = INDEX_LENGTH.unpack_from(view, at)
                at += INDEX_LENGTH.size
                chunk = _decode_chunk(view, view[at : at + length], end)
            except DECODE_ERRORS as error:
                raise SegmentError(f"the index of {self._segment.name} cannot be read: {error}") from error
            at += length
            resources += len(chunk.ids)
            yield chunk
        if resources != len(self):
            raise SegmentError(f"{self._segment.name} holds {resources} resources and says {len(self)}")

    def blob(self, key: ResourceKey, hash: int, place: int) -> bytes:
        """A copy of a resource's canonical bytes.

        Raises SegmentError when they do not match the content hash, or the base was closed.
        """
        offset, length = place >> LENGTH_BITS, place & LENGTH_MASK
        try:
            blob = bytes(self._segment.view[offset : offset + length])
        except ValueError:
            raise SegmentError(f"the snapshot that holds {key} is closed") from None
        if content_hash(key, blob) != hash:
            raise SegmentError(f"{key} in {self._segment.name} does not match its content hash {hash:016x}")
        return blob

    def close(self) -> None:
        """Unmap; blobs are not to be had any more."""
        self._segment.close()


def _decode_chunk(view: memoryview, raw: memoryview, blobs: int) -> Chunk:
    kind, ids, packed_hashes, offset, packed_lengths, routings = unpack(raw)
    count = len(ids)
    lengths = struct.unpack(f"<{count}I", packed_lengths)
    hashes = struct.unpack(f"<{count}Q", packed_hashes)
    first = blobs + offset
    if len(routings) != count or first + sum(lengths) > len(view):
        raise ValueError("its columns do not fit one another or the segment")
    offsets = accumulate(lengths, initial=first)
    places = [at << LENGTH_BITS | length for at, length in zip(offsets, lengths, strict=False)]
    return Chunk(kind, ids, hashes, places, routings)


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
