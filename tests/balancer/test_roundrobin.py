from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.balancer.base import Weighted
from gw.balancer.roundrobin import RoundRobin


def round_robin(weights: dict[str, int]) -> RoundRobin[str]:
    return RoundRobin([Weighted(name, weight) for name, weight in weights.items()])


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({"a": 5, "b": 1, "c": 1}, "aabacaa" * 2),
        ({"a": 1, "b": 1}, "abab"),
        ({"a": 100, "b": 100}, "abab"),
        ({"a": 2, "b": 1}, "abaaba"),
        ({"a": 1}, "aaa"),
        ({"a": 1, "off": 0, "b": 1}, "abab"),
    ],
)
def test_order_is_smooth(weights: dict[str, int], order: str) -> None:
    balancer = round_robin(weights)
    assert "".join(str(balancer.pick()) for _ in order) == order


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": 0, "b": 0}, {"a": -1}])
def test_nobody_to_pick(weights: dict[str, int]) -> None:
    balancer = round_robin(weights)
    assert [balancer.pick() for _ in range(3)] == [None] * 3


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8).filter(any))
def test_each_period_gives_each_its_share(weights: list[int]) -> None:
    balancer = round_robin({str(at): weight for at, weight in enumerate(weights)})
    for _ in range(3):
        counts = Counter(balancer.pick() for _ in range(sum(weights)))
        assert [counts[str(at)] for at in range(len(weights))] == weights


def test_weights_too_large_to_remember_are_shared_out_all_the_same() -> None:
    balancer = round_robin({"a": 999_983, "b": 1_000_003})
    counts = Counter(balancer.pick() for _ in range(20_000))
    assert abs(counts["a"] - counts["b"]) <= 2
    assert balancer._order == []
