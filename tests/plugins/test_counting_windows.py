"""The arithmetic of windows, and counting on this host. Time is moved by hand."""

import random

import pytest

from gw.plugins.counting.local import FixedCounter, SlidingCounter
from gw.plugins.counting.quota import CountingFailed, Quota, Verdict
from gw.plugins.counting.sliding import Windows, is_within, judge, left_s, window_number
from gw.shared.store import SharedStore
from tests.shm.world import HandClock


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def shared(tmp_path, clock):
    store = SharedStore.open(tmp_path / "state", 4 << 20, clock)
    yield store
    store.close()


JUDGED = [
    # limit, window, current, previous, left -> within, remaining, reset
    ((10, 60, 0, 0, 60.0), (True, 9, 60.0)),
    ((10, 60, 9, 0, 1.0), (True, 0, 1.0)),
    ((10, 60, 10, 0, 30.0), (False, 0, 30.0)),
    # half of the previous window still counts: 5 of its 10
    ((10, 60, 0, 10, 30.0), (True, 4, 30.0)),
    ((10, 60, 4, 10, 30.0), (True, 0, 30.0)),
    # in 6 s one more of the previous window's has left the sliding one
    ((10, 60, 5, 10, 30.0), (False, 0, 0.0)),
    ((10, 60, 5, 10, 36.0), (False, 0, 6.0)),
    ((10, 60, 0, 10, 60.0), (False, 0, 0.0)),
    # more than the limit counts as the limit
    ((10, 60, 0, 1000, 30.0), (True, 4, 30.0)),
]


@pytest.mark.parametrize(("given", "expected"), JUDGED)
def test_what_a_sliding_window_allows(given, expected):
    limit, window_s, current, previous, rest_s = given
    quota = Quota(limit, window_s)
    within = is_within(quota, current, previous, rest_s)
    assert judge(quota, current, previous, rest_s, is_within=within, cost=1) == Verdict(*expected)


@pytest.mark.parametrize(
    ("windows", "number", "expected"),
    [
        (Windows(5, 3, 2), 5, Windows(5, 3, 2)),
        (Windows(5, 3, 2), 6, Windows(6, 0, 3)),
        (Windows(5, 3, 2), 7, Windows(7, 0, 0)),
        (Windows(5, 3, 2), 4, Windows(5, 3, 2)),
    ],
)
def test_counts_seen_from_a_later_window(windows, number, expected):
    assert windows.at(number) == expected


def test_windows_meet_without_a_gap():
    quota = Quota(1, 60)
    assert [window_number(quota, now_s) for now_s in (0, 59.9, 60, 119.9)] == [0, 0, 1, 1]
    assert [left_s(quota, now_s) for now_s in (0, 59, 60)] == [60, 1, 60]


def test_a_fixed_window_begins_with_its_first_request_and_ends_with_its_time(shared, clock):
    counter, quota = FixedCounter(shared), Quota(2, 10)
    assert counter.count("key", quota) == Verdict(True, 1, 10)
    clock.now_s += 4
    assert counter.count("key", quota) == Verdict(True, 0, 6)
    assert counter.count("key", quota) == Verdict(False, 0, 6)
    assert counter.count("other", quota) == Verdict(True, 1, 10)
    clock.now_s += 6
    assert counter.count("key", quota) == Verdict(True, 1, 10)


def test_a_request_may_cost_more_than_one(shared):
    counter = FixedCounter(shared)
    assert counter.count("key", Quota(5, 10), cost=3).remaining == 2
    assert counter.count("key", Quota(5, 10), cost=3) == Verdict(False, 0, 10)


def test_a_refused_request_does_not_count_in_a_sliding_window(shared, clock):
    clock.now_s = 600.0
    counter, quota = SlidingCounter(shared, clock), Quota(2, 60)
    assert counter.count("key", quota) == Verdict(True, 1, 60)
    assert counter.count("key", quota) == Verdict(True, 0, 60)
    for _ in range(5):
        assert not counter.count("key", quota).is_within
    clock.now_s += 90
    # half of the two still count
    assert counter.count("key", quota) == Verdict(True, 0, 30)
    assert not counter.count("key", quota).is_within


def test_at_a_steady_rate_above_the_limit_any_stretch_of_a_windows_length_holds_the_limit(shared, clock):
    """From the third window on: a first burst is not even, which is what the estimate takes it for."""
    counter, quota = SlidingCounter(shared, clock), Quota(50, 10)
    clock.now_s = 1000.0
    passed = []
    for _ in range(2000):
        clock.now_s += 0.05
        if counter.count("key", quota).is_within:
            passed.append(clock.now_s)
    for begin_s in [1020 + 10 * number / 7 for number in range(45)]:
        within = sum(1 for at_s in passed if begin_s < at_s <= begin_s + 10)
        assert 49 <= within <= 51


def test_a_sliding_window_is_the_two_fixed_ones_it_says(shared, clock):
    """Against the definition, with steps at random: what is counted now, and what was in the window before."""
    counter, quota, rng = SlidingCounter(shared, clock), Quota(7, 10), random.Random(3)
    counted: dict[int, int] = {}
    for _ in range(3000):
        clock.now_s += rng.choice((0.1, 0.5, 1, 7, 25))
        number = int(clock.now_s // 10)
        current, previous = counted.get(number, 0), counted.get(number - 1, 0)
        rest_s = 10 - clock.now_s % 10
        expected = min(previous, 7) * rest_s / 10 + current < 7
        assert counter.count("key", quota).is_within == expected
        counted[number] = current + expected


@pytest.mark.parametrize("kind", ["fixed", "sliding"])
def test_without_shared_state_the_count_is_not_known(tmp_path, clock, kind):
    shared = SharedStore.open(tmp_path / "state", 4 << 20, clock)
    counter = FixedCounter(shared) if kind == "fixed" else SlidingCounter(shared, clock)
    shared.close()
    (tmp_path / "state").rename(tmp_path / "away")
    (tmp_path / "state").write_bytes(b"no directory")
    with pytest.raises(CountingFailed, match="shared state"):
        counter.count("key", Quota(1, 1))
