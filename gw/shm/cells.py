"""The workers' table: what each worker says of itself. The master gives cells out, each worker writes its own.

A report is believed only as far as it goes: a cell that is torn counts as none, and one whose process is gone is dead
whatever it says. There is one master at a time; a later one goes on with the table it finds. Only while one takes the
place of another (`gw reload`) both give cells out, and the later one stands as the `heir` until it is the master.
"""

import os
from collections.abc import Collection, Iterator
from typing import Final

from gw.errors import SegmentError
from gw.shm import process
from gw.shm.layout import (
    CELL_BYTES,
    EXPECTED_OFFSET,
    HEIR_OFFSET,
    TABLE_BYTES,
    TABLE_CAPACITY,
    TABLE_HEADER_BYTES,
    Cell,
    CellState,
    cell_offset,
    is_table_header,
    pack_cell,
    pack_table_header,
    unpack_cell,
    unpack_cell_owner,
)
from gw.shm.names import SegmentNames
from gw.shm.segment import TABLE_MODE, Segment, SegmentSpace, UntrustedSegment, create_in_place

# A copy is torn when its owner writes at that moment; the next is whole. A cell torn so often has lost its owner.
CELL_ATTEMPTS: Final = 4
_FREE: Final = bytes(CELL_BYTES)


class WorkerTable:
    """The table of one gateway. Opened before a fork, it serves the children as well."""

    def __init__(self, segment: Segment, space: SegmentSpace, names: SegmentNames) -> None:
        self._segment = segment
        self._space = space
        # A segment keeps the name under which it was created, which is not where it lies.
        self._name = names.workers

    @classmethod
    def open_or_create(cls, space: SegmentSpace, names: SegmentNames) -> "WorkerTable":
        """For the master. A table that is no table of our format is replaced.

        Raises UntrustedSegment for a stranger's, SegmentError when there is no room.
        """
        try:
            return cls.open(space, names)
        except UntrustedSegment:
            raise
        except SegmentError:
            return cls._create(space, names)

    @classmethod
    def open(cls, space: SegmentSpace, names: SegmentNames, *, writable: bool = True) -> "WorkerTable":
        """For the agent and for who only looks. Raises SegmentMissing as long as no master has made one."""
        segment = space.open(names.workers, writable=writable, mode=TABLE_MODE)
        is_ours = segment.size == TABLE_BYTES and is_table_header(bytes(segment.view[:TABLE_HEADER_BYTES]))
        if not is_ours:
            segment.close()
            raise SegmentError(f"{names.workers} is no workers' table of this format")
        return cls(segment, space, names)

    @classmethod
    def _create(cls, space: SegmentSpace, names: SegmentNames) -> "WorkerTable":
        segment = create_in_place(space, names.workers, TABLE_BYTES, TABLE_MODE, pack_table_header())
        return cls(segment, space, names)

    @property
    def expected(self) -> int:
        """How many workers the master means to have."""
        return self._segment.load_u64(EXPECTED_OFFSET)

    @property
    def master_pid(self) -> int:
        """The master that set `expected`, 0 when there was none or it is gone."""
        return self._pid_at(EXPECTED_OFFSET)

    @property
    def heir_pid(self) -> int:
        """The master that is to take its place, 0 when there is none or it is gone."""
        return self._pid_at(HEIR_OFFSET)

    def claim(self, workers: int) -> None:
        """For a master: how many workers there will be. As long as another master lives we are its heir."""
        pid = os.getpid()
        other = self.master_pid not in (0, pid)
        self._store_claim(HEIR_OFFSET if other else EXPECTED_OFFSET, workers, pid, process.start_time(pid) or 0)

    def resign(self) -> None:
        """For a master that ends: its heir takes its place, if there is one; else no worker is expected."""
        pid = os.getpid()
        if self.heir_pid == pid:
            self._store_claim(HEIR_OFFSET, 0, 0, 0)
        elif self.master_pid == pid and not self.hand_over(self.heir_pid):
            self._segment.store_u64(EXPECTED_OFFSET, 0)

    def hand_over(self, heir_pid: int) -> bool:
        """Let this heir be the master from now on. False when it is not the heir, or is gone; then all is as before."""
        if not heir_pid or self.heir_pid != heir_pid:
            return False
        claim = [self._segment.load_u64(HEIR_OFFSET + 8 * part) for part in range(3)]
        self._store_claim(EXPECTED_OFFSET, *claim)
        self._store_claim(HEIR_OFFSET, 0, 0, 0)
        return True

    def expected_by(self, master_pid: int) -> int:
        """How many workers this master or heir means to have; 0 when it is neither."""
        for offset in (EXPECTED_OFFSET, HEIR_OFFSET):
            if master_pid and self._pid_at(offset) == master_pid:
                return self._segment.load_u64(offset)
        return 0

    def has_other_master(self, pid: int) -> bool:
        """Whether a master or heir lives that is not `pid`: the gateway goes on when that one ends."""
        return any(other not in (0, pid) for other in (self.master_pid, self.heir_pid))

    def _pid_at(self, offset: int) -> int:
        pid = self._segment.load_u64(offset + 8)
        return pid if process.is_alive(pid, self._segment.load_u64(offset + 16)) else 0

    def _store_claim(self, offset: int, workers: int, pid: int, started: int) -> None:
        # What is expected comes last: it is what many act on, and the rest tells whether somebody stands behind it.
        self._segment.store_u64(offset + 16, started)
        self._segment.store_u64(offset + 8, pid)
        self._segment.store_u64(offset, workers)

    def reserve(self, held: Collection[int] = ()) -> int:
        """For the master, before the fork: the lowest cell that is free or whose process is gone.

        `held`: cells of its own children whose end it has not heard of yet, dead or not: it will free them, whoever has
        them by then. Until the worker writes it, the cell is held in the master's name. Raises SegmentError when all
        are taken.
        """
        with self._space.locked(self._name):
            for index in range(TABLE_CAPACITY):
                if index not in held and not self._is_taken(index):
                    pid = os.getpid()
                    self.write(index, Cell(CellState.RESERVED, pid, start_time=process.start_time(pid) or 0))
                    return index
        raise SegmentError(f"all {TABLE_CAPACITY} cells of {self._name} belong to living workers")

    def free(self, index: int) -> None:
        """For the master, when the child is gone. A cell that another master has given out since is left as it is."""
        with self._space.locked(self._name):
            if self._owner(index)[0] == os.getpid() or not self._is_taken(index):
                self._segment.store(cell_offset(index), _FREE)

    def write(self, index: int, cell: Cell) -> None:
        """For the cell's owner alone."""
        self._segment.store(cell_offset(index), pack_cell(cell))

    def read(self, index: int) -> Cell | None:
        """What stands in a cell, None when it is free or torn."""
        at = cell_offset(index)
        for _ in range(CELL_ATTEMPTS):
            raw = bytes(self._segment.view[at : at + CELL_BYTES])
            if raw == _FREE:
                return None
            if (cell := unpack_cell(raw)) is not None:
                return cell
        return None

    def _is_taken(self, index: int) -> bool:
        pid, started = self._owner(index)
        return process.is_alive(pid, started)

    def _owner(self, index: int) -> tuple[int, int]:
        # Unchecked on purpose: an owner rewrites its cell with the same pid, so a torn cell still tells whose it is.
        at = cell_offset(index)
        return unpack_cell_owner(bytes(self._segment.view[at : at + CELL_BYTES]))

    def read_all(self) -> list[tuple[int, Cell]]:
        """Every cell that says something, dead or alive, with its index.

        One copy of the table, and then only the cells that are not free: for who asks many times a second.
        """
        raw = bytes(self._segment.view[:TABLE_BYTES])
        # The state and the checksum beside it, of every cell: both are zero in a free one, the state in no other.
        first_words = memoryview(raw).cast("Q")[TABLE_HEADER_BYTES // 8 :: CELL_BYTES // 8].tolist()
        found: list[tuple[int, Cell]] = []
        for index, word in enumerate(first_words):
            if word:
                at = cell_offset(index)
                cell = unpack_cell(raw[at : at + CELL_BYTES]) or self.read(index)  # torn in the copy: once more
                if cell is not None:
                    found.append((index, cell))
        return found

    def serving_for(self, master_pid: int) -> int:
        """How many of the children of a master serve."""
        cells = (cell for _, cell in self.live() if cell.state is CellState.SERVING)
        return sum(process.parent(cell.pid) == master_pid for cell in cells)

    def live(self) -> Iterator[tuple[int, Cell]]:
        """The cells of living workers; those that are only reserved are left out."""
        for index, cell in self.read_all():
            if cell.state is not CellState.RESERVED and self.is_alive(cell):
                yield index, cell

    def used_snapshots(self) -> set[int]:
        """The bases that living workers say they use: what `Publisher.sweep` must leave."""
        return {number for _, cell in self.live() for number in (cell.snapshot, cell.previous_snapshot) if number}

    @staticmethod
    def is_alive(cell: Cell) -> bool:
        """Whether the process that a cell names still runs."""
        return process.is_alive(cell.pid, cell.start_time)

    def close(self) -> None:
        """Unmap."""
        self._segment.close()
