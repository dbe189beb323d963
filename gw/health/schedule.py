"""When each target is probed next. Decides only: no clock, no task, no socket.

A target is due one interval after its last probe began, and never while one runs. The interval is that of its state, so
a target that goes down by its traffic is looked at soon, however rarely healthy ones are. The first probe comes after a
random part of the interval, so that a worker that begins to probe does not ask everybody at once; where there are few
to ask, after a small part, so that a node that is dead from the start is soon known to be.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping
from itertools import count
from typing import Final, NamedTuple, Protocol

from gw.health.checker import Checker, Target
from gw.health.state import State

# Probes at a time, of all checkers: a descriptor each, from the same limit as the traffic's.
MOST_RUNNING: Final = 256
# Targets from which on first probes spread over the whole interval: with the shortest, one every 5 ms, of 0.5 ms each.
MANY: Final = 200


class Chance(Protocol):
    """The part of random.Random that is used."""

    def uniform(self, a: float, b: float) -> float: ...


class _Slot:
    """One target: when it is due, whether it is being probed."""

    __slots__ = ("due_s", "is_gone", "is_running", "is_waiting", "mark", "started_s", "state", "target")

    def __init__(self, mark: bytes, target: Target, state: State, due_s: float) -> None:
        self.mark = mark
        self.target = target
        self.state = state
        self.due_s = due_s
        self.started_s = due_s
        self.is_running = False
        self.is_waiting = False  # due, but its checker probes as many as it may
        self.is_gone = False


class _Plan:
    """One checker."""

    __slots__ = ("checker", "running", "slots", "waiting")

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        self.slots: dict[str, _Slot] = {}
        self.running = 0
        self.waiting: deque[_Slot] = deque()


class Due(NamedTuple):
    """A probe to be made now, to be handed back to `finished`."""

    checker: Checker
    target: Target
    slot: _Slot
    plan: _Plan

    @property
    def state(self) -> State:
        """The target's, as it was last heard of; it may change while the probe runs."""
        return self.slot.state


class ProbeSchedule:
    """All targets of a host. Times are monotonic seconds, and go forward from call to call."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._plans: dict[bytes, _Plan] = {}
        self._heap: list[tuple[float, int, _Slot]] = []
        self._order = count()
        self._running = 0
        self._targets = 0

    def __len__(self) -> int:
        """How many checkers there are."""
        return len(self._plans)

    @property
    def marks(self) -> frozenset[bytes]:
        """Of the checkers there are."""
        return frozenset(self._plans)

    def put(self, checker: Checker, states: Mapping[str, State], now_s: float) -> None:
        """Add a checker, or bring it up to date. `states` by target; a target without one is healthy.

        Targets that stay keep their turn, unless the interval of their state says that it comes sooner.
        """
        plan = self._plans.setdefault(checker.mark, _Plan(checker))
        plan.checker = checker
        gone = plan.slots
        plan.slots = {}
        for target in checker.targets:
            state = states.get(target.name, State.HEALTHY)
            interval_s = checker.checks.active.interval_s(state)
            slot = gone.pop(target.name, None)
            if slot is None:
                self._targets += 1
                spread_s = interval_s * min(1.0, self._targets / MANY)
                slot = _Slot(checker.mark, target, state, now_s + self._chance.uniform(0.0, spread_s))
                self._push(slot)
            else:
                slot.target, slot.state = target, state
                self._bring_forward(slot, slot.started_s + interval_s, now_s)
            plan.slots[target.name] = slot
        self._forget(gone)

    def drop(self, mark: bytes) -> None:
        """Probe it no more."""
        plan = self._plans.pop(mark, None)
        if plan is not None:
            self._forget(plan.slots)

    def _forget(self, slots: Mapping[str, _Slot]) -> None:
        self._targets -= len(slots)
        for slot in slots.values():
            slot.is_gone = True

    def start_due(self, now_s: float) -> list[Due]:
        """The probes to be begun now. They count as running."""
        started = []
        while self._heap and self._heap[0][0] <= now_s and self._running < MOST_RUNNING:
            due_s, _, slot = heapq.heappop(self._heap)
            if slot.is_gone or slot.is_running or slot.is_waiting or slot.due_s != due_s:
                continue
            plan = self._plans[slot.mark]
            if plan.running >= plan.checker.checks.active.concurrency:
                slot.is_waiting = True
                plan.waiting.append(slot)
                continue
            slot.is_running, slot.started_s = True, now_s
            plan.running += 1
            self._running += 1
            started.append(Due(plan.checker, slot.target, slot, plan))
        return started

    def finished(self, due: Due, state: State, now_s: float) -> None:
        """A probe ended, whatever came of it. `state` is the target's from now on."""
        slot, plan = due.slot, due.plan
        self._running -= 1
        plan.running -= 1
        slot.is_running = False
        if not slot.is_gone:
            slot.state = state
            slot.due_s = max(now_s, slot.started_s + plan.checker.checks.active.interval_s(state))
            self._push(slot)
        while plan.waiting:
            waiting = plan.waiting.popleft()
            waiting.is_waiting = False
            if not waiting.is_gone:
                self._push(waiting)  # as it was due, so before the one that ended, should that be due again
                return

    def next_due_s(self) -> float | None:
        """When `start_due` may have something; None while only the end of a probe can change that."""
        while self._heap and (self._heap[0][2].is_gone or self._heap[0][2].due_s != self._heap[0][0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap and self._running < MOST_RUNNING else None

    def _push(self, slot: _Slot) -> None:
        heapq.heappush(self._heap, (slot.due_s, next(self._order), slot))

    def _bring_forward(self, slot: _Slot, due_s: float, now_s: float) -> None:
        if not slot.is_running and not slot.is_waiting and due_s < slot.due_s:
            slot.due_s = max(due_s, now_s)
            self._push(slot)
