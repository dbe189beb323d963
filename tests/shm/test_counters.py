"""Traffic counters: what is counted, that it is exact whoever dies, and the bytes it is kept in."""

import os
import stat
import struct
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from gw.errors import SegmentError
from gw.shm.counter_layout import (
    BUCKETS_S,
    CLASSES,
    COUNTERS_BYTES,
    FIRST_DURATION,
    FIRST_HISTOGRAM,
    GROUP_OF_STATUS,
    GROUPS,
    HISTOGRAM_CELLS,
    LAST_CELL,
    ROW_BYTES,
    Count,
    Group,
    Histogram,
    Traffic,
    merged,
    pack_counters_header,
    row_offset,
    total,
)
from gw.shm.counters import WRITE_BEHIND_S, CounterTable, TrafficCounters
from gw.shm.layout import HEADER_BYTES, TABLE_CAPACITY
from gw.shm.segment import SHM_DIR, PosixSpace, SegmentMissing, UntrustedSegment
from tests.shm.counting import DURATION_S, RECEIVED_BYTES, SENT_BYTES
from tests.shm.world import NAMES
from tests.support.memory_space import MemorySpace
from tests.support.waiting import wait_until

HEADER_HEX = "4a57434e54520d0a" "02000000" "01000000" "00020000" "00080000" + "00" * 40  # fmt: skip


@pytest.fixture
def space() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
def table(space) -> CounterTable:
    return CounterTable.open_or_create(space, NAMES)


def own(table: CounterTable, index: int = 0) -> Traffic:
    return table.read()[index]


# --- the bytes


def test_the_header_and_the_numbers_of_the_cells_are_pinned():
    assert pack_counters_header().hex() == HEADER_HEX
    assert (COUNTERS_BYTES, ROW_BYTES, row_offset(0), row_offset(3)) == (1_048_640, 2048, 64, 6208)
    assert (FIRST_HISTOGRAM, FIRST_DURATION, LAST_CELL, HISTOGRAM_CELLS) == (32, 240, 253, 16)
    assert {count.name: count.value for count in Count} == {
        "PROCESSES": 0, "REQUESTS": 1, "LOST": 2, "RECEIVED_BYTES": 3, "SENT_BYTES": 4, "CONNECTIONS_OPENED": 5,
        "CONNECTIONS_CLOSED": 6, "CONNECTIONS_REFUSED": 7, "UPSTREAM_CONNECTS": 8, "UPSTREAM_REUSES": 9,
        "UPSTREAM_FAILURES": 10, "UPSTREAM_RETRIES": 11, "PLUGIN_FAILURES": 12,
    }  # fmt: skip
    assert [group.code or group.status_class for group in GROUPS] == [
        "1xx", "2xx", "3xx", "4xx", "5xx", "other", "404", "429", "499", "500", "502", "503", "504",
    ]  # fmt: skip
    # APISIX's default buckets, in seconds.
    assert [round(bound_s * 1000) for bound_s in BUCKETS_S] == [
        1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000,
    ]  # fmt: skip


def test_a_row_is_pinned(table, space):
    counters = table.take(1)
    counters.request_started()
    counters.request_done(502, 0x0102, 0x0304, 0.25)
    words = struct.Struct("=256Q").unpack_from(space.content(NAMES.counters), row_offset(1))
    # 502 is group 10; 250 ms is the ninth bucket; 0x3fd0... is 0.25 as a float.
    assert {number: word for number, word in enumerate(words) if word} == {
        0: 1, 1: 1, 3: 0x0102, 4: 0x0304, 32 + 10 * 16 + 8: 1, 240 + 10: 0x3FD0_0000_0000_0000,
    }  # fmt: skip


def test_rows_fill_whole_cache_lines_of_their_own():
    assert all(row_offset(index) % 64 == 0 for index in range(TABLE_CAPACITY))
    assert row_offset(TABLE_CAPACITY) == COUNTERS_BYTES
    assert HEADER_BYTES % 8 == 0


@pytest.mark.parametrize(
    ("status", "group"),
    [
        *((status, Group("2xx", "")) for status in (200, 201, 299)),
        *((status, Group("4xx", "")) for status in (400, 403, 405, 498)),
        *((status, Group("5xx", "")) for status in (501, 505, 599)),
        *((status, Group("other", "")) for status in (0, 99, 600, 999)),
        *((status, Group(f"{status // 100}xx", str(status))) for status in (404, 429, 499, 500, 502, 503, 504)),
        (101, Group("1xx", "")),
        (304, Group("3xx", "")),
    ],
)
def test_a_status_meets_its_group(status, group):
    assert GROUPS[GROUP_OF_STATUS[status]] == group


# --- counting


def test_what_is_counted_is_read(table):
    counters = table.take(7)
    for method, times in {
        "connection_opened": 5, "connection_closed": 2, "connection_refused": 3, "upstream_connected": 4,
        "upstream_reused": 9, "upstream_failed": 6, "upstream_retried": 8, "plugin_failed": 10, "request_started": 4,
    }.items():  # fmt: skip
        for _ in range(times):
            getattr(counters, method)()
    counters.request_done(200, 100, 2**33, 0.5)
    counters.request_done(204, 10, 1, 0.25)
    counters.request_done(503, 1, 0, 90.0)
    said = own(table, 7)
    assert {count.name: said[count] for count in Count} == {
        "PROCESSES": 1, "REQUESTS": 4, "LOST": 0, "RECEIVED_BYTES": 111, "SENT_BYTES": 2**33 + 1,
        "CONNECTIONS_OPENED": 5, "CONNECTIONS_CLOSED": 2, "CONNECTIONS_REFUSED": 3, "UPSTREAM_CONNECTS": 4,
        "UPSTREAM_REUSES": 9, "UPSTREAM_FAILURES": 6, "UPSTREAM_RETRIES": 8, "PLUGIN_FAILURES": 10,
    }  # fmt: skip
    assert (said.responses, said.requests_in_flight, said.connections) == (3, 1, 3)
    assert said.histogram_of("2xx") == Histogram((0,) * 8 + (2,) + (0,) * 7, 0.75)
    assert said.histogram_of("5xx") == Histogram((0,) * 15 + (1,), 90.0)
    assert said.histogram_of("4xx").responses == 0


EDGES_AND_BESIDE = sorted(
    {0.0, 1e9, *(bound_s * factor for bound_s in BUCKETS_S for factor in (1 - 1e-9, 1, 1 + 1e-9))}
)


@pytest.mark.parametrize("duration_s", EDGES_AND_BESIDE)
def test_a_duration_meets_its_bucket(table, duration_s):
    counters = table.take(0)
    counters.request_done(200, 0, 0, duration_s)
    counts = own(table).histogram_of("2xx").counts
    assert counts.index(1) == bisect_left(BUCKETS_S, duration_s)
    assert sum(counts) == 1


@pytest.mark.parametrize(
    ("counts", "share", "bound_s"),
    [
        ({}, 0.5, None),
        ({0: 1}, 0.99, 0.001),
        ({0: 99, 4: 1}, 0.99, 0.001),
        ({0: 98, 4: 2}, 0.99, 0.02),
        ({0: 1, 15: 1}, 0.99, float("inf")),
        ({3: 7}, 0.0, 0.01),
    ],
)
def test_the_bound_that_a_share_stays_within(counts, share, bound_s):
    assert Histogram(tuple(counts.get(number, 0) for number in range(16)), 0.0).bound_s(share) == bound_s


def test_rows_add_up(table):
    rows = [table.take(index) for index in (0, 1, 5)]
    for number, counters in enumerate(rows, start=1):
        for _ in range(number):
            counters.request_started()
            counters.request_done(200, 1, 2, 0.5)
    everything = total(table.read().values())
    assert (everything[Count.REQUESTS], everything[Count.SENT_BYTES], everything[Count.PROCESSES]) == (6, 12, 3)
    assert everything.histogram_of("2xx").duration_s == 3.0
    assert merged(everything.histogram_of(each) for each in CLASSES).responses == 6
    assert total([]).responses == 0
    assert merged([]).bound_s(0.5) is None


def test_only_rows_that_had_an_owner_are_told(table):
    assert table.read() == {}
    table.take(TABLE_CAPACITY - 1)
    assert list(table.read()) == [TABLE_CAPACITY - 1]


def test_the_next_owner_goes_on_and_settles_what_was_left_open(table):
    first = table.take(0)
    for _ in range(3):
        first.request_started()
        first.connection_opened()
    first.request_done(200, 10, 20, 0.5)
    assert (own(table).requests_in_flight, own(table).connections) == (2, 3)

    heir = table.take(0)
    said = own(table)
    assert (said.requests_in_flight, said.connections) == (0, 0)
    assert (said[Count.REQUESTS], said[Count.LOST], said.responses, said[Count.PROCESSES]) == (3, 2, 1, 2)
    heir.request_started()
    heir.request_done(200, 1, 2, 0.5)
    heir.connection_opened()
    said = own(table)
    assert (said[Count.REQUESTS], said[Count.LOST], said.responses, said.connections) == (4, 2, 2, 1)
    assert (said[Count.RECEIVED_BYTES], said[Count.SENT_BYTES]) == (11, 22)
    assert said.histogram_of("2xx").duration_s == 1.0


def test_what_is_derived_never_falls_below_0(space):
    """As a look sees it that reads one cell before and another after a store."""
    words = [0] * FIRST_DURATION
    words[FIRST_HISTOGRAM] = words[Count.CONNECTIONS_CLOSED] = 1
    said = Traffic(words, [0.0] * len(GROUPS))
    assert (said.requests_in_flight, said.connections) == (0, 0)


# --- the segment


def test_counters_are_missing_until_a_master_made_them(space):
    with pytest.raises(SegmentMissing):
        CounterTable.open(space, NAMES)


def test_the_next_master_goes_on_with_what_it_finds(table, space):
    table.take(0).upstream_connected()
    assert CounterTable.open_or_create(space, NAMES).read()[0][Count.UPSTREAM_CONNECTS] == 1


@pytest.mark.parametrize("size", [0, 10, 64, COUNTERS_BYTES])
def test_what_holds_no_counters_is_replaced(space, size):
    space.create(NAMES.counters, size, 0o660)
    with pytest.raises(SegmentError):
        CounterTable.open(space, NAMES)
    assert CounterTable.open_or_create(space, NAMES).read() == {}
    assert space.list("/") == [NAMES.counters]


def test_another_layout_begins_anew(table, space):
    table.take(0)
    space.content(NAMES.counters)[12:16] = (2).to_bytes(4, "little")
    assert CounterTable.open_or_create(space, NAMES).read() == {}
    assert own(table)[Count.PROCESSES] == 1  # whoever has the old ones mapped keeps them


def test_without_room_nothing_is_left():
    space = MemorySpace(limit_bytes=COUNTERS_BYTES - 1)
    with pytest.raises(SegmentError, match="no room"):
        CounterTable.open_or_create(space, NAMES)
    assert space.list("/") == []


def test_owner_and_mode_are_looked_at(names):
    space = PosixSpace()
    CounterTable.open_or_create(space, names).close()
    path = SHM_DIR / names.counters.removeprefix("/")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    path.chmod(0o666)
    for attempt in (CounterTable.open, CounterTable.open_or_create):
        with pytest.raises(UntrustedSegment, match="others than its owner may write"):
            attempt(space, names)
    assert path.stat().st_size == COUNTERS_BYTES


# --- real processes


@contextmanager
def counting(name: str, cell: int, requests: int, until: str) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a cell's row, once it has said `until`."""
    command = [sys.executable, "-m", "tests.shm.counting", name, str(cell), str(requests)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{until}\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def shared(names) -> Iterator[CounterTable]:
    table = CounterTable.open_or_create(PosixSpace(), names)
    yield table
    table.close()


def test_the_sum_is_exact_when_a_worker_is_killed_and_replaced(shared, names):
    with counting(names.name, 0, 500, "done"), counting(names.name, 2, 70, "done"):
        with counting(names.name, 1, 300, "done"):
            pass  # killed, with a request begun and a connection open
        seen = total(shared.read().values())
        assert (seen.responses, seen[Count.REQUESTS], seen[Count.LOST]) == (870, 873, 0)
        with counting(names.name, 1, 30, "done"):
            rows = shared.read()
    seen = total(rows.values())
    assert (seen.responses, seen[Count.REQUESTS], seen[Count.LOST]) == (900, 904, 1)
    assert (seen[Count.RECEIVED_BYTES], seen[Count.SENT_BYTES]) == (900 * RECEIVED_BYTES, 900 * SENT_BYTES)
    assert merged(seen.histogram_of(each) for each in CLASSES).duration_s == 900 * DURATION_S
    assert seen.histogram_of("5xx").responses == 90
    assert (rows[1][Count.PROCESSES], rows[1].connections, rows[1].requests_in_flight) == (2, 1, 1)


def test_nothing_falls_or_is_torn_while_workers_count_and_one_is_killed_at_any_moment(shared, names):
    """Numbers pass the 32 bits at which two halves would differ, and are read at any moment of being stored."""
    before: dict[int, list[int]] = {}
    looks = 0

    def enough() -> bool:
        nonlocal looks
        looks += 1
        for index, row in shared.read().items():
            assert all(now >= then for now, then in zip(row.words, before.get(index, row.words), strict=True))
            before[index] = list(row.words)
            assert row[Count.SENT_BYTES] % SENT_BYTES == 0
            assert row[Count.RECEIVED_BYTES] % RECEIVED_BYTES == 0
        return looks > 300 and all(before[index][Count.SENT_BYTES] > 2**33 for index in before)

    with counting(names.name, 0, 0, "counting"):
        with counting(names.name, 1, 0, "counting"):
            wait_until(enough, what="both to count beyond 32 bits", every_s=0.0, deadline_s=60)
        cut = shared.read()[1]
        assert 0 <= cut[Count.REQUESTS] - cut.responses <= 1
        with counting(names.name, 1, 10, "done"):
            row = shared.read()[1]
            assert row.responses == cut.responses + 10
            assert row[Count.REQUESTS] == row.responses + row[Count.LOST] + 1
            assert row[Count.LOST] == cut[Count.REQUESTS] - cut.responses


FORKING_MASTER = """
import os, sys
from gw.shm.counters import CounterTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace

table = CounterTable.open_or_create(PosixSpace(), SegmentNames(sys.argv[1]))
children = []
for index in range(4):
    child = os.fork()
    if not child:
        counters = table.take(index)
        for _ in range(1000):
            counters.request_started()
            counters.request_done(200, 1, 1, 0.001)
        os._exit(0)
    children.append(child)
for child in children:
    os.waitpid(child, 0)
assert sum(row.responses for row in table.read().values()) == 4000
"""


def test_children_count_through_the_mapping_they_inherited(names):
    """In a process of its own: this one may have threads by now, and should not fork."""
    subprocess.run([sys.executable, "-c", FORKING_MASTER, names.name], check=True)
    table = CounterTable.open(PosixSpace(), names)
    assert sorted(table.read()) == [0, 1, 2, 3]
    table.close()


def test_a_row_is_let_go_of(names):
    table = CounterTable.open_or_create(PosixSpace(), names)
    counters = table.take(0)
    counters.close()
    table.close()
    with suppress(FileNotFoundError):
        os.unlink(SHM_DIR / names.counters.removeprefix("/"))
    with pytest.raises(ValueError, match="released"):
        counters.request_started()


def test_a_row_of_plain_memory_will_do():
    """For tests of who counts: no segment is needed."""
    memory = bytearray(ROW_BYTES)
    TrafficCounters(memoryview(memory)).plugin_failed()
    assert memory[Count.PLUGIN_FAILURES * 8] == 1


def test_written_behind_it_is_seen_together_and_once_asked_for(table):
    asked = []
    counters = table.take(0)
    counters.write_behind(lambda delay_s, flush: asked.append((delay_s, flush)))
    for _ in range(3):
        counters.request_started()
        counters.request_done(200, 100, 1000, 0.25)
    assert own(table)[Count.REQUESTS] == own(table).responses == 0
    [(delay_s, flush)] = asked
    assert delay_s == WRITE_BEHIND_S
    flush()
    assert own(table)[Count.REQUESTS] == own(table).responses == 3
    counters.upstream_failed()
    assert len(asked) == 2
    counters.close()
    assert own(table)[Count.UPSTREAM_FAILURES] == 1
