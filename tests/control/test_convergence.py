"""Who serves which version: decided from a slot, cells and who is alive."""

from __future__ import annotations

import dataclasses
import json

import pytest

from gw.control.convergence import convergence
from gw.shm.layout import AgentState, Cell, CellState, RebuildKind, Slot

AGENT, ONE, TWO, GONE = (100, 1), (201, 2), (202, 2), (203, 2)
SLOT = Slot(
    AgentState.WATCHING,
    epoch=5,
    version=7,
    digest=0xAB,
    revision=12,
    agent_pid=AGENT[0],
    agent_start_time=AGENT[1],
    published_wall_ns=1_700_000_000_123_000_000,
    heartbeat_ns=9_000_000_000,
)
NOW_NS = 9_400_000_000


def cell(owner: tuple[int, int], **fields: object) -> Cell:
    base = Cell(
        CellState.SERVING,
        pid=owner[0],
        start_time=owner[1],
        epoch=5,
        version=7,
        digest=0xAB,
        revision=12,
        rebuild_kind=RebuildKind.UPDATE,
        rebuild_ns=1_234_567,
        applied_wall_ns=1_700_000_000_500_000_000,
        jitter_ms=11,
        staleness_ms=13,
    )
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def alive(pid: int, start_time: int) -> bool:
    return (pid, start_time) in (AGENT, ONE, TWO)


def look(
    slot: Slot | None, *cells: Cell, expected: int = 2, report: dict[str, object] | None = None
) -> dict[str, object]:
    return convergence(slot, list(enumerate(cells)), expected, report, now_ns=NOW_NS, is_alive=alive)


def test_all_that_is_said_of_a_gateway() -> None:
    report = {"state": "watching", "pid": 100, "rejected": [{"kind": "routes", "id": "x", "reason": "bad"}]}
    status = look(SLOT, cell(ONE), cell(TWO), report=report)
    assert status["converged"] is True
    assert status["expected_workers"] == 2
    agent, workers = status["agent"], status["workers"]
    assert isinstance(agent, dict)
    assert isinstance(workers, list)
    assert agent["digest"] == "00000000000000ab"
    assert agent["heartbeat_age_ms"] == 400
    assert agent["published_at"] == "2023-11-14T22:13:20.123Z"
    assert agent["rejected"] == report["rejected"]
    assert (agent["alive"], agent["answers"]) == (True, True)
    assert workers[0]["rebuild_duration_ms"] == 1.235
    assert workers[0]["applied_at"] == "2023-11-14T22:13:20.500Z"
    assert (workers[0]["rebuild_kind"], workers[0]["jitter_ms"], workers[0]["staleness_ms"]) == ("update", 11, 13)
    json.dumps(status)


@pytest.mark.parametrize(
    ("cells", "converged"),
    [
        ([cell(ONE), cell(TWO)], True),
        ([cell(ONE), cell(TWO), cell(GONE, version=3)], True),
        ([cell(ONE), cell(TWO, version=6)], False),
        ([cell(ONE), cell(TWO, digest=0xAC)], False),
        ([cell(ONE), cell(TWO, epoch=4)], False),
        ([cell(ONE)], False),
        ([cell(ONE), cell(GONE)], False),
        ([cell(ONE), cell(TWO, state=CellState.RESERVED)], False),
        ([cell(ONE), cell(TWO, state=CellState.DRAINING)], False),
        ([cell(ONE), cell(TWO, state=CellState.STARTING, version=0)], False),
        ([], False),
    ],
)
def test_when_the_workers_have_converged(cells: list[Cell], converged: bool) -> None:
    assert look(SLOT, *cells)["converged"] is converged


def test_a_draining_worker_is_not_waited_for() -> None:
    assert look(SLOT, cell(ONE), cell(TWO, state=CellState.DRAINING, version=6), expected=1)["converged"] is True


def test_without_an_agent_or_a_version() -> None:
    nothing = look(None, expected=0)
    assert nothing["converged"] is False
    assert nothing["agent"]["pid"] is None  # type: ignore[index]

    dead = look(dataclasses.replace(SLOT, agent_start_time=99), cell(ONE), cell(TWO))
    assert dead["converged"] is True  # it needs nobody to go on serving
    assert dead["agent"]["state"] == "gone"  # type: ignore[index]
    assert dead["agent"]["rejected"] is None  # type: ignore[index]

    unpublished = dataclasses.replace(SLOT, epoch=0, version=0, digest=0)
    empty = [cell(owner, epoch=0, version=0, digest=0) for owner in (ONE, TWO)]
    assert look(unpublished, *empty)["converged"] is False
