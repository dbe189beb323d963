"""Groups by priority: a lower one is used when all of the higher ones were tried, or are down.

Source: apisix/balancer/priority.lua. Who is down is in no group, and a group that is all down is not there.
"""

from collections.abc import Sequence
from typing import TypeVar

from gw.balancer.base import Balancer

T = TypeVar("T")


class Priority(Balancer[T]):
    """Picks from the first group that has a candidate which was not tried."""

    __slots__ = ("_first", "groups", "needs_done", "needs_key")

    def __init__(self, groups: Sequence[Balancer[T]]) -> None:
        """`groups`: at least one, the highest priority first, none empty, no candidate in two."""
        self.groups = groups
        self._first = groups[0]
        self.needs_key = any(group.needs_key for group in groups)
        self.needs_done = any(group.needs_done for group in groups)

    def pick(self, key: bytes = b"", tried: Sequence[T] = ()) -> T | None:
        """Return a candidate of the highest priority possible; None when all of all groups were tried."""
        if not tried:
            return self._first.pick(key)
        for group in self.groups:
            picked = group.pick(key, tried)
            if picked is not None:
                return picked
        return None

    def done(self, candidate: T, started_s: float, ended_s: float, ok: bool) -> None:
        """Tell the first group: what is counted is shared by all of them."""
        self._first.done(candidate, started_s, ended_s, ok)
