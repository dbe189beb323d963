"""The ring of consistent hashing: names on a circle of 2^32 positions, those of APISIX and of nginx's `consistent`.

Each name has 160 points per unit of weight (weights over their greatest common divisor): each is the CRC32 of the name
and of the point before, 32 bits little endian, beginning at 0. A key belongs to the next point at or after its own
CRC32. So a fleet in which APISIX serves as well, or did until yesterday, sends a key to the node whose cache has it.
Source: lua-resty-chash 0.04, apisix/balancer/chash.lua; t/node/chash-balance.t there pins where keys go.

A name's points follow from the name alone, so when another name leaves or joins, no key moves but from or to that one.

To draw a name's points takes some 30 us, and cannot be done for a part of the circle: with 1,000 names the first pick
holds the event loop for that long. Rings that follow one another hand them on. What would double that is done an arc
at a time, 32 of them, when a key first falls on one: to put the points of all names in order.

Memory: 12 bytes a point, so 1,920 bytes for each name and unit of weight. Where weights ask for too many points, all
have half as many, or a quarter, ... (`points_for`); there keys go elsewhere than in APISIX, which draws them all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
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
    """`count` positions in order. A larger count has the same ones and more, so more weight takes and gives nothing."""
    of_name, position = crc32(name), 0
    return array("I", sorted([position := crc32(position.to_bytes(4, "little"), of_name) for _ in range(count)]))
