"""What one process sees: values, counters, expiry, the bound. Time is moved by hand."""

import random

import pytest

from gw.shared.store import MAX_VALUE_BYTES, Count, SharedStore
from tests.shm.world import HandClock

SMALL = 4 << 20


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def store(directory, clock):
    store = SharedStore.open(directory, 8 << 20, clock)
    yield store
    store.close()


@pytest.fixture
def small(directory, clock):
    """As small as gw.shared_state.size may be."""
    store = SharedStore.open(directory, SMALL, clock)
    yield store
    store.close()


def test_a_value_is_there_until_it_expires(store, clock):
    assert store.get(b"key") is None
    store.put(b"key", b"value", ttl_s=5)
    assert store.get(b"key") == b"value"
    clock.now_s += 4.9
    assert store.get(b"key") == b"value"
    clock.now_s += 0.1
    assert store.get(b"key") is None
    assert store.items(b"") == []


def test_a_value_without_a_time_stays(store, clock):
    store.put(b"key", b"value")
    clock.now_s += 1e9
    assert store.get(b"key") == b"value"


def test_delete_takes_away_and_forgives(store):
    store.put(b"key", b"value")
    store.delete(b"key")
    store.delete(b"key")
    assert store.get(b"key") is None
    assert store.usage().entries == 0


def test_put_sets_value_and_time_anew(store, clock):
    store.put(b"key", b"one", ttl_s=1)
    store.put(b"key", b"longer than one", ttl_s=10)
    clock.now_s += 5
    assert store.get(b"key") == b"longer than one"
    assert store.usage().entries == 1


def test_an_empty_value_is_a_value(store):
    store.put(b"key", b"")
    assert store.get(b"key") == b""


def test_update_gets_what_is_there_and_sets_what_it_returns(store, clock):
    seen = []

    def append(value):
        seen.append(value)
        return (value or b"") + b"x", 2

    assert store.update(b"key", append) == b"x"
    assert store.update(b"key", append) == b"xx"
    clock.now_s += 2
    assert store.update(b"key", append) == b"x"
    assert seen == [None, b"x", None]
    assert store.update(b"key", lambda _: (None, None)) is None
    assert store.get(b"key") is None


def test_what_an_update_raises_leaves_everything_as_it_was(store):
    store.put(b"key", b"value")

    def fail(_):
        raise RuntimeError("of the caller's")

    with pytest.raises(RuntimeError):
        store.update(b"key", fail)
    with pytest.raises(ValueError):
        store.put(b"key", bytes(MAX_VALUE_BYTES + 1))
    assert store.get(b"key") == b"value"


def test_a_counter_counts_within_the_time_it_was_made_with(store, clock):
    assert store.increment(b"key", 1, ttl_s=10) == Count(1, 10)
    clock.now_s += 4
    assert store.increment(b"key", 2, ttl_s=99) == Count(3, 6)
    clock.now_s += 6
    assert store.increment(b"key", 1, ttl_s=10, initial=-5) == Count(-4, 10)


@pytest.mark.parametrize("length", [1, 600])
@pytest.mark.parametrize("ttl_s", [10, float("1e30")])
@pytest.mark.parametrize("by", [1, -7, 2**62, 2**70, -(2**70)])
def test_a_counter_in_place_counts_as_any_other(store, clock, length, ttl_s, by):
    """The key is short or hashed, the time ends or does not, the number stays within 64 bits or meets their end."""
    key, most, number = b"k" * length, 2**63 - 1, 5
    assert store.increment(key, 0, ttl_s, initial=number).value == number
    for _ in range(4):
        number = max(-most, min(number + by, most))
        count = store.increment(key, by, ttl_s)
        assert count.value == number
        assert count.remaining_s == (10 if ttl_s == 10 else float("inf"))
    clock.now_s += 10
    assert (store.increment(key, 3, ttl_s).value == 3) == (ttl_s == 10)


def test_what_is_no_counter_is_not_counted(store):
    store.put(b"key", b"no number")
    with pytest.raises(ValueError):
        store.increment(b"key", 1, ttl_s=1)
    assert store.get(b"key") == b"no number"


@pytest.mark.parametrize("length", [1, 478, 479, 509, 510, 511, 4000])
def test_keys_of_any_length(store, length):
    key = b"k" * length
    store.put(key, b"v")
    store.put(key + b"2", b"other")
    assert store.get(key) == b"v"
    assert store.increment(key + b"#", 1, ttl_s=1).value == 1
    assert store.increment(key + b"#", 1, ttl_s=1).value == 2
    assert {found for found, _ in store.items(key)} == {key, key + b"2", key + b"#"}
    store.delete(key)
    assert store.get(key) is None


def test_items_are_those_of_the_prefix_that_did_not_expire(store, clock):
    for number in range(5):
        store.put(b"a/%d" % number, b"%d" % number, ttl_s=1 if number % 2 else None)
        store.put(b"b/%d" % number, b"", ttl_s=1)
    clock.now_s += 1
    assert store.items(b"a/") == [(b"a/0", b"0"), (b"a/2", b"2"), (b"a/4", b"4")]
    assert store.items(b"b/") == []
    assert store.items(b"c") == []
    assert len(store.items(b"")) == 3


def test_the_expired_make_room_without_being_asked_for(store, clock):
    for number in range(1000):
        store.put(b"old %d" % number, b"", ttl_s=1)
    clock.now_s += 1
    for number in range(600):
        store.put(b"new %d" % number, b"", ttl_s=1)
    usage = store.usage()
    assert usage.entries == 600
    assert usage.evictions == 0


def test_when_full_those_that_expire_first_make_room(small):
    """Short-lived entries are written last and go first all the same."""
    for number in range(300):
        small.put(b"long %d" % number, bytes(400), ttl_s=1000)
    for number in range(20_000):
        small.put(b"short %d" % number, bytes(400), ttl_s=1 + number * 1e-3)
    usage = small.usage()
    assert usage.evictions > 0
    assert usage.used_bytes <= usage.size_bytes == SMALL
    assert len(small.items(b"long ")) == 300
    assert small.get(b"short 19999") is not None
    assert small.get(b"short 0") is None
    assert usage.entries + usage.evictions == 20_300


def test_entries_without_a_time_go_oldest_first_and_after_the_others(small):
    small.put(b"with a time", b"", ttl_s=1e9)
    for number in range(20_000):
        small.put(b"%06d" % number, bytes(400))
    kept = sorted(key for key, _ in small.items(b"0"))
    assert kept == [b"%06d" % number for number in range(20_000 - len(kept), 20_000)]
    assert small.get(b"with a time") is None


def test_no_load_is_an_error_and_a_counter_in_use_survives_it(small, clock):
    """Values of all sizes at random, far more than fit; no call raises, and the map is never replaced."""
    rng = random.Random(7)
    inode = small._inode
    counted = 0
    for number in range(6000):
        size = rng.choice((0, 10, 300, 3000, 20_000, MAX_VALUE_BYTES))
        small.put(b"%d" % rng.randrange(3000), bytes(size), ttl_s=rng.choice((1, 60, 600)))
        if number % 10 == 0:
            counted += 1
            assert small.increment(b"counter", 1, ttl_s=1e6).value == counted
        clock.now_s += 0.01
    assert small._inode == inode
    assert small.usage().evictions > 0


def test_closing_twice_is_no_error(directory, clock):
    store = SharedStore.open(directory, SMALL, clock)
    store.close()
    store.close()
