"""When a revision is served by every worker, and who is named when it is not."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from gw.control.served import Observed, is_served, laggards, why_behind
from gw.shm.layout import AgentState, Cell, CellState, Slot

ONE, TWO, GONE = (201, 2), (202, 2), (203, 2)
SLOT = Slot(AgentState.WATCHING, epoch=5, version=7, digest=0xAB, revision=12)
AT_SLOT = Cell(CellState.SERVING, pid=ONE[0], start_time=ONE[1], epoch=5, version=7, digest=0xAB, revision=12)


def cell(owner: tuple[int, int] = ONE, **fields: object) -> Cell:
    return dataclasses.replace(AT_SLOT, pid=owner[0], start_time=owner[1], **fields)  # type: ignore[arg-type]


def alive(pid: int, start_time: int) -> bool:
    return (pid, start_time) in (ONE, TWO)


def seen(*cells: Cell, expected: int = 2, slot: Slot | None = SLOT) -> Observed:
    return Observed(list(enumerate(cells)), expected, slot)


BEHIND = cell(TWO, version=6, digest=0xAA, revision=11)


@pytest.mark.parametrize(
    ("revision", "of_cell", "of_slot", "why"),
    [
        (12, {}, {}, None),
        (3, {}, {}, None),
        # A write that changed nothing: the slot has processed it, the version is the same, the cell was not rewritten.
        (14, {}, {"revision": 14}, None),
        # Changes without a pause: the newest version is never served, but one that stands for the revision is.
        (12, {}, {"version": 9, "digest": 0xAD, "revision": 15}, None),
        (13, {}, {"version": 9, "digest": 0xAD, "revision": 15}, "it serves revision 12: it waits for its jitter"),
        (13, {}, {}, "has published revision 12, not yet 13"),
        (12, {"epoch": 4}, {}, "shared memory that was replaced"),
        (12, {"epoch": 4}, {"version": 9, "digest": 0xAD, "revision": 15}, "shared memory that was replaced"),
        (12, {"version": 0, "digest": 0, "epoch": 0, "revision": 0}, {}, "no configuration yet"),
        (12, {"digest": 0xAC}, {}, "its digest of version 7"),
        # Drifted: at the slot's version with another digest, whatever revision it says.
        (10, {"digest": 0xAC}, {}, "its digest of version 7"),
        # Restored from a backup: what the worker serves is of before.
        (12, {"revision": 90}, {"version": 8, "digest": 0xAD}, "before the store went back"),
    ],
)
def test_whether_a_worker_serves_a_revision(
    revision: int, of_cell: dict[str, int], of_slot: dict[str, int], why: str | None
) -> None:
    slot = dataclasses.replace(SLOT, **of_slot)  # type: ignore[arg-type]
    found = why_behind(revision, cell(**of_cell), slot)
    assert (found is None) if why is None else (found is not None and why in found)


def test_without_a_slot_nothing_is_served() -> None:
    assert why_behind(0, cell(), None) == "the sync agent has not published anything"


@pytest.mark.parametrize(
    ("workers", "expected", "served"),
    [
        ([cell(ONE), cell(TWO)], 2, True),
        ([cell(ONE), cell(TWO)], 1, True),
        ([cell(ONE), cell(TWO), cell(GONE, version=3)], 2, True),
        ([cell(ONE), cell(TWO, state=CellState.DRAINING)], 1, True),
        ([cell(ONE), dataclasses.replace(BEHIND, state=CellState.DRAINING)], 1, True),
        ([cell(ONE), BEHIND], 2, False),
        ([cell(ONE), BEHIND], 1, False),
        ([cell(ONE)], 2, False),
        ([cell(ONE), cell(GONE)], 2, False),
        ([cell(ONE), cell(TWO, state=CellState.RESERVED)], 2, False),
        ([cell(ONE), cell(TWO, state=CellState.DRAINING)], 2, False),
        ([cell(ONE), cell(TWO, state=CellState.STARTING, version=0)], 2, False),
        ([], 2, False),
        ([], 0, False),
    ],
)
def test_whether_everybody_serves_it(workers: list[Cell], expected: int, served: bool) -> None:
    assert is_served(12, seen(*workers, expected=expected), alive) is served
    assert (laggards(12, seen(*workers, expected=expected), alive) == []) is served


def test_nobody_is_named_exactly_when_it_is_served() -> None:
    states = [cell(), BEHIND, cell(GONE), cell(TWO, state=CellState.DRAINING), cell(TWO, state=CellState.RESERVED)]
    for count in range(4):
        for workers in itertools.product(states, repeat=count):
            for expected, slot, revision in itertools.product(range(4), (SLOT, None), (11, 12, 13)):
                looked = seen(*workers, expected=expected, slot=slot)
                assert is_served(revision, looked, alive) is (laggards(revision, looked, alive) == [])


def test_who_is_named() -> None:
    behind = dataclasses.replace(BEHIND, staleness_ms=40)
    assert laggards(12, seen(cell(ONE), behind, expected=4), alive) == [
        {
            "pid": 202,
            "cell": 1,
            "state": "serving",
            "version": 6,
            "revision": 11,
            "staleness_ms": 40,
            "why": "it serves revision 11: it waits for its jitter, is busy or stopped",
        },
        *[
            {
                "pid": None,
                "cell": None,
                "state": "absent",
                "version": None,
                "revision": None,
                "staleness_ms": None,
                "why": "2 of 4 expected workers are there",
            }
        ]
        * 2,
    ]
    json.dumps(laggards(99, seen(cell(ONE), expected=3), alive))


def test_what_the_agent_lacks_is_every_workers_reason() -> None:
    whys = {each["why"] for each in laggards(13, seen(cell(ONE), cell(TWO)), alive)}
    assert whys == {"the sync agent has published revision 12, not yet 13"}


def test_no_process_is_looked_at_while_too_few_say_the_right_thing() -> None:
    def refuse(pid: int, start_time: int) -> bool:
        raise AssertionError("a look while it is not served costs a file for each worker")

    assert not is_served(12, seen(cell(ONE), BEHIND), refuse)
