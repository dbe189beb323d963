"""The ring of consistent hashing: names on a circle of 2^32 positions, worked out an arc at a time.

Each name has 160 points per unit of weight, as in lua-resty-chash (weights over their greatest common divisor). They
are drawn evenly: 5 on each of the 32 arcs. A key belongs to the next point on its own arc, and past the last one to the
arc's first, so an arc is all that a lookup needs. It is made when a key first falls on it: with 1,000 names a ring at
once would hold the event loop for 150 ms, an arc takes 4.

A name's points follow from the name alone, so when another name leaves or joins, no key moves but from or to that one.
They come from blake2b: CRC32 of name#1, name#2, ... differs by the same bits for all similar names (10.0.0.1:80,
10.0.0.2:80), and ten such nodes got between 38 % and 214 % of their shares (a standard deviation of 55 %).
lua-resty-chash makes each point from the one before by CRC32, which spreads as well as blake2b does (8 %, what chance
gives with 160 points), but an arc could not be made alone then, and takes 160 calls for each name where this takes 32.
For keys CRC32 does: the points are spread already.

Memory: 8 bytes a point, so 1,280 bytes for each name and unit of weight, and 2.5 KB for the arcs. Where weights ask for
too many points, all have half as many, or a quarter, ... (`points_for`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from math import gcd
from struct import unpack_from
from typing import Final

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
_DIGEST_POINTS: Final = 16  # 32 bits each of blake2b's 64 bytes


# Where a name has not as many points on each arc, who has the lower turn gets one more first: arcs that lie far apart,
# and always the same ones, so that more weight takes no point away.
_TURN: Final = [int(f"{arc:0{ARC_BITS}b}"[::-1], 2) for arc in range(ARCS)]


def points_for(weights: Mapping[bytes, int]) -> dict[bytes, int]:
    """How many points each name has on the whole ring. Weights are 1 or more."""
    if not weights:
        return {}
    divisor = gcd(*weights.values())
    most = _MOST_POINTS if len(weights) <= _FEW else _MOST_POINTS_OF_MANY
    halvings = ((max(weights.values()) // divisor * POINTS - 1) // most).bit_length()
    return {name: max(1, weight // divisor * POINTS >> halvings) for name, weight in weights.items()}


class Ring:
    """Points of names. Read only, so balancers that follow one another can share it."""

    __slots__ = ("arcs", "names", "points")

    def __init__(self, points: Mapping[bytes, int]) -> None:
        """`points`: see `points_for`."""
        self.points = points
        # In order, so that an owner's number, which decides between equal positions, follows from the names alone.
        self.names = sorted(points)
        self.arcs: list[array[int] | None] = [None] * ARCS

    def arc(self, number: int) -> array[int]:
        """The points of an arc in order, made at first use: position << OWNER_BITS | place of the owner in `names`."""
        made = self.arcs[number]
        if made is None:
            start = number << _POSITION_BITS
            points: list[int] = []
            for owner, name in enumerate(self.names):
                count = self.points[name] // ARCS + (_TURN[number] < self.points[name] % ARCS)
                drawn = _draw(name, number, count)
                points += [(start | each >> ARC_BITS) << OWNER_BITS | owner for each in drawn]
            points.sort()
            made = self.arcs[number] = array("Q", points)
        return made

    def covers(self, points: Mapping[bytes, int]) -> bool:
        """Whether this ring, without the names that are not in `points`, is the ring of `points`.

        Where more than half would have to be left out, passing over them costs more than another ring.
        """
        return 2 * len(points) >= len(self.names) and all(self.points.get(name) == points[name] for name in points)


def _draw(name: bytes, arc: int, count: int) -> Iterable[int]:
    """`count` numbers of 32 bits. A larger count begins with the same ones, so more weight takes and gives nothing."""
    if count <= _DIGEST_POINTS:
        return unpack_from(f"<{count}I", blake2b(name, salt=arc.to_bytes(8, "little")).digest())
    digests = (
        blake2b(name, salt=(block << ARC_BITS | arc).to_bytes(8, "little")).digest()
        for block in range(-(-count // _DIGEST_POINTS))
    )
    return unpack_from(f"<{count}I", b"".join(digests))
