"""States by their counts: each row is what lua-resty-healthcheck does with the same events."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gw.health.state import FRESH, MAX_COUNT, NEXT, Counts, Event, Health, State, is_counted, step

EVENTS = {"+": Event.SUCCESS, "h": Event.HTTP_FAILURE, "t": Event.TCP_FAILURE, "o": Event.TIMEOUT}
LIMITS = Counts(successes=2, http_failures=3, tcp_failures=2, timeouts=3)
LETTERS = {
    State.HEALTHY: "H",
    State.MOSTLY_HEALTHY: "h",
    State.MOSTLY_UNHEALTHY: "u",
    State.UNHEALTHY: "U",
}


def run(events: str, limits: Counts = LIMITS, health: Health = FRESH) -> tuple[str, Health]:
    """The state after each event, and the health after all."""
    states = ""
    for letter in events:
        health = step(health, EVENTS[letter], limits)
        states += LETTERS[health.state]
    return states, health


@pytest.mark.parametrize(
    ("events", "states", "counts"),
    [
        # A healthy node is not counted up.
        ("+++", "HHH", (0, 0, 0, 0)),
        # Each threshold by itself.
        ("tt", "hU", (0, 0, 2, 0)),
        ("hhh", "hhU", (0, 3, 0, 0)),
        ("ooo", "hhU", (0, 0, 0, 3)),
        # Kinds of failures are not added up.
        ("thoho", "hhhhh", (0, 2, 1, 2)),
        ("thohh", "hhhhU", (0, 3, 1, 1)),
        # A success sets all failures back, and enough of them make healthy again.
        ("ht+", "hhh", (1, 0, 0, 0)),
        ("ht+h", "hhhh", (0, 1, 0, 0)),
        ("h++", "hhH", (2, 0, 0, 0)),
        ("h+h+h+", "hhhhhh", (1, 0, 0, 0)),
        # An unhealthy node is not counted further down.
        ("tttt", "hUUU", (0, 0, 2, 0)),
        ("tth", "hUU", (0, 0, 2, 0)),
        # The way back, with a set-back.
        ("tt+", "hUu", (1, 0, 0, 0)),
        ("tt++", "hUuH", (2, 0, 0, 0)),
        ("tt+t", "hUuu", (0, 0, 1, 0)),
        ("tt+t+", "hUuuu", (1, 0, 0, 0)),
        ("tt+tt", "hUuuU", (0, 0, 2, 0)),
        ("tt+tt++", "hUuuUuH", (2, 0, 0, 0)),
        # Healthy again: successes stay, and are set back by the next failure.
        ("tt++t", "hUuHh", (0, 0, 1, 0)),
    ],
)
def test_events(events, states, counts):
    seen, health = run(events)
    assert (seen, tuple(health.counts)) == (states, counts)


@pytest.mark.parametrize(
    ("events", "limits", "states"),
    [
        ("t", Counts(1, 1, 1, 1), "U"),
        ("h", Counts(1, 1, 1, 1), "U"),
        ("t+t+", Counts(1, 1, 1, 1), "UHUH"),
        # 0 turns an event off.
        ("hhhh", Counts(1, 0, 1, 1), "HHHH"),
        ("oot", Counts(1, 1, 2, 0), "HHh"),
        ("tt+++", Counts(0, 1, 2, 1), "hUUUU"),
    ],
)
def test_thresholds(events, limits, states):
    assert run(events, limits)[0] == states


def test_active_and_passive_checks_share_the_counters():
    active, passive = Counts(2, 5, 2, 3), Counts(5, 3, 2, 7)
    health = run("hh", active)[1]
    assert step(health, Event.HTTP_FAILURE, active).state is State.MOSTLY_HEALTHY
    assert step(health, Event.HTTP_FAILURE, passive).state is State.UNHEALTHY


def test_what_is_counted_is_what_the_table_knows():
    for state in State:
        for event in Event:
            assert is_counted(state, event) is ((state, event is Event.SUCCESS, True) in NEXT)


limits_of = st.builds(Counts, *[st.integers(0, 254)] * 4)
few_limits = st.builds(Counts, *[st.integers(0, 4)] * 4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Event), st.booleans()), max_size=60), few_limits, few_limits)
def test_up_and_down_change_by_a_threshold_alone(events, active, passive):
    health = FRESH
    for event, is_active in events:
        limits = active if is_active else passive
        before, health = health, step(health, event, limits)
        assert all(0 <= count <= MAX_COUNT for count in health.counts)
        if not limits[event] or not is_counted(before.state, event):
            assert health == before
            continue
        assert health.counts[event] == before.counts[event] + 1
        if event is Event.SUCCESS:
            assert not any(health.counts[1:])
        else:
            assert not health.counts.successes
        has_reached = health.counts[event] >= limits[event]
        assert (health.state in (State.HEALTHY, State.UNHEALTHY)) == has_reached
        if health.state.is_up is not before.state.is_up:
            assert has_reached
            assert health.state.is_up == (event is Event.SUCCESS)


@settings(deadline=None)
@given(limits_of, st.sampled_from(Event))
def test_as_many_events_as_the_threshold_says(limits, event):
    start = Health(State.UNHEALTHY) if event is Event.SUCCESS else FRESH
    health, steps = start, 0
    while health.state.is_up is start.state.is_up and steps < MAX_COUNT:
        health = step(health, event, limits)
        steps += 1
    assert steps == (limits[event] or MAX_COUNT)


@pytest.mark.parametrize(
    ("state", "is_up", "label"),
    [
        (State.HEALTHY, True, "healthy"),
        (State.MOSTLY_HEALTHY, True, "mostly_healthy"),
        (State.MOSTLY_UNHEALTHY, False, "mostly_unhealthy"),
        (State.UNHEALTHY, False, "unhealthy"),
    ],
)
def test_names_and_traffic(state, is_up, label):
    assert (state.is_up, state.label) == (is_up, label)
