"""Which idle connection serves next, and which is one too many. Decides only: opens and closes nothing.

Per target the newest idle connection is used first, so that what a burst opened grows old together and times out.
"""

from typing import Generic, TypeVar

from gw.upstream.target import Target

C = TypeVar("C")


class IdlePool(Generic[C]):
    """The idle connections of one worker. A connection is in here only while nobody uses it."""

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        # dict: insertion order is age, and a connection that ends while idle leaves in O(1).
        self._idle: dict[Target, dict[C, None]] = {}

    def take(self, target: Target) -> C | None:
        """Hand out the connection that was used last; it is no longer idle."""
        idle = self._idle.get(target)
        return idle.popitem()[0] if idle else None

    def put(self, target: Target, connection: C, max_idle: int) -> C | None:
        """Keep a connection; return the one to close for it: the oldest, or itself when none may be kept."""
        if max_idle < 1:
            return connection
        idle = self._idle.get(target)
        if idle is None:
            idle = self._idle[target] = {}
        idle[connection] = None
        if len(idle) <= max_idle:
            return None
        oldest = next(iter(idle))
        del idle[oldest]
        return oldest

    def holds(self, target: Target, connection: C) -> bool:
        """Whether it waits for work."""
        return connection in self._idle.get(target, ())

    def discard(self, target: Target, connection: C) -> None:
        """Forget a connection, idle or not. The last of a target takes the target's entry with it."""
        idle = self._idle.get(target)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[target]

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def __repr__(self) -> str:
        held = ", ".join(f"{t.host}:{t.port}{' tls' if t.tls else ''}={len(i)}" for t, i in self._idle.items() if i)
        return f"<IdlePool {held or 'empty'}>"
