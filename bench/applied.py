"""When workers applied what: read off their cells in shared memory while a load runs."""

from __future__ import annotations

from dataclasses import dataclass

from gw.shm.cells import WorkerTable
from gw.shm.layout import Cell, RebuildKind
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace

_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Applied:
    """One application, as far as the polling saw it. `at_ns` by CLOCK_MONOTONIC, at its end."""

    worker: int
    at_ns: int
    kind: str
    took_ms: float
    held_ms: float


class AppliedLog:
    """Poll it often: of two applications between two polls only the later one is seen (the counters count both)."""

    def __init__(self, gateway_name: str) -> None:
        self._table = WorkerTable.open(PosixSpace(), SegmentNames(gateway_name), writable=False)
        self._cells: dict[int, Cell] = dict(self._table.live())
        self._at_start = dict(self._cells)
        self.applied: list[Applied] = []

    def poll(self) -> None:
        """Note what is new."""
        for index, before in list(self._cells.items()):
            cell = self._table.read(index)
            if cell is None or (cell.updates, cell.fulls) == (before.updates, before.fulls):
                continue
            self._cells[index] = cell
            kind = RebuildKind(cell.rebuild_kind).name.lower()
            took_ms, held_ms = cell.rebuild_ns / _NS_PER_MS, cell.rebuild_held_ns / _NS_PER_MS
            self.applied.append(Applied(index, cell.applied_ns, kind, took_ms, held_ms))

    def counted(self) -> dict[str, int]:
        """How much all workers together did since the log was opened."""
        self.poll()
        names = ("updates", "fulls", "mismatches", "failures")
        return {
            name: sum(getattr(cell, name) - getattr(self._at_start[index], name) for index, cell in self._cells.items())
            for name in names
        }

    def close(self) -> None:
        """Unmap."""
        self._table.close()
