"""Consistent hashing: a key goes to the same candidate on every worker, every host and after every restart.

Source: apisix/balancer/chash.lua. A candidate that was tried, or is down, gives its keys to whoever comes next on the
ring, and every other key stays where it is. What the key is made of is the caller's business.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import chain
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

    def __init__(self, candidates: Sequence[Weighted[T]], rings: Iterable[Ring] = ()) -> None:
        """`rings`: those of the balancers that this one follows. Where one serves, a candidate that went down or came
        up again costs no new ring. Raises ValueError for a candidate without a name.
        """
        by_name = {each.name: each for each in candidates}
        if b"" in by_name:
            raise ValueError(f"{by_name[b''].candidate!r} has no name, and hashing knows a candidate by nothing else")
        points = points_for({name: each.weight for name, each in by_name.items()})
        self.ring = next((ring for ring in rings if ring.covers(points)), None) or Ring(points)
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
        """From a point on, along its arc and round it; then, as a light candidate may have none there, on the next."""
        if all(owner is None or owner in tried for owner in self._owners):
            return None
        while True:
            arc = self.ring.arc(number)
            for point in chain(arc[at:], arc[:at]):
                owner = self._owners[point & OWNER_MASK]
                if owner is not None and owner not in tried:
                    return owner
            number, at = (number + 1) % ARCS, 0
