from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.balancer.base import Weighted
from gw.balancer.least_conn import Connections, LeastConn


def least_conn(weights: Mapping[str, int], connections: Connections[str] | None = None) -> LeastConn[str]:
    return LeastConn([Weighted(name, weight) for name, weight in weights.items()], connections)


def picked(balancer: LeastConn[str], count: int) -> str:
    return "".join(str(balancer.pick()) for _ in range(count))


def end(balancer: LeastConn[str], names: Sequence[str]) -> None:
    for name in names:
        balancer.done(name, 0.0, 1.0, ok=True)


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ({"a": 1, "b": 1}, "abab"),
        # Scores (connections + 1) / weight: a 1/2, 2/2, 3/2, ...; b 1, 2, ... Whose turn it is decides between equals.
        ({"a": 2, "b": 1}, "abaaba"),
        ({"a": 3, "b": 1}, "aabaaaba"),
        ({"a": 1}, "aaa"),
    ],
)
def test_the_lowest_score_is_picked(weights: dict[str, int], order: str):
    assert picked(least_conn(weights), len(order)) == order


def test_who_has_ended_more_gets_more():
    balancer = least_conn({"a": 1, "b": 1, "c": 1})
    assert picked(balancer, 6) == "abcabc"
    end(balancer, "bb")
    assert picked(balancer, 2) == "bb"
    end(balancer, "c")
    assert balancer.pick() == "c"


def test_equals_take_turns_when_requests_do_not_overlap():
    balancer = least_conn({"a": 1, "b": 1, "c": 1})
    order = ""
    for _ in range(6):
        name = picked(balancer, 1)
        order += name
        end(balancer, name)
    assert order == "abcabc"


def test_a_retry_goes_to_the_least_of_the_others_and_is_counted():
    balancer = least_conn({"a": 1, "b": 1, "c": 1})
    assert picked(balancer, 2) == "ab"
    end(balancer, "a")  # it took no connection
    assert balancer.pick(b"", ("a",)) == "c"
    assert [balancer.connections.of(name) for name in "abc"] == [0, 1, 1]
    assert balancer.pick(b"", ("a", "b", "c")) is None


def test_connections_outlive_the_balancer():
    """apache/apisix issue 12217: a node that is added while WebSockets stand gets the next ones."""
    old = least_conn({"a": 1, "b": 1})
    picked(old, 4)
    new = least_conn({"a": 1, "b": 1, "c": 1}, old.connections)
    assert picked(new, 3) == "cca"
    end(old, "bb")  # what the old one picked may end there
    assert picked(new, 2) == "bb"
    assert [new.connections.of(name) for name in "abc"] == [3, 2, 2]


def test_connections_of_who_is_down_are_remembered_until_they_end():
    first = least_conn({"a": 1, "b": 1})
    picked(first, 4)
    first.connections.forget_idle({"b"})
    second = least_conn({"b": 1}, first.connections)
    third = least_conn({"a": 1, "b": 1}, second.connections)
    assert [third.connections.of(name) for name in "ab"] == [2, 2]
    end(second, "aa")
    assert picked(third, 2) == "aa"
    end(third, "aabb")
    third.connections.forget_idle({"b"})
    assert list(third.connections._cells) == ["b"]


def test_an_end_that_nobody_began_is_not_counted():
    balancer = least_conn({"a": 1, "b": 1})
    end(balancer, ["a", "a", "stranger"])
    assert picked(balancer, 4) == "abab"


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
    st.lists(st.integers(0, 40), max_size=60),
)
def test_no_other_candidate_would_have_been_better(weights: list[int], ends: list[int]):
    """Whatever ends in between, each pick is one of the lowest scores as counted apart."""
    by_name = {str(at): weight for at, weight in enumerate(weights)}
    balancer = least_conn(by_name)
    open_now = Counter[str]()
    for number in ends:
        if number % 2 and open_now:
            name = sorted(open_now.elements())[number % open_now.total()]
            end(balancer, [name])
            open_now -= Counter([name])
            continue
        lowest = min((open_now[name] + 1) / weight for name, weight in by_name.items())
        name = picked(balancer, 1)
        assert (open_now[name] + 1) / by_name[name] == lowest
        open_now[name] += 1
    assert {name: balancer.connections.of(name) for name in by_name} == {name: open_now[name] for name in by_name}
