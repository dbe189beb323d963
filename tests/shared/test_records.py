"""The byte format: one example of each kind pinned, and keys of every length told apart."""

import pytest

from gw.shared.records import (
    HEAD_OF_LONG_KEY,
    NEVER,
    Record,
    index_key,
    index_key_of,
    pack_counter,
    pack_record,
    stored_key,
    stored_prefix,
    unpack_counter,
    unpack_record,
)

LENGTHS = [1, 2, HEAD_OF_LONG_KEY - 1, HEAD_OF_LONG_KEY, 509, 510, 511, 5000]


def test_the_bytes_are_what_the_module_says():
    record = Record(0x0102030405060708, 9, b"a", pack_counter(-2))
    packed = pack_record(stored_key(b"a"), record)
    assert stored_key(b"a").hex() == "6561"
    assert packed.hex() == "0807060504030201" + "0900000000000000" + "feffffffffffffff"
    assert index_key_of(packed).hex() == "78" + "0102030405060708" + "0000000000000009"


def test_a_longer_key_stands_hashed_with_the_key_beside_its_value():
    key = bytes(511)
    stored = stored_key(key)
    packed = pack_record(stored, Record(1, 2, key, b"value"))
    assert len(stored) == 511
    assert stored.startswith(b"e" + key[:HEAD_OF_LONG_KEY])
    assert packed[16:20].hex() == "ff010000"
    assert packed.endswith(key + b"value")


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_packed_is_unpacked(length):
    key = b"k" * length
    record = Record(NEVER, 7, key, b"v" * 30)
    assert unpack_record(stored_key(key), pack_record(stored_key(key), record)) == record
    assert stored_key(key).startswith(stored_prefix(key))


def test_no_two_keys_are_stored_as_one():
    keys = [b"k" * length for length in range(1, 1200)]
    keys += [stored_key(b"k" * 600)[1:], stored_key(b"k" * 600)]
    stored = [stored_key(key) for key in keys]
    assert len(set(stored)) == len(set(keys))
    assert max(map(len, stored)) == 511


def test_an_empty_key_is_refused():
    with pytest.raises(ValueError):
        stored_key(b"")


@pytest.mark.parametrize(("number", "kept"), [(2**63, 2**63 - 1), (-(2**70), -(2**63) + 1), (0, 0), (-5, -5)])
def test_a_counter_stops_at_the_ends(number, kept):
    assert unpack_counter(pack_counter(number)) == kept


def test_the_order_of_the_index_is_that_of_expiry_then_of_writing():
    moments = [(1, 9), (2, 1), (2, 2), (256, 0), (2**40, 0), (NEVER, 3), (NEVER, 4)]
    keys = [index_key(*moment) for moment in moments]
    assert keys == sorted(keys)
