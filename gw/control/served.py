"""Whether a revision of the store is served by every worker of this host, and if not, who is behind and why.

What `?wait=` of the Admin API and `gw status --wait` wait for. A revision R is served when the newest slot has
processed R or a later one, and each living worker that is not draining serves what the slot says, or a version of the
same epoch that it knows to stand for R or later. Either alone would not do: under changes without a pause no cell ever
equals the newest slot; and after a write that changes nothing in substance a cell has the right version at once, but
says the new revision only when it is written next, up to a second later.

Where a store is restored from a backup, revisions begin again lower down. A worker that says more than the slot has
processed speaks of the time before, and counts as behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gw.control.convergence import IsAlive, observed_workers
from gw.shm import process
from gw.shm.layout import Cell, CellState, Slot
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import SegmentSpace

# A child that is not there yet, and one that takes nothing new.
_NOT_ASKED: Final = (CellState.RESERVED, CellState.DRAINING)


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at shared memory: what the workers said, and then what was newest.

    In this order, so that no worker is seen ahead of the slot. `expected` is how many workers there should be.
    """

    cells: Sequence[tuple[int, Cell]]
    expected: int
    slot: Slot | None


def is_served(revision: int, seen: Observed, is_alive: IsAlive = process.is_alive) -> bool:
    """Whether every worker serves `revision`: what `laggards` says with an empty list, at less cost while it is not so.

    Whether a process lives is a file to be read for each of them, so it is asked only when enough cells say the right
    thing.
    """
    behind = [why_behind(revision, cell, seen.slot) for _, cell in _asked(seen)]
    return behind.count(None) >= _wanted(seen) and not laggards(revision, seen, is_alive)


def laggards(revision: int, seen: Observed, is_alive: IsAlive = process.is_alive) -> list[dict[str, Any]]:
    """Who does not serve `revision`, as plain data; nobody exactly when it is served everywhere.

    First the workers that are behind, by their cells, then one entry without a pid for each that is expected and not
    there.
    """
    living = [(index, cell) for index, cell in _asked(seen) if is_alive(cell.pid, cell.start_time)]
    behind = [
        {
            "pid": cell.pid,
            "cell": index,
            "state": cell.state.name.lower(),
            "version": cell.version,
            "revision": cell.revision,
            "staleness_ms": cell.staleness_ms,
            "why": why,
        }
        for index, cell in living
        if (why := why_behind(revision, cell, seen.slot)) is not None
    ]
    absent: dict[str, Any] = {
        "pid": None,
        "cell": None,
        "state": "absent",
        "version": None,
        "revision": None,
        "staleness_ms": None,
        "why": f"{len(living)} of {_wanted(seen)} expected workers are there",
    }
    return behind + [dict(absent) for _ in range(_wanted(seen) - len(living))]


def why_behind(revision: int, cell: Cell, slot: Slot | None) -> str | None:
    """Why a worker does not serve `revision`, for people; None when it does. Whether it lives is not looked at."""
    if slot is None:
        return "the sync agent has not published anything"
    if slot.revision < revision:
        return f"the sync agent has published revision {slot.revision}, not yet {revision}"
    if not cell.version:
        return "it has taken up no configuration yet"
    if cell.epoch != slot.epoch:
        return "what it serves comes from shared memory that was replaced"
    if cell.version == slot.version:
        return None if cell.digest == slot.digest else f"its digest of version {cell.version} is not the published one"
    if cell.revision > slot.revision:
        return f"it serves revision {cell.revision} of before the store went back to revision {slot.revision}"
    if cell.revision < revision:
        return f"it serves revision {cell.revision}: it waits for its jitter, is busy or stopped"
    return None


def observed(reader: SnapshotReader, space: SegmentSpace, names: SegmentNames) -> Observed:
    """A look for who has no table open. Raises SegmentError for a stranger's or damaged workers' table."""
    cells, expected = observed_workers(space, names)
    return Observed(cells, expected, reader.peek())


def _asked(seen: Observed) -> list[tuple[int, Cell]]:
    return [(index, cell) for index, cell in seen.cells if cell.state not in _NOT_ASKED]


def _wanted(seen: Observed) -> int:
    """A gateway without a worker serves nothing, whatever its master means to have."""
    return max(seen.expected, 1)
