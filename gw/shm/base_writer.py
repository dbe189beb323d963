"""Writes a base: the whole configuration into a segment of its own, a piece at a time. For the writer alone.

The agent has other things to do meanwhile, and each piece holds it up for less than a millisecond: to write 100,000
resources takes some 0.4 s, and a change that comes in between must not wait for that. So nothing here is done to the
whole at once, sorting included; what is written is a copy of the entries, which the caller makes.
"""

import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Final, NamedTuple

from gw.errors import SegmentError
from gw.model.keys import ResourceKey
from gw.shm.layout import HEADER_BYTES, SnapshotHeader, pack_snapshot_header
from gw.shm.names import SegmentNames
from gw.shm.segment import AGENT_MODE, NewSegment, SegmentExists, SegmentSpace
from gw.shm.snapshot import CHUNK_RESOURCES, Entry, encode_chunk

# What one store to a new segment carries: some 0.1 ms of copying and checksum.
STORED_BYTES: Final = 128 * 1024
# Entries put to their kind in one step: some 0.3 ms.
GROUPED_ENTRIES: Final = 2048
# A name is taken only by a stranger who guesses ahead of us. One who does so this often wants us to stop.
NUMBER_ATTEMPTS: Final = 16
# Numbers found in names count below this only, so that a stranger's file cannot use the numbers up.
NUMBER_LIMIT: Final = 2**53


class WrittenBase(NamedTuple):
    """A snapshot that is written, as a slot names it; all zeros for none."""

    snapshot_number: int = 0
    snapshot_version: int = 0
    snapshot_length: int = 0
    snapshot_checksum: int = 0


class _Index(NamedTuple):
    """The chunks that describe all resources, and the keys in their order."""

    chunks: Sequence[bytes]
    keys: Sequence[Sequence[ResourceKey]]
    blob_bytes: int


class BaseWriter:
    """Gives out the numbers of bases, and writes them."""

    def __init__(self, space: SegmentSpace, names: SegmentNames) -> None:
        self._space = space
        self._names = names
        found = map(names.snapshot_number, space.list(names.prefix))
        self._last_number = max((number for number in found if number is not None and number < NUMBER_LIMIT), default=0)

    def note_number(self, number: int) -> None:
        """Give out none up to this one."""
        self._last_number = max(self._last_number, number)

    def write(self, entries: Mapping[ResourceKey, Entry], version: int, digest: int) -> WrittenBase:
        """A base in one go. Raises SegmentError when there is no room."""
        steps = self.steps(entries, version, digest)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                base: WrittenBase = done.value
                return base

    def steps(
        self, entries: Mapping[ResourceKey, Entry], version: int, digest: int
    ) -> Generator[None, None, WrittenBase]:
        """The same with a yield after each piece. The entries must not change before it has come to its end.

        Nothing is left of a base that is given up: by an error, or by closing the generator.
        """
        index = yield from _index_steps(entries)
        index_bytes = sum(map(len, index.chunks))
        length = HEADER_BYTES + index_bytes + index.blob_bytes
        number, segment = yield from self._create_steps(length)
        try:
            header = pack_snapshot_header(SnapshotHeader(len(entries), number, version, digest, index_bytes, length))
            checksum = yield from _store_steps(segment, 0, chain((header,), index.chunks))
            blobs = (entries[key].blob for keys in index.keys for key in keys)
            yield from _store_steps(segment, HEADER_BYTES + index_bytes, blobs)
        except BaseException:
            with suppress(SegmentError):  # swept later then
                self._space.unlink(self._names.snapshot(number))
            raise
        finally:
            segment.close()
        return WrittenBase(number, version, length, checksum)

    def _create_steps(self, length: int) -> Generator[None, None, tuple[int, NewSegment]]:
        for _ in range(NUMBER_ATTEMPTS):
            number = self._last_number + 1
            try:
                segment = yield from self._space.create_steps(self._names.snapshot(number), length, AGENT_MODE)
            except SegmentExists:
                self._last_number = number
            else:
                self._last_number = number
                return number, segment
        raise SegmentError(f"no free name for a snapshot: {self._names.snapshot(self._last_number)} is taken as well")


def _index_steps(entries: Mapping[ResourceKey, Entry]) -> Generator[None, None, _Index]:
    chunks, chunk_keys = [], []
    offset = 0
    for kind, keys in (yield from _kinds_steps(entries)):
        for start in range(0, len(keys), CHUNK_RESOURCES):
            of_chunk = keys[start : start + CHUNK_RESOURCES]
            chunks.append(encode_chunk(kind, of_chunk, entries, offset))
            chunk_keys.append(of_chunk)
            offset += sum(len(entries[key].blob) for key in of_chunk)
            yield
    return _Index(chunks, chunk_keys, offset)


def _kinds_steps(
    entries: Mapping[ResourceKey, Entry],
) -> Generator[None, None, Sequence[tuple[str, Sequence[ResourceKey]]]]:
    """The keys by kind: first the kinds without routing, then those with it, which refer to them."""
    keys: dict[str, list[ResourceKey]] = {}
    routed = set()
    for number, (key, entry) in enumerate(entries.items(), 1):
        if (of_kind := keys.get(key.kind)) is None:
            of_kind = keys[key.kind] = []
        of_kind.append(key)
        if entry.routing is not None:
            routed.add(key.kind)
        if number % GROUPED_ENTRIES == 0:
            yield
    return sorted(keys.items(), key=lambda item: item[0] in routed)


def _store_steps(segment: NewSegment, at: int, parts: Iterable[bytes]) -> Generator[None, None, int]:
    """Store the parts one after the other; returns their checksum."""
    checksum = 0
    for piece in _joined(parts):
        segment.store(at, piece)
        checksum = zlib.crc32(piece, checksum)
        at += len(piece)
        yield
    return checksum


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Small parts together and large ones apart, so that each piece is about STORED_BYTES, and none is longer."""
    piece: list[bytes] = []
    size = 0
    for part in parts:
        if size + len(part) > STORED_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
            while len(part) > STORED_BYTES:
                yield part[:STORED_BYTES]
                part = part[STORED_BYTES:]
        piece.append(part)
        size += len(part)
    if piece:
        yield b"".join(piece)
