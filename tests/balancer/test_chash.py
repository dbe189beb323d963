import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from math import sqrt
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.balancer.base import Weighted
from gw.balancer.chash import ConsistentHash
from gw.balancer.ring import ARCS, OWNER_MASK, Ring, _draw, _one_by_one, points_for

ROOT = Path(__file__).parents[2]
# As hosts of one rack, and as ports of one host: names that differ little.
RACK = [f"10.0.0.{number}:80" for number in range(1, 11)]
PORTS = [f"127.0.0.1:{port}" for port in range(1980, 1990)]
KEYS = [b"user-%05d" % number for number in range(20_000)]


def chash(weights: Mapping[str, int] | Sequence[str], rings: Sequence[Ring] = ()) -> ConsistentHash[str]:
    weighted = weights if isinstance(weights, Mapping) else dict.fromkeys(weights, 1)
    return ConsistentHash([Weighted(name, weight, name.encode()) for name, weight in weighted.items()], rings)


def mapping(balancer: ConsistentHash[str], keys: Sequence[bytes] = KEYS) -> list[str | None]:
    return [balancer.pick(key) for key in keys]


def shares(ring: Ring) -> dict[bytes, float]:
    """How much of the circle belongs to each name, exactly."""
    counts = dict.fromkeys(ring.names, 0)
    arc_length = 1 << 52 - 5  # positions of 32 bits, shifted by 20 for the owner
    for number in range(ARCS):
        points = ring.arc(number)
        last = points[-1] - arc_length
        for point in points:
            counts[ring.names[point & OWNER_MASK]] += point - last
            last = point
    return {name: count / (ARCS * arc_length) for name, count in counts.items()}


@pytest.mark.parametrize(
    "names", [RACK, PORTS, [f"10.0.1.{number}:80" for number in range(100)]], ids=["rack", "ports", "hundred"]
)
def test_equal_weights_get_about_equal_shares(names: list[str]):
    """What chance gives with 160 points each is a standard deviation of 1 / sqrt(160), 8 %."""
    off = [share * len(names) - 1 for share in shares(chash(names).ring).values()]
    assert sqrt(sum(each * each for each in off) / len(off)) < 0.11
    assert max(map(abs, off)) < 0.26


@pytest.mark.parametrize(
    "weights",
    [{"a:80": 1, "b:80": 2, "c:80": 5}, {"a:80": 100, "b:80": 300}, {"a:80": 97, "b:80": 100, "c:80": 211}],
)
def test_shares_follow_weights(weights: dict[str, int]):
    total = sum(weights.values())
    of = shares(chash(weights).ring)
    assert {name: pytest.approx(weight / total, rel=0.12) for name, weight in weights.items()} == {
        name.decode(): share for name, share in of.items()
    }


KEY_SETS = {
    "addresses": [b"10.1.%d.%d" % divmod(number, 250) for number in range(20_000)],
    "numbers": [b"%d" % number for number in range(20_000)],
    "names": KEYS,
    "uris": [b"/api/v1/items/%d?x=1" % number for number in range(20_000)],
}


@pytest.mark.parametrize("keys", KEY_SETS.values(), ids=KEY_SETS)
def test_keys_fall_evenly_on_the_ring(keys: list[bytes]):
    """Pearson's chi-square against the shares of the circle: 9 degrees of freedom, 27.9 in one of a thousand."""
    balancer = chash(RACK)
    counts = Counter(mapping(balancer, keys))
    expected = {name.decode(): share * len(keys) for name, share in shares(balancer.ring).items()}
    assert sum((counts[name] - due) ** 2 / due for name, due in expected.items()) < 27.9


GOLDEN = {
    b"": "10.0.0.6:80",
    b"10.1.2.3": "10.0.0.10:80",
    b"/hello": "10.0.0.3:80",
    b"user-00001": "10.0.0.5:80",
    b"user-00003": "10.0.0.6:80",  # past the last point of its arc
    b"jack": "10.0.0.5:80",
    "Jürgen".encode(): "10.0.0.6:80",
}


@given(st.binary(max_size=40), st.sampled_from([1, 80, 159, 160, 161, 320, 4096]))
def test_points_are_those_that_are_drawn_one_by_one(name: bytes, count: int):
    assert list(_draw(name, count)) == sorted(islice(_one_by_one(crc32(name)), count))


def test_the_mapping_is_pinned():
    """Hosts of a fleet run different versions while it is brought up to date: they must agree."""
    assert {key: chash(RACK).pick(key) for key in GOLDEN} == GOLDEN


@pytest.mark.parametrize(
    ("ports", "keys", "counts"),
    [
        (2, ["127.0.0.1"], {1980: 1}),
        (3, ["127.0.0.1"], {1982: 1}),
        (3, [f"var=2&var2={number}" for number in range(1, 19)], {1980: 5, 1981: 8, 1982: 5}),
        (3, [str(number) for number in range(1, 19)], {1980: 6, 1981: 7, 1982: 5}),
        (2, ["jack"], {1981: 1}),
        (2, ["tom"], {1980: 1}),
        (2, ["custom-one"], {1980: 1}),
        (2, ["cuscookie"], {1981: 1}),
        (2, ["custom-one-custom-two"], {1980: 1}),
        (2, [f"chash_val_{number}" for number in range(1, 7)], {1980: 3, 1981: 3}),
    ],
)
def test_keys_go_where_apisix_sends_them(ports: int, keys: list[str], counts: dict[int, int]):
    """What APISIX measured with nodes 127.0.0.1:1980 and on: t/node/chash-balance.t and chash-hashon.t there."""
    balancer = chash([f"127.0.0.1\x00{1980 + each}" for each in range(ports)])
    picked = Counter(balancer.pick(key.encode()) for key in keys)
    assert picked == {f"127.0.0.1\x00{port}": count for port, count in counts.items()}


PROGRAM = """
from tests.balancer.test_chash import GOLDEN, KEYS, RACK, chash, mapping
import sys
print(";".join(mapping(chash(list(reversed(RACK))), KEYS[:500])), end="")
"""


def test_another_process_with_another_order_and_hash_seed_maps_the_same():
    expected = ";".join(map(str, mapping(chash(RACK), KEYS[:500])))
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        answer = subprocess.check_output([sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, text=True)
        assert answer == expected


@pytest.mark.parametrize("weights", [dict.fromkeys(RACK, 1), dict.fromkeys(RACK, 100), dict.fromkeys(RACK, 7)])
def test_only_the_keys_of_who_leaves_move_and_they_come_back(weights: dict[str, int]):
    before = mapping(chash(weights))
    left = mapping(chash({name: weight for name, weight in weights.items() if name != RACK[3]}))
    assert all(was == now for was, now in zip(before, left, strict=True) if was != RACK[3])
    moved = Counter(now for was, now in zip(before, left, strict=True) if was == RACK[3])
    assert sum(moved.values()) / len(KEYS) == pytest.approx(0.1, abs=0.02)
    assert len(moved) == 9
    assert max(moved.values()) < 0.3 * sum(moved.values()), "they are spread over all the others"


def test_few_keys_move_when_a_weight_changes():
    before, after = (mapping(chash({**dict.fromkeys(RACK, 2), RACK[0]: weight})) for weight in (3, 5))
    moved = [(was, now) for was, now in zip(before, after, strict=True) if was != now]
    assert all(now == RACK[0] for _, now in moved), "more weight takes from the others, and moves nothing between them"
    assert len(moved) / len(KEYS) == pytest.approx(5 / 23 - 3 / 21, abs=0.02)


@pytest.mark.parametrize("leaving", [0, 3, 9])
def test_few_keys_move_where_weights_are_too_many_to_have_all_their_points(leaving: int):
    weights = {name: 9_001 + at for at, name in enumerate(RACK)}
    points = points_for({name.encode(): weight for name, weight in weights.items()})
    assert max(points.values()) <= 4096
    before = mapping(chash(weights))
    left = mapping(chash({name: weight for name, weight in weights.items() if name != RACK[leaving]}))
    assert all(was == now for was, now in zip(before, left, strict=True) if was != RACK[leaving])


@pytest.mark.parametrize(
    ("weights", "points"),
    [
        ({}, {}),
        ({b"a": 100}, {b"a": 160}),
        ({b"a": 100, b"b": 300}, {b"a": 160, b"b": 480}),
        ({b"a": 1, b"b": 25}, {b"a": 160, b"b": 4000}),
        ({b"a": 1, b"b": 99}, {b"a": 40, b"b": 3960}),
        ({b"a": 1, b"b": 1_000_003}, {b"a": 1, b"b": 2441}),
        ({b"%d" % name: name for name in range(6, 26)}, {b"%d" % name: name * 40 for name in range(6, 26)}),
    ],
)
def test_how_many_points(weights: dict[bytes, int], points: dict[bytes, int]):
    assert points_for(weights) == points


def test_one_so_light_that_most_arcs_have_no_point_of_it():
    balancer = chash({"a:80": 1, "b:80": 20_000})
    assert Counter(mapping(balancer))["a:80"] < 30
    assert {balancer.pick(key, ("b:80",)) for key in KEYS[:100]} == {"a:80"}
    assert balancer.pick(b"key", ("a:80", "b:80")) is None


def test_who_was_tried_hands_on_to_who_would_be_next_without_it():
    balancer, without = chash(RACK), chash(RACK[1:])
    for key in KEYS[:2000]:
        assert balancer.pick(key, (RACK[0],)) == without.pick(key)
    tried: tuple[str, ...] = ()
    while (picked := balancer.pick(b"key", tried)) is not None:
        assert picked not in tried
        tried = (*tried, picked)
    assert sorted(tried) == sorted(RACK)


def test_a_node_that_goes_down_and_comes_up_costs_no_ring():
    balancer = chash(RACK)
    before = mapping(balancer)
    down = chash(RACK[1:], [balancer.ring])
    assert down.ring is balancer.ring
    assert mapping(down) == mapping(chash(RACK[1:]))
    up = chash(RACK, [down.ring])
    assert up.ring is balancer.ring
    assert mapping(up) == before


@pytest.mark.parametrize(
    ("weights", "after"),
    [
        (dict.fromkeys(RACK, 1), dict.fromkeys(RACK[:4], 1)),  # most of it would be passed over
        ({"a:80": 2, "b:80": 4, "c:80": 3}, {"a:80": 2, "b:80": 4}),  # another divisor
        ({"a:80": 1, "b:80": 1}, {"a:80": 1, "b:80": 2}),
        ({"a:80": 1, "b:80": 1}, {"a:80": 1, "b:80": 1, "c:80": 1}),
    ],
)
def test_a_ring_that_does_not_fit_is_not_used(weights: dict[str, int], after: dict[str, int]):
    ring = chash(weights).ring
    following = chash(after, [ring])
    assert following.ring is not ring
    assert mapping(following, KEYS[:500]) == mapping(chash(after), KEYS[:500])


NAMES = [f"n{number}:80" for number in range(12)]


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4), min_size=1), min_size=2, max_size=6),
    st.lists(st.binary(max_size=12), max_size=20),
)
def test_the_mapping_follows_from_who_is_up_and_not_from_what_was(history: list[dict[str, int]], keys: list[bytes]):
    balancer = chash(history[0])
    for weights in history[1:]:
        balancer = chash(weights, [balancer.ring])
    assert mapping(balancer, keys) == mapping(chash(history[-1]), keys)


def test_a_candidate_without_a_name_is_refused():
    with pytest.raises(ValueError, match="'b' has no name"):
        ConsistentHash([Weighted("a", 1, b"a"), Weighted("b", 1)])
