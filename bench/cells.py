"""What the workers of one gateway say of themselves, read from shared memory often and cheaply.

`gw status` and the control API ask /proc at each look whether a worker lives; a benchmark that looks every half
millisecond finds out once who there is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from gw.clock import SystemClock
from gw.shm.cells import WorkerTable
from gw.shm.layout import Cell, Slot
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace

# Between two looks: far below the 5 ms at which a worker looks itself. What is measured does not hang on it, because
# a cell says to the nanosecond when its worker was done.
LOOK_EVERY_S = 0.0005


class CellWatch:
    """The published slot, and the cells of the workers that lived when this was made."""

    def __init__(self, name: str) -> None:
        space, names = PosixSpace(), SegmentNames(name)
        self._table = WorkerTable.open(space, names, writable=False)
        self._reader = SnapshotReader(space, names, SystemClock())
        self._indices = [index for index, _ in self._table.live()]

    def slot(self) -> Slot:
        slot = self._reader.peek()
        assert slot is not None, "nothing is published"
        return slot

    def cells(self) -> list[Cell]:
        """The cells, in the same order each time. A worker that is gone ends the benchmark: it measured nothing."""
        cells = [self._table.read(index) for index in self._indices]
        if None in cells:
            raise RuntimeError("a worker's cell is free: it died while it was measured")
        return [cell for cell in cells if cell is not None]

    def serve_times_ns(self, revision: int, since_ns: int, deadline_s: float = 60) -> list[int]:
        """When each worker began to serve the write of this store revision, on CLOCK_MONOTONIC, in order of time.

        A worker serves it when its cell names that revision, or the very version that is published while the slot says
        that everything up to the revision is in it. The time is the worker's own where it applied something after
        `since_ns`, which is before the write; else that of our look.
        """
        end_s = time.monotonic() + deadline_s
        served: dict[int, int] = {}
        while True:
            slot = self.slot()
            for number, cell in enumerate(self.cells()):
                if number not in served and _covers(cell, slot, revision):
                    served[number] = cell.applied_ns if cell.applied_ns > since_ns else time.monotonic_ns()
            if len(served) == len(self._indices):
                return sorted(served.values())
            if time.monotonic() > end_s:
                raise RuntimeError(f"revision {revision} is not served everywhere within {deadline_s} s")
            time.sleep(LOOK_EVERY_S)

    def wait_served(self, revision: int, deadline_s: float = 120) -> None:
        """Wait until every worker serves the write of this revision."""
        self.serve_times_ns(revision, time.monotonic_ns(), deadline_s)

    def close(self) -> None:
        self._reader.close()
        self._table.close()


def _covers(cell: Cell, slot: Slot, revision: int) -> bool:
    is_newest = (cell.epoch, cell.version, cell.digest) == slot.identity
    return cell.revision >= revision or (is_newest and slot.revision >= revision)


@contextmanager
def watching_cells(name: str) -> Iterator[CellWatch]:
    """The cells of the gateway whose shared memory has this name."""
    watch = CellWatch(name)
    try:
        yield watch
    finally:
        watch.close()
