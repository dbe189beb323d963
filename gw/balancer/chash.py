"""Consistent hashing: a key goes to the same candidate on every worker, every host and after every restart.

Source: apisix/balancer/chash.lua, on the same ring (`gw.balancer.ring`). A candidate that was tried, or is down, gives
its keys to whoever comes next on the ring, and every other key stays where it is. What the key is made of is the
caller's business.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar
from zlib import crc32

from gw.balancer.base import Balancer, Weighted
from gw.balancer.ring import ARC_BITS, ARCS, OWNER_BITS, OWNER_MASK, Ring, points_for

T = TypeVar("T")

_ARC_SHIFT: Final = 32 - ARC_BITS


class ConsistentHash(Balancer[T]):
    """Picks by key."""

    __slots__ = ("_owners", "ring")
    needs_key = True
    needs_done = False

    def __init__(
        self, candidates: Sequence[Weighted[T]], rings: Sequence[Ring] = (), points: Mapping[bytes, int] | None = None
    ) -> None:
        """`rings`: those of the balancers that this one follows. Where one serves, a candidate that went down or came
        up again costs no new ring. `points`: of these and of those that are down, because a weight that is missing can
        change what all weights are divided by, and with it the points of everybody. Raises ValueError for a candidate
        without a name.
        """
        by_name = {each.name: each for each in candidates}
        if b"" in by_name:
            raise ValueError(f"{by_name[b''].candidate!r} has no name, and hashing knows a candidate by nothing else")
        if points is None:
            points = points_for({name: each.weight for name, each in by_name.items()})
        up = {name: points[name] for name in by_name}
        self.ring = next((ring for ring in rings if ring.covers(up)), None) or Ring(up, rings)
        self._owners = [by_name[name].candidate if name in by_name else None for name in self.ring.names]

    def pick(self, key: bytes = b"", tried: Sequence[T] = ()) -> T | None:
        """Return the candidate of a key, None when there is none but those that were tried."""
        position = crc32(key)
        arc = self.ring.arcs[position >> _ARC_SHIFT] or self.ring.arc(position >> _ARC_SHIFT)
        at = bisect_left(arc, position << OWNER_BITS)
        if not tried and at < len(arc):
            owner = self._owners[arc[at] & OWNER_MASK]
            if owner is not None:
                return owner
        return self._onwards(position >> _ARC_SHIFT, at, tried)

    def _onwards(self, number: int, at: int, tried: Sequence[T]) -> T | None:
        """From a point on, and all the way round."""
        if all(owner is None or owner in tried for owner in self._owners):
            return None
        while True:
            for point in self.ring.arc(number)[at:]:
                owner = self._owners[point & OWNER_MASK]
                if owner is not None and owner not in tried:
                    return owner
            number, at = (number + 1) % ARCS, 0
