import os
import subprocess
import sys

import pytest

from gw.errors import SegmentError
from gw.shm.cells import WorkerTable
from gw.shm.layout import CELL_BYTES, TABLE_CAPACITY, Cell, CellState, cell_offset, pack_cell
from gw.shm.names import SegmentNames
from gw.shm.process import start_time
from gw.shm.segment import PosixSpace, SegmentMissing
from tests.shm.world import NAMES
from tests.support.memory_space import MemorySpace


@pytest.fixture
def space() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
def table(space) -> WorkerTable:
    return WorkerTable.open_or_create(space, NAMES)


def mine(**fields: int) -> Cell:
    return Cell(CellState.SERVING, os.getpid(), start_time=start_time(os.getpid()), **fields)


def test_what_an_owner_writes_is_read(table, space):
    cell = mine(version=7, digest=2**64 - 1, staleness_ms=12, snapshot=3)
    table.write(5, cell)
    assert table.read(5) == cell
    assert WorkerTable.open(space, NAMES, writable=False).read_all() == [(5, cell)]


def test_a_table_is_missing_until_a_master_made_it(space):
    with pytest.raises(SegmentMissing):
        WorkerTable.open(space, NAMES)


def test_the_next_master_goes_on_with_the_table_it_finds(table, space):
    table.claim(4)
    table.write(0, mine())
    heir = WorkerTable.open_or_create(space, NAMES)
    assert (heir.expected, heir.master_pid) == (4, os.getpid())
    assert heir.reserve() == 1


@pytest.mark.parametrize("size", [0, 10, 300, 131_328])
def test_what_is_no_table_is_replaced(space, size):
    space.create(NAMES.workers, size, 0o660)
    with pytest.raises(SegmentError):
        WorkerTable.open(space, NAMES)
    assert WorkerTable.open_or_create(space, NAMES).reserve() == 0
    assert space.list("/") == [NAMES.workers]


def test_the_lowest_free_cell_is_given(table):
    assert [table.reserve() for _ in range(4)] == [0, 1, 2, 3]
    table.free(1)
    table.free(2)
    assert table.read(1) is None
    assert [table.reserve() for _ in range(3)] == [1, 2, 4]
    assert table.read(0).state is CellState.RESERVED
    assert list(table.live()) == []


def test_a_cell_whose_process_is_gone_is_dead_and_given_again(table):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        cell = Cell(CellState.SERVING, child.pid, start_time=start_time(child.pid), snapshot=9, previous_snapshot=8)
        table.write(0, cell)
        table.write(1, mine(snapshot=7))
        assert table.is_alive(cell)
        assert table.used_snapshots() == {7, 8, 9}
        assert table.reserve() == 2
        child.kill()
    assert not table.is_alive(cell)
    assert [index for index, _ in table.read_all()] == [0, 1, 2]
    assert [index for index, _ in table.live()] == [1]
    assert table.used_snapshots() == {7}
    assert table.reserve() == 0


def test_the_cell_of_a_child_that_is_dead_and_not_reaped_is_not_given(table):
    """Two workers die at once: reaping the second would free the cell that the first one's successor has, a third would
    get it as well, and both would write to it.
    """
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        table.write(0, Cell(CellState.SERVING, child.pid, start_time=1))
    assert table.reserve({0}) == 1
    table.free(0)
    assert table.reserve({1}) == 0


def test_a_pid_that_was_given_out_again_is_not_the_worker(table):
    cell = Cell(CellState.SERVING, os.getpid(), start_time=start_time(os.getpid()) + 1)
    table.write(0, cell)
    assert list(table.live()) == []


def test_a_torn_cell_reads_as_none_and_is_still_its_owners(table, space):
    old, new = pack_cell(mine(version=1)), pack_cell(mine(version=2, digest=99, written_ns=5))
    at = cell_offset(0)
    content = space.content(NAMES.workers)
    for cut in range(CELL_BYTES + 1):
        torn = new[:cut] + old[cut:]
        content[at : at + CELL_BYTES] = torn
        assert (table.read(0) is None) == (torn not in (old, new))
        assert table.reserve() == 1
        table.free(1)


def test_a_full_table_is_an_error(table):
    cell = mine()
    for index in range(TABLE_CAPACITY):
        table.write(index, cell)
    with pytest.raises(SegmentError, match="512"):
        table.reserve()


FORKING_MASTER = """
import os, sys
from gw.shm.cells import WorkerTable
from gw.shm.layout import Cell, CellState
from gw.shm.names import SegmentNames
from gw.shm.process import start_time
from gw.shm.segment import PosixSpace

table = WorkerTable.open_or_create(PosixSpace(), SegmentNames(sys.argv[1]))
index = table.reserve()
child = os.fork()
if not child:
    table.write(index, Cell(CellState.STARTING, os.getpid(), start_time=start_time(os.getpid()) or 0))
    os._exit(0)
os.waitpid(child, 0)
assert (table.read(index).state, table.read(index).pid) == (CellState.STARTING, child)
"""


def test_a_child_writes_through_the_mapping_it_inherited(names):
    """In a process of its own: this one may have threads by now, and should not fork."""
    subprocess.run([sys.executable, "-c", FORKING_MASTER, names.name], check=True)
    table = WorkerTable.open(PosixSpace(), names)
    assert [(index, cell.state) for index, cell in table.read_all()] == [(0, CellState.STARTING)]
    assert list(table.live()) == []
    table.close()


@pytest.fixture
def others():
    """Two other living processes, to be masters."""
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as one,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as two,
    ):
        yield one, two
        for child in (one, two):
            child.stdin.close()


def as_process(monkeypatch, pid: int) -> None:
    monkeypatch.setattr(os, "getpid", lambda: pid)


def test_a_second_master_is_the_heir_until_it_is_handed_the_table(table, others, monkeypatch):
    old, new = (child.pid for child in others)
    as_process(monkeypatch, old)
    table.claim(4)
    assert not table.has_other_master(old)
    as_process(monkeypatch, new)
    table.claim(2)
    assert (table.expected, table.master_pid, table.heir_pid) == (4, old, new)
    assert (table.expected_by(old), table.expected_by(new), table.expected_by(0)) == (4, 2, 0)
    assert table.has_other_master(old)
    assert not table.hand_over(old)
    assert table.hand_over(new)
    assert (table.expected, table.master_pid, table.heir_pid) == (2, new, 0)
    assert table.has_other_master(old)
    assert not table.has_other_master(new)
    # The old one's end changes nothing any more; the new one's does.
    as_process(monkeypatch, old)
    table.resign()
    assert (table.expected, table.master_pid) == (2, new)
    as_process(monkeypatch, new)
    table.claim(3)
    assert table.expected == 3
    table.resign()
    assert table.expected == 0


def test_an_heir_that_fails_leaves_nothing(table, others, monkeypatch):
    old, new = (child.pid for child in others)
    as_process(monkeypatch, old)
    table.claim(4)
    as_process(monkeypatch, new)
    table.claim(2)
    table.resign()
    assert (table.expected, table.master_pid, table.heir_pid) == (4, old, 0)
    table.claim(2)
    others[1].kill()
    others[1].wait()
    assert table.heir_pid == 0
    assert not table.hand_over(new)
    assert not table.has_other_master(old)


def test_a_master_that_ends_leaves_the_table_to_its_heir_and_one_that_is_killed_to_the_next(
    table, others, monkeypatch
):
    old, new = (child.pid for child in others)
    as_process(monkeypatch, old)
    table.claim(4)
    as_process(monkeypatch, new)
    table.claim(2)
    as_process(monkeypatch, old)
    table.resign()
    assert (table.expected, table.master_pid, table.heir_pid) == (2, new, 0)
    others[1].kill()
    others[1].wait()
    table.claim(5)
    assert (table.expected, table.master_pid) == (5, old)


def test_workers_serve_for_the_master_that_is_their_parent(table, others):
    for index, (child, state) in enumerate(zip(others, (CellState.SERVING, CellState.STARTING), strict=True)):
        table.write(index, Cell(state, child.pid, start_time=start_time(child.pid)))
    table.write(2, mine())
    assert table.serving_for(os.getpid()) == 1
    assert table.serving_for(os.getppid()) == 1


def test_a_cell_that_another_master_has_given_out_since_is_not_freed(table, others):
    """A worker died, the other master gave its cell to a new one, and only now does its own master come round."""
    new = others[1].pid
    cell = Cell(CellState.SERVING, new, start_time=start_time(new))
    table.write(0, cell)
    table.free(0)
    assert table.read(0) == cell
    table.write(1, mine())  # reserved in our own name, for a child that died before it wrote
    table.free(1)
    assert table.read(1) is None


RESERVER = """
import sys
from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
table = WorkerTable.open(PosixSpace(), SegmentNames(sys.argv[1]))
print("ready", flush=True)
input()
print(*(table.reserve() for _ in range(100)), flush=True)
input()
"""


def test_two_masters_never_give_out_one_cell_twice():
    names = SegmentNames(f"jwtest-{os.getpid()}-cells")
    space = PosixSpace()
    WorkerTable.open_or_create(space, names).close()
    masters = [
        subprocess.Popen(
            [sys.executable, "-c", RESERVER, names.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for master in masters:
            assert master.stdout.readline() == "ready\n"
        for master in masters:
            master.stdin.write("\n")
            master.stdin.flush()
        given = [int(index) for master in masters for index in master.stdout.readline().split()]
        assert sorted(given) == list(range(200))
    finally:
        for master in masters:
            master.communicate("\n", 10)
        space.unlink(names.workers)
