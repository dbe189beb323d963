"""Which idle connection serves next, and which is one too many. Decides only: opens and closes nothing.

Per target the newest idle connection is used first, so that what a burst opened grows old together and times out.

Behind TLS a node has a target for each server name, and where that is the request's Host, clients choose it. So the
connections to one node are counted over all its names, too: nobody makes us hold more of them by asking for more names.
"""

from typing import Generic, TypeVar

from gw.upstream.target import Target

C = TypeVar("C")


class IdlePool(Generic[C]):
    """The idle connections of one worker. A connection is in here only while nobody uses it."""

    __slots__ = ("_idle", "_of_nodes")

    def __init__(self) -> None:
        # dict: insertion order is age, and a connection that ends while idle leaves in O(1).
        self._idle: dict[Target, dict[C, None]] = {}
        # Those behind TLS once more, by their target without a name.
        self._of_nodes: dict[Target, dict[C, Target]] = {}

    def take(self, target: Target) -> C | None:
        """Hand out the connection that was used last; it is no longer idle."""
        idle = self._idle.get(target)
        if not idle:
            return None
        connection = idle.popitem()[0]
        if target.tls is not None:
            self._forget_node(target, connection)
        return connection

    def put(self, target: Target, connection: C, max_idle: int) -> C | None:
        """Keep a connection; return the one to close for it: the oldest, or itself when none may be kept."""
        if max_idle < 1:
            return connection
        idle = self._idle.get(target)
        if idle is None:
            idle = self._idle[target] = {}
        idle[connection] = None
        if target.tls is not None:
            return self._put_node(target, connection, max_idle)
        if len(idle) <= max_idle:
            return None
        oldest = next(iter(idle))
        del idle[oldest]
        return oldest

    def _put_node(self, target: Target, connection: C, max_idle: int) -> C | None:
        of_node = self._of_nodes.setdefault(target.named(""), {})
        of_node[connection] = target
        if len(of_node) <= max_idle:
            return None
        oldest, its_target = next(iter(of_node.items()))
        self.discard(its_target, oldest)
        return oldest

    def _forget_node(self, target: Target, connection: C) -> None:
        node = target.named("")
        of_node = self._of_nodes.get(node)
        if of_node is not None:
            of_node.pop(connection, None)
            if not of_node:
                del self._of_nodes[node]

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
        if target.tls is not None:
            self._forget_node(target, connection)

    def __len__(self) -> int:
        return sum(map(len, self._idle.values()))

    def __repr__(self) -> str:
        held = ", ".join(f"{t.host}:{t.port}{' tls' if t.tls else ''}={len(i)}" for t, i in self._idle.items() if i)
        return f"<IdlePool {held or 'empty'}>"
