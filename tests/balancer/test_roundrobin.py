from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.balancer.base import Weighted, eligible
from gw.balancer.roundrobin import Only, RoundRobin


def round_robin(weights: dict[str, int]) -> RoundRobin[str]:
    return RoundRobin(eligible([Weighted(name, weight) for name, weight in weights.items()]))


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


def drawn(balancer: RoundRobin[str], count: int) -> str:
    return "".join(str(balancer.pick()) for _ in range(count))


@pytest.mark.parametrize(
    ("weights", "picks", "after", "order"),
    [
        # Equal weights: a had its turn, so b would be next; b goes down, and c is.
        ({"a": 1, "b": 1, "c": 1}, 1, {"a": 1, "c": 1}, "cacaca"),
        # It comes up again after two more: a and c are even, and b is owed nothing.
        ({"a": 1, "c": 1}, 2, {"a": 1, "b": 1, "c": 1}, "abcabc"),
        ({"a": 1, "b": 1}, 1, {"a": 1, "b": 1}, "baba"),
        # Among unequal ones what was owed is paid within a period, then the order is that of a fresh one.
        ({"a": 3, "b": 1}, 0, {"a": 3, "b": 1}, "aabaaaba"),
        ({"a": 3, "b": 1}, 1, {"a": 3, "b": 1}, "abaa" + "aaba"),
        ({"a": 3, "b": 1}, 2, {"a": 3, "b": 1}, "baaa" + "aaba"),
        ({"a": 5, "b": 1, "c": 1}, 3, {"a": 5, "c": 1}, "aacaaa" + "aaacaa"),
        # What c was owed leaves with it: a and b are even, and d stands where they do.
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 1, "b": 1, "d": 1}, "abdabd"),
        # Nobody of those who were owed is left.
        ({"a": 1, "b": 1}, 1, {"c": 2, "d": 1}, "cdccdc"),
        ({"a": 1, "b": 1}, 1, {}, "NoneNone"),
    ],
)
def test_the_next_one_goes_on_with_what_was_owed(
    weights: dict[str, int], picks: int, after: dict[str, int], order: str
) -> None:
    first = round_robin(weights)
    drawn(first, picks)
    second = RoundRobin([Weighted(name, weight) for name, weight in after.items()], first.owed())
    assert drawn(second, len(order) // (4 if not after else 1)) == order


@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=30),
)
def test_changes_of_health_cost_nobody_its_share(weights: list[int], changes: list[tuple[int, int]]) -> None:
    """However often others go down and come up again, each gets what it is due of the picks it was up for."""
    names = [str(at) for at in range(len(weights))]
    everybody = [Weighted(name, weight) for name, weight in zip(names, weights, strict=True)]
    balancer = RoundRobin(everybody)
    due, had = Counter[str](), Counter[str | None]()
    for picks, down in changes:
        up = [each for at, each in enumerate(everybody) if at != down]
        balancer = RoundRobin(up, balancer.owed())
        total = sum(each.weight for each in up)
        had.update(balancer.pick() for _ in range(picks))
        due.update({each.candidate: picks * each.weight / total for each in up})  # type: ignore[dict-item]
    allowed = 2.0 + len(changes) / 2  # rounding, and the credit of who left, at each change
    assert all(abs(had[name] - due[name]) <= allowed for name in names)


def test_frequent_changes_favour_nobody() -> None:
    """A change after every pick: without what is owed, a would get them all."""
    balancer = round_robin({"a": 2, "b": 1, "c": 1})
    had = Counter[str | None]()
    for _ in range(400):
        had[balancer.pick()] += 1
        balancer = RoundRobin([Weighted("a", 2), Weighted("b", 1), Weighted("c", 1)], balancer.owed())
    assert had == {"a": 200, "b": 100, "c": 100}


def test_stand_ins_take_turns_by_weight_and_leave_the_order_as_it_is() -> None:
    balancer = round_robin({"dead": 3, "a": 2, "b": 1})
    undisturbed = round_robin({"dead": 3, "a": 2, "b": 1})
    picked: list[str | None] = []
    stood_in = Counter[str | None]()
    for _ in range(60):
        picked.append(balancer.pick())
        if picked[-1] == "dead":
            stood_in[balancer.pick(b"", ("dead",))] += 1
    assert stood_in == {"a": 20, "b": 10}
    assert picked == [undisturbed.pick() for _ in range(60)]
    assert balancer.pick(b"", ("dead", "a")) == "b"
    assert balancer.pick(b"", ("dead", "a", "b")) is None


def test_the_one_that_is_listed_twice_counts_as_listed_last() -> None:
    balancer = RoundRobin(eligible([Weighted("a", 1), Weighted("b", 1), Weighted("a", 3)]))
    assert drawn(balancer, 8) == "aabaaaba"


def test_the_only_one() -> None:
    balancer = Only("a")
    assert (balancer.pick(), balancer.pick(b"key", ("b",)), balancer.pick(b"", ("a",))) == ("a", "a", None)
