"""Who serves which version: one answer for `gw status`, the control API and who waits for a change to be everywhere.

Made of what shared memory says, and of what the agent says of itself when it answers. A process that is gone is dead,
whatever its slot or cell says. Ages go by CLOCK_MONOTONIC; wall time stands beside them for people.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from gw.clock import Clock
from gw.errors import SegmentError
from gw.shm import process
from gw.shm.cells import WorkerTable
from gw.shm.layout import Cell, CellState, Slot
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import SegmentMissing, SegmentSpace, UntrustedSegment

# (pid, start time) -> whether that process still runs
IsAlive: TypeAlias = Callable[[int, int], bool]

_NS_PER_MS: Final = 1_000_000
# What `living_processes` calls the agent.
AGENT_TITLE: Final = "sync agent"

# What the agent tells of itself beside what its slot says; null when it does not answer.
_AGENT_REPORT_KEYS: Final = ("store", "resources", "ignored_keys", "problem", "rejected_count", "rejected")


def convergence(
    slot: Slot | None,
    cells: Iterable[tuple[int, Cell]],
    expected: int,
    agent_report: Mapping[str, Any] | None = None,
    *,
    now_ns: int | None = None,
    is_alive: IsAlive = process.is_alive,
) -> dict[str, Any]:
    """The state of a gateway as plain data, keys in snake case, digests as 16 hexadecimal digits.

    `slot` is the newest of control, None when there is none; `cells` are those of the workers' table and `expected` the
    number its master means to have. `agent_report` is the agent's answer to `Status`, None when it does not answer.
    `converged`: as many workers as expected serve, and each of them serves the newest version.
    """
    now = time.monotonic_ns() if now_ns is None else now_ns
    workers = [
        _worker(index, cell, is_alive(cell.pid, cell.start_time), slot)
        for index, cell in cells
        # A cell held for a child that is not there yet names the master.
        if cell.state is not CellState.RESERVED
    ]
    serving = [worker for worker in workers if worker["alive"] and worker["state"] != "draining"]
    return {
        "agent": _agent(slot, agent_report, now, is_alive),
        "workers": workers,
        "expected_workers": expected,
        "converged": 0 < expected <= len(serving) and all(worker["current"] for worker in serving),
    }


def observed_convergence(
    reader: SnapshotReader,
    space: SegmentSpace,
    names: SegmentNames,
    clock: Clock,
    agent_report: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`convergence` of what shared memory holds now. Raises SegmentError for a stranger's or damaged workers' table."""
    cells, expected = observed_workers(space, names)
    return convergence(reader.peek(), cells, expected, agent_report, now_ns=int(clock.monotonic() * 1e9))


def observed_workers(space: SegmentSpace, names: SegmentNames) -> tuple[list[tuple[int, Cell]], int]:
    """The cells of the workers' table and how many workers are expected; nobody and 0 before a master made one.

    Opened anew each time: the table is the master's, and comes and goes with it. Raises SegmentError for a stranger's
    or a damaged one.
    """
    try:
        table = WorkerTable.open(space, names, writable=False)
    except SegmentMissing:
        return [], 0
    try:
        return table.read_all(), table.expected
    finally:
        table.close()


def living_processes(space: SegmentSpace, names: SegmentNames, clock: Clock) -> list[tuple[str, int]]:
    """(what it is, pid) of every process of a gateway that shared memory knows and that still runs.

    Raises SegmentError for a stranger's segment.
    """
    found: list[tuple[str, int]] = []
    reader = SnapshotReader(space, names, clock)
    slot = reader.peek()
    reader.close()
    if slot is not None and process.is_alive(slot.agent_pid, slot.agent_start_time):
        found.append((AGENT_TITLE, slot.agent_pid))
    try:
        table = WorkerTable.open(space, names, writable=False)
    except UntrustedSegment:
        raise
    except SegmentError:
        return found  # none, or damaged: whoever comes next replaces it
    try:
        found += [("gunicorn", master) for master in (table.master_pid, table.heir_pid) if master]
        found += [("worker", cell.pid) for _, cell in table.live()]
    finally:
        table.close()
    return found


def _agent(
    slot: Slot | None, report: Mapping[str, Any] | None, now_ns: int, is_alive: IsAlive
) -> dict[str, Any]:
    alive = slot is not None and is_alive(slot.agent_pid, slot.agent_start_time)
    told = {} if report is None else report
    state = told.get("state") or (slot.state.name.lower().replace("_", " ") if slot is not None else None)
    return {
        "pid": told.get("pid") or (slot.agent_pid if slot is not None else None),
        "alive": alive or report is not None,
        "answers": report is not None,
        "state": state if alive or report is not None else "gone",
        "version": slot.version if slot is not None else None,
        "revision": slot.revision if slot is not None else None,
        "digest": _hex(slot.digest) if slot is not None else None,
        "published_at": _wall(slot.published_wall_ns) if slot is not None else None,
        "heartbeat_age_ms": max(0, now_ns - slot.heartbeat_ns) // _NS_PER_MS if slot is not None else None,
        **{key: told.get(key) for key in _AGENT_REPORT_KEYS},
    }


def _worker(index: int, cell: Cell, alive: bool, slot: Slot | None) -> dict[str, Any]:
    served = cell.epoch, cell.version, cell.digest
    return {
        "cell": index,
        "pid": cell.pid,
        "alive": alive,
        "state": cell.state.name.lower() if alive else "gone",
        "version": cell.version,
        "revision": cell.revision,
        "digest": _hex(cell.digest),
        # Version 0 means that no configuration is served, however equal it is.
        "current": alive and slot is not None and cell.version > 0 and served == slot.identity,
        "applied_at": _wall(cell.applied_wall_ns),
        "rebuild_kind": cell.rebuild_kind.name.lower(),
        "rebuild_duration_ms": round(cell.rebuild_ns / _NS_PER_MS, 3),
        "jitter_ms": cell.jitter_ms,
        "staleness_ms": cell.staleness_ms,
        "worst_staleness_ms": cell.worst_staleness_ms,
        "problems": cell.problems,
        "resources": cell.resources,
        "updates": cell.updates,
        "full_rebuilds": cell.fulls,
        "digest_mismatches": cell.mismatches,
        "failures": cell.failures,
        "rebuild_cpu_ms": round(cell.rebuild_cpu_ns / _NS_PER_MS, 3),
        "rebuild_held_ms": round(cell.rebuild_held_ns / _NS_PER_MS, 3),
        "worst_held_ms": round(cell.worst_held_ns / _NS_PER_MS, 3),
    }


def _hex(digest: int) -> str:
    return f"{digest:016x}"


def _wall(wall_ns: int) -> str | None:
    """A wall time as ISO 8601 in UTC with milliseconds, None for never."""
    if not wall_ns:
        return None
    return datetime.fromtimestamp(wall_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
