"""Which nodes of the upstreams in use are down, as one worker sees it: at no cost to a request.

A worker holds a `Watch` for each upstream with checks. What other workers and the prober find reaches it by a timer,
what it finds itself at once. The traffic reports to the watch; a report that says nothing new ends there, by a look at
two small dicts, and the board is neither read nor written: a success of a node that is healthy as far as this worker
knows, a failure of one that is not, and a status that counts as neither.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain, islice
from typing import Final

from gw.clock import Clock
from gw.health.board import RENEW_S, Board
from gw.health.checker import Checker, checker_of, target_name
from gw.health.state import Counts, Event, State, is_counted
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream

# As often as APISIX's workers hear of one another: a tenth of the shortest interval between probes, so that it adds
# little to what finding out takes. Each look is one read of a microsecond or two.
POLL_S: Final = 0.1
# Watches that one look brings up to date: some 10 us each, so 1 ms; 10,000 watches still come round in RENEW_S.
REFRESHED: Final = 100

# Told the names (gw.model.upstream.Node.authority) of the nodes that are down. It must not raise.
OnChange = Callable[[frozenset[str]], None]


class Watch:
    """One upstream in use. `down` are the names of the nodes that are down now, `authority` of each."""

    __slots__ = (
        "_ailing",
        "_board",
        "_events",
        "_nodes",
        "_on_change",
        "_targets",
        "_thresholds",
        "checker",
        "down",
    )

    def __init__(self, board: Board, checker: Checker, upstream: Upstream, on_change: OnChange) -> None:
        self._board = board
        self.checker = checker
        self._targets = {node.authority: target_name(node, checker.checks) for node in upstream.nodes}
        self._nodes: dict[str, list[str]] = {}  # the other way round: nodes may share a target
        for node, target in self._targets.items():
            self._nodes.setdefault(target, []).append(node)
        passive = checker.checks.passive
        self._events: Mapping[int, Event] = {} if passive is None else passive.events
        self._thresholds = Counts() if passive is None else passive.thresholds  # 0 turns an event off
        self._on_change: OnChange | None = on_change
        self._ailing: dict[str, State] = {}  # targets that are not in the best of states
        self.down: frozenset[str] = frozenset()

    @property
    def is_passive(self) -> bool:
        """Whether the traffic counts: only then reporting is of use."""
        return self.checker.checks.passive is not None

    def report_http(self, node: str, status: int) -> None:
        """A request to the node named so ended with this status.

        APISIX reports the status its client got, so also its own 502 and 504 when the last attempt failed (log phase,
        apisix/init.lua), and the status of an attempt after which another node was tried (apisix/balancer.lua).
        """
        event = self._events.get(status)
        if event is not None:
            self._report(node, event)

    def report_tcp_failure(self, node: str) -> None:
        """An attempt failed without a status, and another node is tried."""
        self._report(node, Event.TCP_FAILURE)

    def report_timeout(self, node: str) -> None:
        """An attempt took too long, and another node is tried."""
        self._report(node, Event.TIMEOUT)

    def _report(self, node: str, event: Event) -> None:
        target = self._targets.get(node)
        if target is None or not self._thresholds[event]:
            return
        known = self._ailing.get(target, State.HEALTHY)
        if is_counted(known, event):
            reported = self._board.report(self.checker, target, event, self._thresholds, "passive")
            if reported.after.state is not known:  # by this event, or by what others saw since the last look
                self.refresh()

    def refresh(self) -> None:
        """Read the board, and tell the owner when other nodes are down than before."""
        if self._on_change is not None:
            before = self.down
            self.read()
            if self.down != before:
                self._on_change(self.down)

    def read(self) -> None:
        """Read the board, and tell nobody."""
        healths = self._board.healths(self.checker)
        self._ailing = {name: health.state for name, health in healths.items() if health.state is not State.HEALTHY}
        down = [self._nodes.get(target, ()) for target, state in self._ailing.items() if not state.is_up]
        self.down = frozenset(chain.from_iterable(down))

    def end(self) -> None:
        """Tell the owner nothing more. Requests that are under way may still report."""
        self._on_change = None

    @property
    def is_over(self) -> bool:
        """Whether nobody is told any more."""
        return self._on_change is None


class HealthView:
    """One per worker. `run` is a task of its own; it does nothing while nothing is watched.

    `is_enabled` is False where `apisix.disable_upstream_healthcheck` is on: nothing is ever watched then.
    """

    def __init__(self, board: Board, clock: Clock, is_enabled: bool = True) -> None:
        self._is_enabled = is_enabled
        self._board = board
        self._clock = clock
        self._feed = board.feed()
        self._watches: dict[bytes, Watch] = {}
        self._stale: dict[Watch, None] = {}  # to be read again, in order
        self._renewals: deque[tuple[float, Watch]] = deque()  # all wait equally long, so the first is due first
        self._is_needed = asyncio.Event()

    def watch(self, key: ResourceKey, upstream: Upstream, on_change: OnChange) -> Watch | None:
        """Have an upstream checked from now on; None where there is nothing to check (no checks, no nodes).

        `key` is that of the resource in which the upstream is written: its route, service or upstream. A watch of the
        same key is replaced, and states go on unless the checks are others. `on_change` is first called for a change:
        what is down already is `down` of the answer. End it with `unwatch`, which also lets go of `on_change`.
        """
        checker = checker_of(key, upstream) if self._is_enabled else None
        if checker is None:
            return None
        watch = Watch(self._board, checker, upstream, on_change)
        replaced = self._watches.get(checker.mark)
        if replaced is not None:
            replaced.end()
        self._board.register(checker)
        self._watches[checker.mark] = watch
        watch.read()
        self._renewals.append((self._clock.monotonic() + RENEW_S, watch))
        self._is_needed.set()
        return watch

    def unwatch(self, watch: Watch) -> None:
        """The owner is gone. Harmless for a watch that was replaced."""
        watch.end()
        if self._watches.get(watch.checker.mark) is watch:
            del self._watches[watch.checker.mark]
            self._board.drop(watch.checker)

    def changed(self, mark: bytes) -> None:
        """This process changed the state of a node: take it up at once."""
        watch = self._watches.get(mark)
        if watch is not None:
            watch.refresh()

    async def run(self) -> None:
        """Follow the board, until cancelled."""
        while True:
            await self._is_needed.wait()
            while self._watches:
                self.look()
                await asyncio.sleep(POLL_S)
            self._is_needed.clear()

    def look(self) -> None:
        """Take up what changed, and keep registered what is due for it; so much of both as fits into a millisecond."""
        news = self._feed.news()
        if news is None:
            self._stale.update(dict.fromkeys(self._watches.values()))
        else:
            self._stale.update((self._watches[mark], None) for mark in news if mark in self._watches)
        self._take_renewals()
        for watch in tuple(islice(self._stale, REFRESHED)):
            del self._stale[watch]
            watch.refresh()

    def _take_renewals(self) -> None:
        now_s = self._clock.monotonic()
        for _ in range(REFRESHED):
            if not self._renewals or self._renewals[0][0] > now_s:
                return
            watch = self._renewals.popleft()[1]
            if not watch.is_over:
                self._board.renew(watch.checker)
                self._stale[watch] = None
                self._renewals.append((now_s + RENEW_S, watch))
