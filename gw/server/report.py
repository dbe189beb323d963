"""One worker's cell in the table of workers: what it says of itself to `gw status`, the agent and the other workers."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from gw.clock import Clock
from gw.rebuild.follower import Follower
from gw.rebuild.scheduler import RebuildScheduler, Work
from gw.rebuild.state import ConfigState
from gw.shm import process
from gw.shm.cells import WorkerTable
from gw.shm.layout import Cell, CellState, RebuildKind

# How often the cell is written when nothing was applied: staleness and problems move without that.
INTERVAL_S: Final = 1.0

_KINDS: Final = {Work.FULL: RebuildKind.FULL, Work.UPDATE: RebuildKind.UPDATE}


class CellReport:
    """Writes one cell. `follower` is set when there is one; until then the cell says STARTING and no version."""

    def __init__(
        self, table: WorkerTable, index: int, state: ConfigState, scheduler: RebuildScheduler, clock: Clock
    ) -> None:
        self._table = table
        self._index = index
        self._state = state
        self._scheduler = scheduler
        self._clock = clock
        self._start_time = process.start_time(os.getpid()) or 0
        self.follower: Follower | None = None
        self.is_draining = False

    async def run(self) -> None:
        """Write the cell now and then, until cancelled."""
        while True:
            self.write()
            await asyncio.sleep(INTERVAL_S)

    def write(self) -> None:
        """Write the cell as things are now."""
        self._table.write(self._index, self._cell())

    def _cell(self) -> Cell:
        now_ns = _ns(self._clock.monotonic())
        applied = self.follower.applied if self.follower is not None else None
        if applied is None or self.follower is None:
            state = CellState.DRAINING if self.is_draining else CellState.STARTING
            return Cell(state, os.getpid(), start_time=self._start_time, written_ns=now_ns)
        counts = self.follower.counts
        return Cell(
            CellState.DRAINING if self.is_draining else CellState.SERVING,
            os.getpid(),
            problems=self._state.problem_count,
            start_time=self._start_time,
            epoch=applied.slot.epoch,
            version=applied.slot.version,
            digest=applied.digest,
            revision=self.follower.revision,
            staleness_ms=round(self._scheduler.staleness_s * 1e3),
            worst_staleness_ms=round(self._scheduler.worst_staleness_s * 1e3),
            rebuild_kind=_KINDS[applied.work],
            jitter_ms=round(applied.jitter_ms),
            rebuild_ns=_ns(applied.duration_s),
            applied_wall_ns=_ns(applied.at_wall_s),
            applied_ns=_ns(applied.at_s),
            snapshot=self._state.snapshot,
            written_ns=now_ns,
            updates=counts.updates,
            fulls=counts.fulls,
            mismatches=counts.mismatches,
            failures=counts.failures,
            rebuild_cpu_ns=_ns(applied.cost.cpu_s),
            rebuild_held_ns=_ns(applied.cost.held_s),
            worst_held_ns=_ns(counts.worst_held_s),
            resources=len(self._state),
        )


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
