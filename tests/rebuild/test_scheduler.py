"""The due time, as a table of what happens when, on a clock moved by hand."""

from __future__ import annotations

import pytest

from gw.rebuild.scheduler import RebuildScheduler, Work


class HandClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def cpu(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return 0.0


class Halfway:
    """The middle of every window."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def scheduler(clock: HandClock) -> RebuildScheduler:
    return RebuildScheduler(update_jitter_ms=(0, 20), full_jitter_ms=(0, 500), clock=clock, chance=Halfway())


def test_nothing_is_due_when_nothing_changed(scheduler: RebuildScheduler):
    assert scheduler.due_at_s is None
    assert not scheduler.is_due
    assert scheduler.staleness_s == 0


# (ms after the first, what) ..., due time in ms after the first change
@pytest.mark.parametrize(
    ("changes", "due_ms", "work"),
    [
        ([(0, Work.UPDATE)], 10, Work.UPDATE),
        ([(0, Work.FULL)], 250, Work.FULL),
        # Later changes ride along.
        ([(0, Work.UPDATE), (5, Work.UPDATE), (9, Work.UPDATE)], 10, Work.UPDATE),
        ([(0, Work.FULL), (100, Work.FULL)], 250, Work.FULL),
        ([(0, Work.FULL), (100, Work.UPDATE)], 250, Work.FULL),
        # What proves heavier waits longer, but from the first change on.
        ([(0, Work.UPDATE), (10, Work.FULL)], 250, Work.FULL),
        ([(0, Work.UPDATE), (10, Work.FULL), (20, Work.FULL)], 250, Work.FULL),
    ],
)
def test_due_time(scheduler, clock, changes, due_ms, work):
    for at_ms, what in changes:
        clock.now_s = 100 + at_ms / 1000
        scheduler.changed(what)
    assert scheduler.work is work
    assert scheduler.due_at_s == pytest.approx(100 + due_ms / 1000)
    clock.now_s = 100 + (due_ms - 1) / 1000
    assert not scheduler.is_due
    clock.now_s = 100 + (due_ms + 1) / 1000
    assert scheduler.is_due


def test_a_new_wait_is_drawn_after_each_apply(scheduler, clock):
    scheduler.changed()
    clock.now_s += 0.03
    scheduler.finished()
    assert scheduler.due_at_s is None
    scheduler.changed()
    assert scheduler.due_at_s == pytest.approx(clock.now_s + 0.01)


def test_staleness_counts_from_the_first_change_and_the_worst_is_kept(scheduler, clock):
    scheduler.changed(Work.FULL)
    scheduler.at_once()
    clock.now_s += 3
    scheduler.finished()
    assert scheduler.worst_staleness_s == 0, "before the first there is nothing that could be stale"
    scheduler.changed()
    clock.now_s += 0.5
    scheduler.changed()
    assert scheduler.staleness_s == pytest.approx(0.5)
    scheduler.finished()
    assert scheduler.staleness_s == 0
    scheduler.changed()
    clock.now_s += 0.1
    scheduler.finished()
    assert scheduler.worst_staleness_s == pytest.approx(0.5)


def test_a_failure_is_tried_again_and_stays_stale(scheduler, clock):
    scheduler.changed()
    clock.now_s += 0.02
    scheduler.retry(after_s=0.1)
    assert not scheduler.is_due
    clock.now_s += 0.11
    assert scheduler.is_due
    assert scheduler.staleness_s == pytest.approx(0.13)


def test_zero_windows_do_not_wait(clock):
    scheduler = RebuildScheduler(update_jitter_ms=(0, 0), full_jitter_ms=(0, 0), clock=clock, chance=Halfway())
    scheduler.changed()
    assert scheduler.is_due
    scheduler.changed(Work.FULL)
    assert scheduler.is_due


def test_at_once_skips_the_wait(scheduler, clock):
    scheduler.changed(Work.FULL)
    scheduler.at_once()
    assert scheduler.is_due
    assert scheduler.jitter_ms == 0
