"""What holds for every type, and groups by priority."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.balancer.base import Balancer, Weighted
from gw.balancer.build import TYPES, build_balancer
from gw.balancer.chash import ConsistentHash
from gw.balancer.least_conn import LeastConn
from gw.balancer.priority import Priority
from gw.balancer.roundrobin import Only, RoundRobin

types = pytest.mark.parametrize("type", TYPES)


def candidate(name: str, weight: int = 1, priority: int = 0) -> Weighted[str]:
    return Weighted(name, weight, name.encode(), priority)


def build(type: str, candidates: Sequence[Weighted[str]], after: Balancer[str] | None = None) -> Balancer[str]:
    return build_balancer(type, candidates, chance=random.Random(7).random, after=after)


def all_in_turn(balancer: Balancer[str], key: bytes = b"key") -> list[str]:
    """Whom a request gets that finds nobody: each pick is tried."""
    tried: tuple[str, ...] = ()
    while (picked := balancer.pick(key, tried)) is not None:
        assert picked not in tried
        tried = (*tried, picked)
    return list(tried)


CANDIDATES = st.lists(
    st.builds(candidate, st.sampled_from("abcdefgh"), st.integers(-1, 12), st.integers(-2, 2)), max_size=10
)


@types
@given(CANDIDATES, st.binary(max_size=8))
def test_whoever_has_a_weight_is_tried_once_by_priority(type: str, candidates: list[Weighted[str]], key: bytes):
    balancer = build(type, candidates)
    listed = {each.candidate: each for each in candidates}  # as listed last
    able = [each for each in listed.values() if each.weight > 0]
    tried = all_in_turn(balancer, key)
    assert sorted(tried) == sorted(each.candidate for each in able)
    priorities = [listed[name].priority for name in tried]
    assert priorities == sorted(priorities, reverse=True)


@types
@given(CANDIDATES.filter(bool), st.lists(st.sampled_from("abcdefgh"), max_size=4))
def test_never_one_that_was_tried_and_only_the_highest_group(
    type: str, candidates: list[Weighted[str]], tried: list[str]
):
    balancer = build(type, candidates)
    listed = {each.candidate: each for each in candidates}  # as listed last
    left = {name: each for name, each in listed.items() if each.weight > 0 and name not in tried}
    highest = max((each.priority for each in left.values()), default=None)
    for number in range(20):
        picked = balancer.pick(b"%d" % number, tried)
        if highest is None:
            assert picked is None
        else:
            assert picked is not None
            assert left[picked].priority == highest


@types
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6).filter(any))
def test_all_that_have_a_weight_are_picked_in_time(type: str, weights: list[int]):
    balancer = build(type, [candidate(str(at), weight) for at, weight in enumerate(weights)])
    had = Counter(balancer.pick(b"key-%d" % number) for number in range(400))
    assert set(had) == {str(at) for at, weight in enumerate(weights) if weight}


@types
@given(st.lists(CANDIDATES, min_size=1, max_size=6))
def test_whatever_came_before_the_next_one_serves_who_is_up(type: str, history: list[list[Weighted[str]]]):
    balancer = None
    for now, candidates in enumerate(history):
        balancer = build(type, candidates, balancer)
        for number in range(6):
            picked = balancer.pick(b"%d" % number)
            if picked is not None and number % 2:
                balancer.done(picked, now, now + 0.1 * number, ok=number % 3 != 0)
    assert balancer is not None
    assert sorted(all_in_turn(balancer)) == sorted(all_in_turn(build(type, history[-1])))


@types
def test_nobody_to_pick(type: str):
    for candidates in ([], [candidate("a", 0)]):
        balancer = build(type, candidates)
        assert [balancer.pick(b"key"), balancer.pick(b"key", ("a",))] == [None, None]


@pytest.mark.parametrize(
    ("type", "single", "several"),
    # (needs_key, needs_done) with one candidate, and with two.
    [
        ("roundrobin", (False, False), (False, False)),
        ("chash", (False, False), (True, False)),
        ("ewma", (False, True), (False, True)),
        ("least_conn", (False, True), (False, True)),
    ],
)
def test_what_each_type_needs(type: str, single: tuple[bool, bool], several: tuple[bool, bool]):
    alone, two = build(type, [candidate("a")]), build(type, [candidate("a"), candidate("b")])
    in_groups = build(type, [candidate("a", priority=1), candidate("b"), candidate("c")])
    assert (alone.needs_key, alone.needs_done) == single
    assert (two.needs_key, two.needs_done) == several
    assert isinstance(in_groups, Priority)
    assert (in_groups.needs_key, in_groups.needs_done) == several


def test_a_lower_group_serves_while_the_higher_is_down_or_tried():
    high, low = [candidate("a", priority=1), candidate("b", priority=1)], [candidate("c"), candidate("d")]
    balancer = build("roundrobin", [*low, *high])
    assert [balancer.pick() for _ in range(4)] == ["a", "b", "a", "b"]
    assert balancer.pick(b"", ("a",)) == "b"
    assert [balancer.pick(b"", ("a", "b")) for _ in range(3)] == ["c", "d", "c"]
    assert balancer.pick(b"", ("c", "d", "a")) == "b"
    down = build("roundrobin", low, balancer)
    assert [down.pick() for _ in range(2)] == ["c", "d"]
    assert build("roundrobin", [*low, *high], down).pick() == "a"


def test_groups_go_on_with_what_all_groups_knew():
    """A node whose connections stand while its whole group is down, or that moves to another group, keeps them."""
    both = [candidate("a", priority=1), candidate("b")]
    first = build("least_conn", both)
    assert [first.pick() for _ in range(3)] == ["a", "a", "a"]
    only_low = build("least_conn", both[1:], first)
    again = build("least_conn", [candidate("a"), candidate("b")], only_low)
    assert isinstance(again, LeastConn)
    assert [again.connections.of(name) for name in "ab"] == [3, 0]
    first.done("a", 0.0, 1.0, ok=True)
    only_low.done("a", 0.0, 1.0, ok=True)
    again.done("a", 0.0, 1.0, ok=True)
    assert [again.pick() for _ in range(2)] == ["a", "b"]


def test_nodes_that_come_and_go_leave_nothing_behind():
    balancer = None
    for number in range(20):
        balancer = build("least_conn", [candidate(f"{number}"), candidate(f"{number}b")], balancer)
        picked = balancer.pick()
        assert picked is not None
        balancer.done(picked, 0.0, 1.0, ok=True)
    assert isinstance(balancer, LeastConn)
    assert sorted(balancer.connections._cells) == ["19", "19b"]


def test_round_robin_owes_on_across_groups():
    nodes = [candidate("a", priority=1), candidate("b", priority=1), candidate("c")]
    first = build("roundrobin", nodes)
    assert first.pick() == "a"
    assert build("roundrobin", nodes[:2], first).pick() == "b"


def test_a_change_of_health_keeps_the_ring():
    nodes = [candidate(name) for name in "abcd"]
    first = build("chash", nodes)
    second = build("chash", nodes[:3], first)
    third = build("chash", nodes, second)
    assert isinstance(first, ConsistentHash)
    assert isinstance(second, ConsistentHash)
    assert isinstance(third, ConsistentHash)
    assert second.ring is third.ring is first.ring


def test_keys_stay_where_they_are_when_who_is_down_has_a_weight_that_the_others_could_be_divided_by():
    """6 and 10 alone would be 3 and 5: fewer points of everybody, and keys all over the place."""
    whole = [candidate("a", 3), candidate("b", 6), candidate("c", 10), candidate("d", 7, priority=1)]
    all_up = build("chash", whole[:3])
    after = build_balancer("chash", whole[1:3], chance=random.random, whole=whole)
    keys = [b"session-%d" % number for number in range(300)]
    assert all(after.pick(key) == all_up.pick(key, ("a",)) for key in keys)


@pytest.mark.parametrize("before", TYPES)
@types
def test_a_change_of_type_begins_anew(type: str, before: str):
    nodes = [candidate("a"), candidate("b", 2)]
    after = build(type, nodes, build(before, nodes))
    assert sorted(all_in_turn(after)) == ["a", "b"]


def test_the_simplest_that_does_is_made():
    assert isinstance(build("roundrobin", [candidate("a"), candidate("b", 0)]), Only)
    assert isinstance(build("roundrobin", [candidate("a"), candidate("b")]), RoundRobin)


def test_an_unknown_type_is_refused_by_name():
    with pytest.raises(ValueError, match="'random' is not one of roundrobin, chash, ewma, least_conn"):
        build("random", [candidate("a")])
