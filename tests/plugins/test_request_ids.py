"""The ways to make an id."""

from __future__ import annotations

import itertools
import re
import uuid
from collections import Counter
from collections.abc import Callable

import pytest

from gw.plugins.request_ids import from_alphabet, ksuid, nanoid, uuid4
from tests.support.finished import SteadyClock


def drawing(*pieces: int) -> Callable[[int], bytes]:
    """Entropy that comes round again."""
    numbers = itertools.cycle(pieces)
    return lambda count: bytes(itertools.islice(numbers, count))


@pytest.mark.parametrize("number", [0x00, 0xFF, 0x5A])
def test_a_uuid_is_one_of_version_4(number: int):
    made = uuid.UUID(text := uuid4(drawing(number))())
    assert str(made) == text
    assert (made.version, made.variant) == (4, uuid.RFC_4122)
    kept = 0x0FFF << 64 | 0x3FFF << 48 | ~(0xFFFFFFFF << 48)
    assert made.int & kept & (1 << 128) - 1 == int.from_bytes(bytes([number]) * 16, "big") & kept


def test_a_nanoid_has_21_characters_of_a_url():
    assert re.fullmatch(r"[A-Za-z0-9_-]{21}", nanoid()())


def test_ids_differ():
    for make in (uuid4(), nanoid(), from_alphabet("abcdef", 16), ksuid(SteadyClock())):
        assert len({make() for _ in range(200)}) == 200


def test_every_character_of_an_alphabet_is_as_likely():
    alphabet = "abcdefg"  # does not divide 256
    counted = Counter(from_alphabet(alphabet, 252, lambda count: bytes(range(256)) * (count // 256 + 1))())
    assert set(counted) == set(alphabet)
    assert len(set(counted.values())) == 1


def test_what_the_alphabet_does_not_divide_is_drawn_again():
    assert from_alphabet("abcdefg", 6, drawing(255, 254, 253, 252, 0, 1))() == "ababab"


@pytest.mark.parametrize(("length", "alphabet"), [(6, "abcdef"), (256, "!#$%~a"), (16, "aaaaaa"), (7, "ab" * 128)])
def test_a_range_id_has_the_length_it_is_asked_for(length: int, alphabet: str):
    made = from_alphabet(alphabet, length)()
    assert len(made) == length
    assert set(made) <= set(alphabet)


# The example of apisix's docs/en/latest/plugins/request-id.md, which shows what it consists of.
def test_a_ksuid_is_the_second_and_16_bytes_in_base_62():
    raw = bytes.fromhex("15430DBBD7F68AD7CA0AE277772AB36DDB1A3C13")
    made = ksuid(SteadyClock(1_400_000_000 + int.from_bytes(raw[:4], "big") + 0.9), lambda count: raw[4:])()
    assert made == "325ghCANEKjw6Jsfejg5p6QrLYB"


def test_ksuids_sort_by_time():
    clock = SteadyClock()
    make = ksuid(clock)
    made = []
    for _ in range(5):
        made.append(make())
        clock.wall_s += 1
    assert made == sorted(made)
    assert {len(id) for id in made} == {27}
