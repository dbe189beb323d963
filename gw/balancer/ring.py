"""The ring of consistent hashing: names on a circle of 2^32 positions, those of APISIX and of nginx's `consistent`.

Each name has 160 points per unit of weight (weights over their greatest common divisor): each is the CRC32 of the name
and of the point before, 32 bits little endian, beginning at 0. A key belongs to the next point at or after its own
CRC32. So a fleet in which APISIX serves as well, or did until yesterday, sends a key to the node whose cache has it.
Source: lua-resty-chash 0.04, apisix/balancer/chash.lua; t/node/chash-balance.t there pins where keys go.

A name's points follow from the name alone, so when another name leaves or joins, no key moves but from or to that one.

The points of all names are put in order an arc at a time, 32 of them, when a key first falls on one: with 1,000 names
a ring at once would hold the event loop for 150 ms, an arc takes 3. A name's points cannot be drawn for one arc alone,
and one by one they would take 30 us a name; but CRC32 is linear, so that the first 160 are a sum of what the bits of
the name's own CRC32 come to (`_draw`). Sorted, they take some 15 us a name, at the first pick; rings that follow one
another hand them on.

Memory: 12 bytes a point, so 1,920 bytes for each name and unit of weight. Where weights ask for too many points, all
have half as many, or a quarter, ... (`points_for`); there keys go elsewhere than in APISIX, which draws them all.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice, product
from math import gcd
from typing import Final
from zlib import crc32

ARC_BITS: Final = 5
ARCS: Final = 1 << ARC_BITS
POINTS: Final = 160
# Of the heaviest name, on the whole ring: weights like 97 and 100 would otherwise ask for 32,000 points for two names.
# By the heaviest, and not by all together: then no other one changes anybody's points when it leaves or joins.
_MOST_POINTS: Final = 4096
# With more names than these an arc takes long enough, and each name matters less.
_FEW: Final = 16
_MOST_POINTS_OF_MANY: Final = 1024
# How a point is kept: its position above, which name it is below. Over a million names do not fit anyway.
OWNER_BITS: Final = 20
OWNER_MASK: Final = (1 << OWNER_BITS) - 1
_POSITION_BITS: Final = 32 - ARC_BITS


def points_for(weights: Mapping[bytes, int]) -> dict[bytes, int]:
    """How many points each name has on the whole ring. Weights are 1 or more."""
    if not weights:
        return {}
    divisor = gcd(*weights.values())
    most = _MOST_POINTS if len(weights) <= _FEW else _MOST_POINTS_OF_MANY
    halvings = ((max(weights.values()) // divisor * POINTS - 1) // most).bit_length()
    return {name: max(1, weight // divisor * POINTS >> halvings) for name, weight in weights.items()}


class Ring:
    """Points of names. Nothing is written but what is drawn, so balancers that follow one another can share it."""

    __slots__ = ("_drawn", "arcs", "names", "points")

    def __init__(self, points: Mapping[bytes, int], before: Iterable[Ring] = ()) -> None:
        """`points`: see `points_for`. `before`: rings whose names need not be drawn again."""
        self.points = points
        # In order, so that an owner's number, which decides between equal positions, follows from the names alone.
        self.names = sorted(points)
        self.arcs: list[array[int] | None] = [None] * ARCS
        self._drawn: dict[bytes, array[int]] = {
            name: drawn for ring in before for name, drawn in ring._drawn.items() if points.get(name) == len(drawn)
        }

    def arc(self, number: int) -> array[int]:
        """The points of an arc in order, made at first use: position << OWNER_BITS | place of the owner in `names`."""
        made = self.arcs[number]
        if made is None:
            start, end = number << _POSITION_BITS, number + 1 << _POSITION_BITS
            points: list[int] = []
            for owner, name in enumerate(self.names):
                drawn = self._drawn.get(name)
                if drawn is None:
                    drawn = self._drawn[name] = _draw(name, self.points[name])
                here = drawn[bisect_left(drawn, start) : bisect_left(drawn, end)]
                points += [position << OWNER_BITS | owner for position in here]
            points.sort()
            made = self.arcs[number] = array("Q", points)
        return made

    def covers(self, points: Mapping[bytes, int]) -> bool:
        """Whether this ring, without the names that are not in `points`, is the ring of `points`.

        Where more than half would have to be left out, passing over them costs more than another ring.
        """
        return 2 * len(points) >= len(self.names) and all(self.points.get(name) == points[name] for name in points)


def _draw(name: bytes, count: int) -> array[int]:
    """`count` positions in order. A larger count has the same ones and more, so more weight takes and gives nothing.

    PERF: tests/balancer/test_chash.py holds it equal to `_one_by_one`; bench/balancer.py has the gain (first_us).
    """
    of_name, first = crc32(name), 0
    for place, sums in enumerate(_sums()):
        first ^= sums[of_name >> 4 * place & 15]
    drawn = array("I", first.to_bytes(4 * POINTS, sys.byteorder))
    if count > POINTS:
        drawn.extend(islice(_one_by_one(of_name, drawn[-1]), count - POINTS))
    return array("I", sorted(drawn[:count]))


def _one_by_one(of_name: int, position: int = 0) -> Iterator[int]:
    """The positions of the name whose CRC32 is `of_name`, those that come after `position`."""
    while True:
        position = crc32(position.to_bytes(4, "little"), of_name)
        yield position


@cache
def _sums() -> list[list[int]]:
    """What each half byte of a name's CRC32 adds (xor) to its first POINTS positions, these as one large number.

    Positions are affine in the CRC32 over GF(2): those of 0 are in the first of the lists, whatever its half byte.
    """

    def all_at_once(of_name: int) -> int:
        return int.from_bytes(array("I", islice(_one_by_one(of_name), POINTS)).tobytes(), sys.byteorder)

    of_none = all_at_once(0)
    bits = [all_at_once(1 << bit) ^ of_none for bit in range(32)]
    sums = [[0] * 16 for _ in range(8)]
    for place, half_byte in product(range(8), range(16)):
        for bit in range(4):
            if half_byte >> bit & 1:
                sums[place][half_byte] ^= bits[4 * place + bit]
    sums[0] = [each ^ of_none for each in sums[0]]
    return sums
