"""The bytes of every segment: structs, and pack beside unpack. No I/O, no policy; `docs/segment.md` explains them.

Little endian throughout. A struct that is overwritten while others read it carries a checksum over all of its other
bytes; what does not match is as good as absent (None here, never an exception). Lengths in bytes.

Control segment (576)               Log segment (as configured)        Snapshot segment (as needed)
    0  header                          0  header, epoch                    0  header
   64  slot 0                         64  ring                            64  index chunks: u32 length, msgpack
  320  slot 1                                                              .  blobs
                                      Workers' table (131,328)
                                       0  header, expected workers, master
                                     256  512 cells of 256

Headers (64; the table's is 256, padded with zeros)
  offset  control            log                snapshot           workers' table
       0  magic 8 bytes      magic              magic              magic
       8  format u32         format u32         format u32         format u32
      12  zero u32           zero u32           resources u32      capacity u32, cells
      16                     epoch u64          number u64         expected u64, workers
      24                     ring bytes u64     version u64        master pid u64
      32                                        digest u64         master start time u64
      40                                        index bytes u64    heir's expected u64, 0 without one
      48                                        total bytes u64    heir's pid u64
      56                                                           heir's start time u64

Slot (256)
       0  crc32 of bytes 4 to 255, u32             88  agent start time u64, clock ticks since boot
       4  agent state u32                          96  log start u64, position of the oldest record
       8  generation u64                          104  log base u64, position of the first record after the base
      16  epoch u64                               112  log end u64, position where the next record will stand
      24  version u64                             120  time of publishing u64, wall clock, ns
      32  digest u64                              128  heartbeat u64, CLOCK_MONOTONIC, ns
      40  processed store revision u64            136  zeros
      48  highest version ever given out u64      248  generation again u64
      56  snapshot number u64, 0 for none
      64  version the snapshot holds u64
      72  snapshot length u64
      80  crc32 of the snapshot's header and index, u32
      84  agent pid u32

Record in the ring (24, then the payload; either may go on at the ring's beginning)
       0  crc32 of bytes 4 to 23 and of the payload, u32       8  version u64
       4  payload length u32                                  16  position u64

Worker cell (256)
       0  crc32 of bytes 4 to 255, u32             72  rebuild kind u32
       4  state u32, 0 for free                    76  jitter drawn u32, ms
       8  pid u32                                  80  duration of the last rebuild u64, ns
      12  problems u32                             88  time of applying u64, wall clock, ns
      16  process start time u64                   96  time of applying u64, CLOCK_MONOTONIC, ns
      24  epoch u64                               104  snapshot in use u64, 0 for none
      32  version u64                             112  snapshot still in use beside it u64
      40  digest u64                              120  time of writing u64, CLOCK_MONOTONIC, ns
      48  processed store revision u64            128  updates applied u64
      56  staleness u64, ms                       136  full rebuilds u64
      64  worst staleness u64, ms                 144  digest mismatches u64
                                                  152  applications that failed u64
                                                  160  CPU time of the last rebuild u64, ns
                                                  168  longest slice of the last rebuild u64, ns
                                                  176  longest slice of all u64, ns
                                                  184  resources held u64
                                                  192  zeros
"""

import struct
import zlib
from dataclasses import dataclass, fields
from enum import IntEnum
from operator import attrgetter
from typing import Final, NamedTuple

# In every name and every header. A change of any struct here, or of what msgpack in a segment holds (gw.model.routing's
# RouteKey, encode_record, the snapshot's index), is a new format, hence other names.
FORMAT: Final = 2

CONTROL_MAGIC: Final = b"JWCTRL\r\n"  # the line ending breaks when somebody copies a segment as text
LOG_MAGIC: Final = b"JWLOG\0\r\n"
SNAPSHOT_MAGIC: Final = b"JWSNAP\r\n"
WORKERS_MAGIC: Final = b"JWWORK\r\n"

HEADER_BYTES: Final = 64  # one cache line, and room to grow without moving what follows
SLOT_BYTES: Final = 256
CELL_BYTES: Final = 256  # four cache lines: two owners never write to one
SLOTS: Final = 2
SLOTS_END: Final = HEADER_BYTES + SLOTS * SLOT_BYTES
CONTROL_BYTES: Final = SLOTS_END
TABLE_HEADER_BYTES: Final = 256
# The largest hosts of today have 256 hardware threads; during a reload the old workers stand beside the new ones.
TABLE_CAPACITY: Final = 512
TABLE_BYTES: Final = TABLE_HEADER_BYTES + TABLE_CAPACITY * CELL_BYTES

_CONTROL_HEADER: Final = struct.Struct("<8sI52x")
_LOG_HEADER: Final = struct.Struct("<8sIIQQ32x")
_SNAPSHOT_HEADER: Final = struct.Struct("<8sIIQQQQQ8x")
_TABLE_HEADER: Final = struct.Struct("<8sII240x")
_SLOT: Final = struct.Struct("<IQQQQQQQQQIIQQQQQQ112xQ")  # bytes 4 to 255
_CELL: Final = struct.Struct("<IIIQQQQQQQIIQQQQQQQQQQQQQQ64x")  # bytes 4 to 255
_RECORD_REST: Final = struct.Struct("<IQQ")  # bytes 4 to 23
_CRC: Final = struct.Struct("<I")
RECORD_HEADER_BYTES: Final = _CRC.size + _RECORD_REST.size

# Offsets in the table's header of the cells that change, each stored whole (Segment.store_u64).
EXPECTED_OFFSET: Final = 16
# Followed by pid and start time of the master that expects them. HEIR_OFFSET: the same three of a master that is to
# take its place, or zeros.
HEIR_OFFSET: Final = 40

assert _CONTROL_HEADER.size == _LOG_HEADER.size == _SNAPSHOT_HEADER.size == HEADER_BYTES
assert _TABLE_HEADER.size == TABLE_HEADER_BYTES
assert _SLOT.size + _CRC.size == SLOT_BYTES
assert _CELL.size + _CRC.size == CELL_BYTES


class AgentState(IntEnum):
    """What the agent is doing, for people: no reader decides anything by it."""

    STARTING = 1
    LOADING = 2
    WATCHING = 3
    BACKING_OFF = 4
    STOPPED = 5


class CellState(IntEnum):
    """Where a worker stands. A free cell is all zeros."""

    RESERVED = 1  # by the master, before the fork
    STARTING = 2
    SERVING = 3
    DRAINING = 4


class RebuildKind(IntEnum):
    """How a worker came to the version it reports."""

    NONE = 0
    FULL = 1
    UPDATE = 2


@dataclass(frozen=True, slots=True)
class Slot:
    """What control says: one complete state of the configuration, in the order of its bytes.

    Version 0 means that no configuration was published yet; an empty configuration has a version above it.
    """

    state: AgentState
    generation: int = 0
    epoch: int = 0
    version: int = 0
    digest: int = 0
    revision: int = 0
    highest_version: int = 0
    snapshot_number: int = 0
    snapshot_version: int = 0
    snapshot_length: int = 0
    snapshot_checksum: int = 0
    agent_pid: int = 0
    agent_start_time: int = 0
    log_start: int = 0
    log_base: int = 0
    log_end: int = 0
    published_wall_ns: int = 0
    heartbeat_ns: int = 0

    @property
    def identity(self) -> tuple[int, int, int]:
        """(epoch, version, digest): to be compared for inequality, never for order."""
        return self.epoch, self.version, self.digest


@dataclass(frozen=True, slots=True)
class Cell:
    """What one worker says of itself, in the order of its bytes.

    `updates`, `fulls`, `mismatches` (of digests) and `failures` count since the worker started. `*_held_ns` is how long
    a slice of applying held the event loop: the longest of the last rebuild, and the longest of all.
    """

    state: CellState
    pid: int
    problems: int = 0
    start_time: int = 0
    epoch: int = 0
    version: int = 0
    digest: int = 0
    revision: int = 0
    staleness_ms: int = 0
    worst_staleness_ms: int = 0
    rebuild_kind: RebuildKind = RebuildKind.NONE
    jitter_ms: int = 0
    rebuild_ns: int = 0
    applied_wall_ns: int = 0
    applied_ns: int = 0
    snapshot: int = 0
    previous_snapshot: int = 0
    written_ns: int = 0
    updates: int = 0
    fulls: int = 0
    mismatches: int = 0
    failures: int = 0
    rebuild_cpu_ns: int = 0
    rebuild_held_ns: int = 0
    worst_held_ns: int = 0
    resources: int = 0


_slot_fields: Final = attrgetter(*(field.name for field in fields(Slot)))
_cell_fields: Final = attrgetter(*(field.name for field in fields(Cell)))
_KIND_FIELD: Final = [field.name for field in fields(Cell)].index("rebuild_kind")


class SnapshotHeader(NamedTuple):
    """What a snapshot says of itself. Believed only together with the checksum in the slot that names it."""

    resources: int
    number: int
    version: int
    digest: int
    index_bytes: int
    total_bytes: int


class LogHeader(NamedTuple):
    """Which epoch a ring belongs to, and its size in bytes."""

    epoch: int
    ring_bytes: int


class RecordHeader(NamedTuple):
    """What stands before a record's payload."""

    checksum: int
    payload_bytes: int
    version: int
    position: int


def slot_offset(index: int) -> int:
    """Where slot 0 or 1 begins in the control segment."""
    return HEADER_BYTES + index * SLOT_BYTES


def cell_offset(index: int) -> int:
    """Where a worker's cell begins in the table."""
    return TABLE_HEADER_BYTES + index * CELL_BYTES


def pack_control_header() -> bytes:
    return _CONTROL_HEADER.pack(CONTROL_MAGIC, FORMAT)


def is_control_header(raw: bytes) -> bool:
    """Whether these 64 bytes begin a control segment of our format."""
    return raw == pack_control_header()


def pack_log_header(header: LogHeader) -> bytes:
    return _LOG_HEADER.pack(LOG_MAGIC, FORMAT, 0, *header)


def unpack_log_header(raw: bytes) -> LogHeader | None:
    """None when these 64 bytes do not begin a log of our format."""
    magic, format_, _, *rest = _LOG_HEADER.unpack(raw)
    return LogHeader(*rest) if (magic, format_) == (LOG_MAGIC, FORMAT) else None


def pack_snapshot_header(header: SnapshotHeader) -> bytes:
    return _SNAPSHOT_HEADER.pack(SNAPSHOT_MAGIC, FORMAT, *header)


def unpack_snapshot_header(raw: bytes) -> SnapshotHeader | None:
    """None when these 64 bytes do not begin a snapshot of our format."""
    magic, format_, *rest = _SNAPSHOT_HEADER.unpack(raw)
    return SnapshotHeader(*rest) if (magic, format_) == (SNAPSHOT_MAGIC, FORMAT) else None


def pack_table_header() -> bytes:
    return _TABLE_HEADER.pack(WORKERS_MAGIC, FORMAT, TABLE_CAPACITY)


def is_table_header(raw: bytes) -> bool:
    """Whether these bytes begin a workers' table of our format and capacity, whatever its changing cells say."""
    return raw[:EXPECTED_OFFSET] == pack_table_header()[:EXPECTED_OFFSET]


def pack_slot(slot: Slot) -> bytes:
    return _checksummed(_SLOT.pack(*_slot_fields(slot), slot.generation))


def unpack_slot(raw: bytes) -> Slot | None:
    """The slot behind 256 bytes, None when they are torn, empty, or say what no writer of ours says.

    The generation stands at both ends, so that a store cut anywhere between them fails for certain, and not only with
    the probability of a checksum.
    """
    if not _is_checksummed(raw):
        return None
    state, *rest, again = _SLOT.unpack_from(raw, _CRC.size)
    try:
        slot = Slot(AgentState(state), *rest)
    except ValueError:
        return None
    is_sane = (
        slot.generation == again
        and slot.generation > 0
        and (slot.version > 0) == (slot.snapshot_number > 0)
        and slot.snapshot_version <= slot.version <= slot.highest_version
        and slot.log_start <= slot.log_base <= slot.log_end
    )
    return slot if is_sane else None


def newest_slot(raw: bytes) -> tuple[int, Slot] | None:
    """The valid slot with the highest generation among the bytes of both, with its index."""
    halves = (unpack_slot(raw[:SLOT_BYTES]), unpack_slot(raw[SLOT_BYTES:]))
    valid = [(index, slot) for index, slot in enumerate(halves) if slot is not None]
    return max(valid, key=lambda found: found[1].generation, default=None)


def pack_cell(cell: Cell) -> bytes:
    return _checksummed(_CELL.pack(*_cell_fields(cell)))


def unpack_cell(raw: bytes) -> Cell | None:
    """The cell behind 256 bytes, None when they are torn or free."""
    if not _is_checksummed(raw):
        return None
    values = list(_CELL.unpack_from(raw, _CRC.size))
    try:
        values[0] = CellState(values[0])
        values[_KIND_FIELD] = RebuildKind(values[_KIND_FIELD])
    except ValueError:
        return None
    return Cell(*values)


def unpack_cell_owner(raw: bytes) -> tuple[int, int]:
    """Pid and process start time of a cell, whether or not the rest of it is whole. Zeros when it is free."""
    _, pid, _, started, *_ = _CELL.unpack_from(raw, _CRC.size)
    return pid, started


def pack_record(version: int, position: int, payload: bytes) -> bytes:
    """A record as it stands in the ring, header and payload."""
    rest = _RECORD_REST.pack(len(payload), version, position)
    return _CRC.pack(zlib.crc32(payload, zlib.crc32(rest))) + rest + payload


def unpack_record_header(raw: bytes) -> RecordHeader:
    """The first 24 bytes of a record. Nothing is checked yet: `record_checksum` wants the payload."""
    (checksum,) = _CRC.unpack_from(raw)
    return RecordHeader(checksum, *_RECORD_REST.unpack_from(raw, _CRC.size))


def record_checksum(record: bytes | memoryview) -> int:
    """The checksum that a whole record should carry."""
    return zlib.crc32(record[_CRC.size :])


def _checksummed(body: bytes) -> bytes:
    return _CRC.pack(zlib.crc32(body)) + body


def _is_checksummed(raw: bytes) -> bool:
    return len(raw) > _CRC.size and raw[: _CRC.size] == _CRC.pack(zlib.crc32(raw[_CRC.size :]))
