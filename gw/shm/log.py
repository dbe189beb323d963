"""The change log: records in a ring. A position counts bytes since the ring was made, and only grows.

Which positions hold records is said by control alone; the ring says which epoch it belongs to. A record names its own
position and version, so a record of an earlier lap is never taken for one of this.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from gw.errors import SegmentError
from gw.model.digest import content_hash
from gw.model.keys import ResourceKey
from gw.shm.layout import (
    HEADER_BYTES,
    RECORD_HEADER_BYTES,
    LogHeader,
    pack_log_header,
    pack_record,
    record_checksum,
    unpack_log_header,
    unpack_record_header,
)
from gw.shm.segment import Segment
from gw.shm.snapshot import DECODE_ERRORS, pack, unpacker

# Under this a ring holds no change worth logging, and every version would be a new base.
MIN_LOG_BYTES: Final = 1024
# What a step of reading takes in, so that a large record or a long lag holds no event loop: some 0.1 ms each.
COPIED_BYTES: Final = 256 * 1024
STEP_CHANGES: Final = 64


class Change(NamedTuple):
    """One resource that was put, or deleted (`blob` None; `hash` 0 and `routing` None by custom)."""

    key: ResourceKey
    hash: int
    blob: bytes | None
    routing: Any


class Record(NamedTuple):
    """What one publish changed. `digest` is that of the whole configuration afterwards."""

    version: int
    position: int
    end: int
    revision: int
    digest: int
    changes: Sequence[Change]


class Ring:
    """The log segment, addressed by position."""

    def __init__(self, segment: Segment, header: LogHeader) -> None:
        self.segment = segment
        self.epoch = header.epoch
        self.ring_bytes = header.ring_bytes

    @classmethod
    def prepare(cls, segment: Segment, epoch: int) -> "Ring":
        """Make a new segment an empty ring."""
        header = LogHeader(epoch, segment.size - HEADER_BYTES)
        segment.store(0, pack_log_header(header))
        return cls(segment, header)

    @classmethod
    def of(cls, segment: Segment) -> "Ring":
        """The ring that a segment holds. Raises SegmentError when it holds none."""
        header = unpack_log_header(bytes(segment.view[:HEADER_BYTES])) if segment.size > HEADER_BYTES else None
        if header is None or header.ring_bytes != segment.size - HEADER_BYTES:
            raise SegmentError(f"{segment.name} is no change log of this format")
        return cls(segment, header)

    def write(self, position: int, record: bytes) -> None:
        """Put a record in its place, in two stores when it goes on at the ring's beginning."""
        at = position % self.ring_bytes
        room = self.ring_bytes - at
        self.segment.store(HEADER_BYTES + at, record[:room])
        if len(record) > room:
            self.segment.store(HEADER_BYTES, record[room:])

    def copy_steps(self, start: int, end: int) -> Generator[None, None, bytes]:
        """The bytes between two positions, as they are by the last step: to be checked before they are believed.

        Raises SegmentError for positions that the ring cannot hold.
        """
        if not 0 <= end - start <= self.ring_bytes:
            raise SegmentError(f"{self.segment.name} cannot hold positions {start} to {end}")
        view = self.segment.view
        copied = bytearray()
        while start < end:
            at = start % self.ring_bytes
            length = min(end - start, self.ring_bytes - at, COPIED_BYTES)
            copied += view[HEADER_BYTES + at : HEADER_BYTES + at + length]
            start += length
            yield
        return bytes(copied)


def encode_record(version: int, position: int, revision: int, digest: int, changes: Iterable[Change]) -> bytes:
    """A record ready for the ring."""
    rows = [(*change.key, change.hash, change.blob, change.routing) for change in changes]
    return pack_record(version, position, pack((version, revision, digest, rows)))


def record_steps(raw: bytes, position: int) -> Iterator[Record | None]:
    """One after the other, the records of a copy that begins at `position` and ends where a record does.

    None after each piece of a long one, for a caller that has an event loop to run. Raises SegmentError at the first
    that is not valid.
    """
    at = 0
    while at < len(raw):
        for record in _record_steps(memoryview(raw)[at:], position + at):
            yield record
            if record is not None:
                at = record.end - position


def decode_records(raw: bytes, position: int) -> Iterator[Record]:
    """As `record_steps`, for a caller that has nothing else to do."""
    return (record for record in record_steps(raw, position) if record is not None)


def check_chain(records: Sequence[Record], since: int, version: int, digest: int) -> None:
    """Raises SegmentError unless the records lead from version `since` to `version`, none left out, and to `digest`.

    Without records there is nothing to check but that the two versions are one.
    """
    is_whole = len(records) == version - since and all(
        record.version == expected for expected, record in enumerate(records, since + 1)
    )
    if not is_whole or (records and records[-1].digest != digest):
        raise SegmentError(f"the change log does not lead from version {since} to {version}")


def check_blob(change: Change) -> None:
    """Raises SegmentError when a blob is not what its content hash says."""
    if change.blob is not None and content_hash(change.key, change.blob) != change.hash:
        raise SegmentError(f"{change.key} in the change log does not match its content hash")


def _record_steps(raw: memoryview, position: int) -> Iterator[Record | None]:
    if len(raw) < RECORD_HEADER_BYTES:
        raise SegmentError(f"the change log is cut at position {position}")
    header = unpack_record_header(bytes(raw[:RECORD_HEADER_BYTES]))
    length = RECORD_HEADER_BYTES + header.payload_bytes
    is_whole = length <= len(raw) and header.position == position and record_checksum(raw[:length]) == header.checksum
    if not is_whole:
        raise SegmentError(f"no valid record at position {position} of the change log")
    changes: list[Change] = []
    try:
        payload = unpacker(raw[RECORD_HEADER_BYTES:length])
        payload.read_array_header()
        version, revision, digest = payload.unpack(), payload.unpack(), payload.unpack()
        for number in range(payload.read_array_header()):
            kind, id, hash, blob, routing = payload.unpack()
            changes.append(Change(ResourceKey(kind, id), hash, blob, routing))
            if number % STEP_CHANGES == STEP_CHANGES - 1:
                yield None
    except DECODE_ERRORS as error:
        raise SegmentError(f"the record at position {position} cannot be read: {error}") from error
    if version != header.version:
        raise SegmentError(f"the record at position {position} is of two minds about its version")
    yield Record(version, position, position + length, revision, digest, changes)
