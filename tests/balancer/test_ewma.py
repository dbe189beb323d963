import random
from collections import Counter
from collections.abc import Callable, Sequence
from math import exp

import pytest

from gw.balancer.base import Weighted
from gw.balancer.ewma import DECAY_S, Ewma, ResponseTimes


def ewma(names: str, times: ResponseTimes[str] | None = None, chance: Callable[[], float] | None = None) -> Ewma[str]:
    if times is not None:
        times.admit(list(names))
    return Ewma([Weighted(name, 1) for name in names], chance or random.Random(7).random, times)


def answered(balancer: Ewma[str], name: str, taken_s: float, at_s: float, *, ok: bool = True) -> None:
    balancer.done(name, at_s - taken_s, at_s, ok)


def counts(balancer: Ewma[str], picks: int = 3000, tried: Sequence[str] = ()) -> Counter[str | None]:
    return Counter(balancer.pick(b"", tried) for _ in range(picks))


def test_the_average_is_that_of_apisix():
    """The first time counts in full; a later one by 1 - exp(-gap / 10), and what was there fades by the rest."""
    balancer = ewma("ab")
    answered(balancer, "a", 0.200, 100.0)
    assert balancer.times.score("a", 100.0) == pytest.approx(0.200)
    answered(balancer, "a", 0.100, 105.0)
    kept = exp(-5.0 / DECAY_S)
    assert balancer.times.score("a", 105.0) == pytest.approx(0.200 * kept + 0.100 * (1 - kept))
    assert balancer.times.score("a", 105.0 + DECAY_S) == pytest.approx(balancer.times.score("a", 105.0) / exp(1))
    assert balancer.times.score("b", 105.0) == 0.0


def test_the_faster_of_any_two_is_picked():
    balancer = ewma("abc")
    for name, taken_s in (("a", 0.010), ("b", 0.020), ("c", 0.030)):
        answered(balancer, name, taken_s, 100.0)
    had = counts(balancer)
    # Of three pairs, a is the better in two, b in one, c in none.
    assert had["c"] == 0
    assert had["a"] == pytest.approx(2000, abs=120)
    assert had["b"] == pytest.approx(1000, abs=120)


def test_unmeasured_ones_are_picked_evenly():
    had = counts(ewma("abcd"), 4000)
    assert all(had[name] == pytest.approx(1000, abs=150) for name in "abcd")


def test_who_was_slow_recovers_as_time_passes():
    balancer = ewma("ab")
    answered(balancer, "a", 5.0, 100.0)
    answered(balancer, "b", 0.5, 100.0)
    assert counts(balancer) == {"b": 3000}
    # Only b is measured; after ln(10) decay times without an answer a's 5 s weigh less than b's 0.5 s.
    answered(balancer, "b", 0.5, 122.0)
    assert counts(balancer) == {"b": 3000}
    answered(balancer, "b", 0.5, 124.0)
    assert counts(balancer) == {"a": 3000}


def test_who_gets_slow_is_left_and_who_gets_fast_is_found():
    balancer = ewma("ab")
    now_s = 0.0
    for slow, fast in (("a", "b"), ("b", "a")):
        had = Counter[str]()
        for _ in range(600):
            now_s += 0.1
            name = str(balancer.pick())
            had[name] += 1
            answered(balancer, name, 0.5 if name == slow else 0.05, now_s)
        assert had[fast] > 2 * had[slow], (had, slow)


def test_a_failure_is_never_a_fast_answer():
    balancer = ewma("abc")
    for name, taken_s in (("a", 0.010), ("b", 0.020), ("c", 0.500)):
        answered(balancer, name, taken_s, 100.0)
    for number in range(50):
        answered(balancer, "a", 0.001, 100.0 + number, ok=False)
        answered(balancer, "b", 0.020, 100.0 + number)
        answered(balancer, "c", 0.500, 100.0 + number)
    assert balancer.times.score("a", 150.0) == pytest.approx(balancer.times.score("c", 150.0), rel=0.2)
    assert counts(balancer)["b"] == pytest.approx(2000, abs=120)


def test_a_failure_that_takes_long_counts_as_long():
    balancer = ewma("ab")
    answered(balancer, "a", 60.0, 100.0, ok=False)
    assert balancer.times.score("a", 100.0) == pytest.approx(60.0)


def test_averages_outlive_the_balancer_and_newcomers_begin_with_the_mean():
    old = ewma("abc")
    for name, taken_s in (("a", 0.1), ("b", 0.3), ("c", 9.9)):
        answered(old, name, taken_s, 100.0)
    new = ewma("abd", old.times)
    assert [new.times.score(name, 100.0) for name in "abd"] == pytest.approx([0.1, 0.3, 0.2])
    answered(old, "b", 0.05, 200.0)  # what the old one picked may end there
    assert new.times.score("b", 200.0) == pytest.approx(0.05, rel=0.01)
    answered(new, "c", 1.0, 200.0)  # gone meanwhile
    with pytest.raises(KeyError):
        new.times.score("c", 200.0)


def test_ends_that_arrive_out_of_order_do_not_turn_time_back():
    balancer = ewma("ab")
    answered(balancer, "a", 0.2, 100.0)
    answered(balancer, "a", 0.9, 99.0)
    assert balancer.times.score("a", 100.0) == pytest.approx(0.2)
    answered(balancer, "b", -1.0, 100.0)
    assert balancer.times.score("b", 100.0) == pytest.approx(0.0, abs=1e-6)


def test_tried_ones_are_left_out():
    balancer = ewma("abc")
    answered(balancer, "b", 0.2, 100.0)
    answered(balancer, "c", 0.1, 100.0)
    assert counts(balancer, 100, ("a",)) == {"c": 100}
    assert counts(balancer, 100, ("a", "c")) == {"b": 100}
    assert balancer.pick(b"", ("a", "b", "c")) is None


@pytest.mark.parametrize("drawn", [0.0, 0.5, 1.0 - 2.0**-53])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 1000])
def test_chance_at_its_ends_stays_within_the_candidates(drawn: float, count: int):
    balancer = Ewma([Weighted(number, 1) for number in range(count)], lambda: drawn)
    assert balancer.pick() in range(count)
