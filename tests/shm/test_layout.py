"""The bytes, pinned: a change that alters one of these examples is a new format and needs a new number."""

import zlib
from dataclasses import replace

import pytest

from gw.model.keys import ResourceKey
from gw.model.routing import RouteKey
from gw.shm.layout import (
    CELL_BYTES,
    CONTROL_BYTES,
    FORMAT,
    SLOT_BYTES,
    TABLE_BYTES,
    AgentState,
    Cell,
    CellState,
    LogHeader,
    RebuildKind,
    Slot,
    newest_slot,
    pack_cell,
    pack_control_header,
    pack_log_header,
    pack_slot,
    pack_table_header,
    unpack_cell,
    unpack_slot,
)
from gw.shm.log import Change, encode_record
from gw.shm.snapshot import Entry
from tests.shm.world import base_of

SLOT = Slot(
    state=AgentState.WATCHING,
    generation=0x0101,
    epoch=0xE0E1E2E3E4E5E6E7,
    version=0x0202,
    digest=0xD0D1D2D3D4D5D6D7,
    revision=0x0303,
    highest_version=0x0202,
    snapshot_number=4,
    snapshot_version=0x0201,
    snapshot_length=0x0505,
    snapshot_checksum=0xC0C1C2C3,
    agent_pid=0x0606,
    agent_start_time=0x0707,
    log_start=0x0808,
    log_base=0x0909,
    log_end=0x0A0A,
    published_wall_ns=0x0B0B,
    heartbeat_ns=0x0C0C,
)
SLOT_HEX = (
    "b355c88a" "03000000" "0101000000000000" "e7e6e5e4e3e2e1e0" "0202000000000000" "d7d6d5d4d3d2d1d0"
    "0303000000000000" "0202000000000000" "0400000000000000" "0102000000000000" "0505000000000000"
    "c3c2c1c0" "06060000" "0707000000000000" "0808000000000000" "0909000000000000" "0a0a000000000000"
    "0b0b000000000000" "0c0c000000000000" + "00" * 112 + "0101000000000000"
)  # fmt: skip

CELL = Cell(
    state=CellState.SERVING,
    pid=0x0101,
    problems=2,
    start_time=0x0303,
    epoch=0x0404,
    version=0x0505,
    digest=0x0606,
    revision=0x0707,
    staleness_ms=0x0808,
    worst_staleness_ms=0x0909,
    rebuild_kind=RebuildKind.FULL,
    jitter_ms=0x0A0A,
    rebuild_ns=0x0B0B,
    applied_wall_ns=0x0C0C,
    applied_ns=0x0D0D,
    snapshot=0x0E0E,
    previous_snapshot=0x0F0F,
    written_ns=0x1010,
    updates=0x1111,
    fulls=0x1212,
    mismatches=0x1313,
    failures=0x1414,
    rebuild_cpu_ns=0x1515,
    rebuild_held_ns=0x1616,
    worst_held_ns=0x1717,
    resources=0x1818,
)
CELL_HEX = (
    "0ce4402a" "03000000" "01010000" "02000000" "0303000000000000" "0404000000000000" "0505000000000000"
    "0606000000000000" "0707000000000000" "0808000000000000" "0909000000000000" "01000000" "0a0a0000"
    "0b0b000000000000" "0c0c000000000000" "0d0d000000000000" "0e0e000000000000" "0f0f000000000000"
    "1010000000000000" "1111000000000000" "1212000000000000" "1313000000000000" "1414000000000000"
    "1515000000000000" "1616000000000000" "1717000000000000" "1818000000000000" + "00" * 64
)  # fmt: skip

RECORD_HEX = (
    "1a09c5eb" "25000000" "0700000000000000" "0010000000000000"
    "940709059295a6726f75746573a131cd0102c4018091a17895a6726f75746573a13200c0c0"
)  # fmt: skip
SNAPSHOT_HEX = (
    "4a57534e41500d0a" "02000000" "01000000" "0300000000000000" "0700000000000000" "0500000000000000"
    "2400000000000000" "6500000000000000" "0000000000000000"
    "20000000" "96a6726f7574657391a131c408020100000000000000c404010000009191a178"
    "80"
)  # fmt: skip


def test_the_slot_stands_as_documented():
    assert pack_slot(SLOT).hex() == SLOT_HEX
    assert unpack_slot(bytes.fromhex(SLOT_HEX)) == SLOT


def test_the_worker_cell_stands_as_documented():
    assert pack_cell(CELL).hex() == CELL_HEX
    assert unpack_cell(bytes.fromhex(CELL_HEX)) == CELL


def test_the_headers_stand_as_documented():
    assert pack_control_header().hex() == "4a574354524c0d0a02000000" + "00" * 52
    assert (
        pack_log_header(LogHeader(epoch=0x0102, ring_bytes=960)).hex() == "4a574c4f47000d0a"
        "02000000"
        "00000000"
        "0201000000000000"
        "c003000000000000" + "00" * 32
    )
    assert pack_table_header().hex() == "4a57574f524b0d0a0200000000020000" + "00" * 240
    assert (CONTROL_BYTES, TABLE_BYTES) == (576, 131_328)


def test_what_msgpack_holds_belongs_to_the_format():
    """Who changes one of these raises the format: workers of one version read what an agent of another wrote."""
    routing = ("uris", "hosts", "methods", "priority", "status", "service_id", "is_conditional")
    assert (FORMAT, RouteKey._fields) == (2, routing)


def test_a_record_stands_as_documented():
    changes = [
        Change(ResourceKey("routes", "1"), 0x0102, b"\x80", ("x",)),
        Change(ResourceKey("routes", "2"), 0, None, None),
    ]
    record = encode_record(version=7, position=4096, revision=9, digest=5, changes=changes)
    assert record.hex() == RECORD_HEX


def test_a_snapshot_stands_as_documented():
    entries = {ResourceKey("routes", "1"): Entry(0x0102, b"\x80", ("x",))}
    segment, base = base_of(entries, number=3, version=7, digest=5)
    assert bytes(segment.view).hex() == SNAPSHOT_HEX
    assert base == (3, 7, len(SNAPSHOT_HEX) // 2, 0xF0035A8A)


@pytest.mark.parametrize("rest", ["old", "zero"])
def test_a_slot_cut_anywhere_is_no_slot(rest):
    old = pack_slot(Slot(AgentState.LOADING, generation=7, epoch=1, version=1, highest_version=1, snapshot_number=1))
    new = pack_slot(SLOT)
    before = old if rest == "old" else bytes(SLOT_BYTES)
    for cut in range(SLOT_BYTES + 1):
        torn = new[:cut] + before[cut:]
        if torn not in (old, new):
            assert unpack_slot(torn) is None, cut


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": 0},
        {"version": 0},  # names a snapshot all the same
        {"snapshot_number": 0},
        {"snapshot_version": 0x0203},
        {"highest_version": 1},
        {"log_start": 0x0A0B},
        {"log_base": 0x0A0B},
        {"state": 99},
    ],
)
def test_a_slot_that_makes_no_sense_is_no_slot(wrong):
    assert unpack_slot(pack_slot(replace(SLOT, **wrong))) is None


def test_a_slot_whose_two_generations_differ_is_torn_whatever_its_checksum():
    body = pack_slot(SLOT)[4:-8] + (SLOT.generation - 1).to_bytes(8, "little")
    assert unpack_slot(zlib.crc32(body).to_bytes(4, "little") + body) is None


def test_the_newest_valid_slot_counts():
    older, newer = pack_slot(SLOT), pack_slot(replace(SLOT, generation=SLOT.generation + 1))
    assert newest_slot(older + newer)[0] == 1
    assert newest_slot(newer + older)[0] == 0
    assert newest_slot(older + bytes(SLOT_BYTES))[0] == 0
    assert newest_slot(newer[:100] + older[100:] + older) == (1, SLOT)
    assert newest_slot(bytes(2 * SLOT_BYTES)) is None


@pytest.mark.parametrize("raw", [b"", bytes(CELL_BYTES), b"\xff" * CELL_BYTES, bytes.fromhex(CELL_HEX)[:-1] + b"\x01"])
def test_bytes_that_are_no_cell_read_as_none(raw):
    assert unpack_cell(raw) is None
