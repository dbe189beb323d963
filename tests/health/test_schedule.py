"""When targets are probed: intervals by state, concurrency, never twice at a time."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gw.health.checker import Checker, checker_of
from gw.health.schedule import MANY, MOST_RUNNING, Due, ProbeSchedule
from gw.health.state import State
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.schema.validate import validate


class Last:
    """Draws the end of each window."""

    def uniform(self, a: float, b: float) -> float:
        return b


class First:
    """Draws the beginning of each window: everything is due at once."""

    def uniform(self, a: float, b: float) -> float:
        return a


def checker(nodes: int = 2, id: str = "1", **active: Any) -> Checker:
    written = {"nodes": {f"10.0.0.{n}:80": 1 for n in range(nodes)}, "checks": {"active": active}}
    made = checker_of(ResourceKey("upstreams", id), Upstream.from_dict(validate("upstreams", id, written)))
    assert made is not None
    return made


def intervals(healthy: int, unhealthy: int) -> dict[str, Any]:
    return {"healthy": {"interval": healthy}, "unhealthy": {"interval": unhealthy}}


def names(started: list[Due]) -> list[str]:
    return sorted(due.target.name for due in started)


BOTH = ["10.0.0.0:80", "10.0.0.1:80"]


def test_the_first_probe_comes_within_an_interval_and_soon_where_there_are_few():
    schedule = ProbeSchedule(Last())
    schedule.put(checker(**intervals(5, 1)), {}, 100.0)
    assert names(schedule.start_due(100.0 + 5 * 2 / MANY)) == BOTH
    many = checker(MANY, "2", **intervals(5, 1), concurrency=MANY)
    schedule.put(many, {}, 100.0)
    early = {due.target for due in schedule.start_due(104.9)}
    latest = {due.target for due in schedule.start_due(105.0)} - early
    assert latest, "not all at once"
    schedule.drop(many.mark)
    schedule.put(checker(1, "3", **intervals(5, 1)), {}, 200.0)
    assert len(schedule.start_due(200.0 + 5 * 3 / MANY)) == 1, "who is gone does not count"


def test_an_interval_runs_from_start_to_start():
    schedule = ProbeSchedule(First())
    schedule.put(checker(**intervals(5, 1)), {}, 100.0)
    first, second = schedule.start_due(100.0)
    schedule.finished(first, State.HEALTHY, 100.4)
    schedule.finished(second, State.UNHEALTHY, 100.4)
    assert schedule.next_due_s() == 101.0
    assert names(schedule.start_due(101.0)) == [second.target.name]
    assert names(schedule.start_due(105.0)) == [first.target.name]


def test_a_probe_longer_than_the_interval_is_not_overtaken():
    schedule = ProbeSchedule(First())
    schedule.put(checker(**intervals(1, 1)), {}, 100.0)
    running = schedule.start_due(100.0)
    assert len(running) == 2
    assert schedule.start_due(107.0) == []
    assert schedule.next_due_s() is None
    schedule.finished(running[0], State.HEALTHY, 107.5)
    assert names(schedule.start_due(107.5)) == [running[0].target.name]


def test_a_node_that_goes_down_by_its_traffic_is_looked_at_soon():
    schedule = ProbeSchedule(First())
    made = checker(**intervals(100, 2))
    schedule.put(made, {}, 100.0)
    for due in schedule.start_due(100.0):
        schedule.finished(due, State.HEALTHY, 100.1)
    assert schedule.next_due_s() == 200.0
    schedule.put(made, {BOTH[1]: State.UNHEALTHY}, 101.0)
    assert schedule.next_due_s() == 102.0
    assert names(schedule.start_due(102.0)) == [BOTH[1]]


def test_a_state_that_changes_during_a_probe_counts_for_the_next():
    schedule = ProbeSchedule(First())
    made = checker(**intervals(100, 2))
    schedule.put(made, {}, 100.0)
    running = schedule.start_due(100.0)
    schedule.put(made, {BOTH[0]: State.UNHEALTHY}, 100.2)
    for due in running:
        schedule.finished(due, due.state, 100.3)
    assert names(schedule.start_due(102.0)) == [BOTH[0]]


def test_as_many_at_a_time_as_the_checks_say():
    schedule = ProbeSchedule(First())
    schedule.put(checker(5, concurrency=2, **intervals(10, 10)), {}, 0.0)
    seen, running = set(), schedule.start_due(0.0)
    while running:
        assert len(running) <= 2
        ended = running.pop()
        seen.add(ended.target.name)
        schedule.finished(ended, State.HEALTHY, 1.0)
        running += schedule.start_due(1.0)
    assert len(seen) == 5


def test_who_waits_longest_comes_first_where_there_are_more_probes_than_may_run():
    schedule, turns = ProbeSchedule(First()), []
    schedule.put(checker(5, concurrency=1, **intervals(1, 1)), {}, 0.0)
    for second in range(15):
        (due,) = schedule.start_due(float(second))
        turns.append(due.target.name)
        schedule.finished(due, State.HEALTHY, second + 1.0)
    assert len(set(turns[:5])) == 5
    assert turns == turns[:5] * 3


def test_as_many_at_a_time_as_a_process_should():
    schedule = ProbeSchedule(First())
    for number in range(MOST_RUNNING // 10 + 2):
        schedule.put(checker(10, str(number)), {}, 0.0)
    running = schedule.start_due(0.0)
    assert len(running) == MOST_RUNNING
    assert schedule.next_due_s() is None
    schedule.finished(running[0], State.HEALTHY, 0.5)
    assert len(schedule.start_due(0.5)) == 1


def test_changes_of_what_is_checked():
    schedule = ProbeSchedule(First())
    schedule.put(checker(3, **intervals(5, 5)), {}, 0.0)
    running = schedule.start_due(0.0)
    schedule.finished(running[0], State.HEALTHY, 0.1)
    schedule.put(checker(2, **intervals(5, 5)), {}, 1.0)  # the third node is gone
    for due in running[1:]:
        schedule.finished(due, State.HEALTHY, 1.1)
    assert names(schedule.start_due(5.0)) == BOTH
    schedule.drop(checker().mark)
    assert schedule.start_due(50.0) == []
    assert (len(schedule), schedule.next_due_s()) == (0, None)


def test_a_probe_that_ends_after_its_checker_was_dropped_and_came_back():
    schedule = ProbeSchedule(First())
    made = checker(2, concurrency=1)
    schedule.put(made, {}, 0.0)
    (old,) = schedule.start_due(0.0)
    schedule.drop(made.mark)
    schedule.put(made, {}, 0.5)
    (new,) = schedule.start_due(0.5)
    schedule.finished(old, State.HEALTHY, 0.6)
    assert schedule.start_due(0.6) == []
    schedule.finished(new, State.HEALTHY, 0.7)
    assert len(schedule.start_due(0.7)) == 1


@settings(deadline=None)
@given(st.lists(st.sampled_from(["put", "shrink", "drop", "start", "finish", "ail"]), max_size=80), st.data())
def test_whatever_happens_no_target_is_probed_twice_at_a_time(actions, data):
    schedule, now_s = ProbeSchedule(First()), 0.0
    large, small = checker(6, concurrency=3, **intervals(3, 1)), checker(3, concurrency=3, **intervals(3, 1))
    running: list[Due] = []
    for action in actions:
        now_s += data.draw(st.sampled_from([0.0, 0.5, 3.0]))
        if action == "put":
            schedule.put(large, {}, now_s)
        elif action == "shrink":
            schedule.put(small, {}, now_s)
        elif action == "ail":
            schedule.put(large, {BOTH[0]: State.UNHEALTHY}, now_s)
        elif action == "drop":
            schedule.drop(large.mark)
            running.clear()  # of a plan that is gone; a new one counts anew
        elif action == "start":
            running += schedule.start_due(now_s)
        elif running:
            schedule.finished(running.pop(), State.HEALTHY, now_s)
        slots = [id(due.slot) for due in running]
        assert len(slots) == len(set(slots))
        assert len(running) <= 6
