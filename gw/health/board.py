"""The board: what all workers of a host know of the health of nodes, in the state they share.

Two kinds of entries. A *checker* says what is checked, so that the worker that probes needs no traffic of its own. Each
worker that uses it keeps it there; when none does any more, it lapses. A *node* entry holds state and counters of one
target, under the checker and the fingerprint of its checks: weights, other fields and other resources touch no state,
other checks begin anew. A node without an entry is healthy, with nothing counted.

A state that changed is announced after it was written. A worker that is killed in between leaves it to the next look
at that checker, which comes with its renewal.

Bytes: health/checker/<mark> -> time of renewal (f64), checker. health/node/<mark><fingerprint u64><target> -> state and
the four counters, a byte each.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from gw.clock import Clock
from gw.health.checker import Checker, unpack_checker
from gw.health.feed import Feed, announce
from gw.health.lease import Lease
from gw.health.state import FRESH, Counts, Event, Health, State, step
from gw.health.store import LenientStore, Store

log: Final = logging.getLogger(__name__)

# A checker that no worker renews, and states that nothing is seen for. Long enough for a reload, in which new workers
# wait for a first request; half a minute of probes for an upstream that is gone is the price.
KEPT_S: Final = 30.0
RENEW_S: Final = 10.0
# What is left to a checker that a worker dropped: the others renew it within that, if they still use it.
DROPPED_S: Final = RENEW_S
# Below the 64 KB of an entry; some ten thousand nodes.
MAX_CHECKER_BYTES: Final = 60_000

_CHECKER: Final = b"health/checker/"
_NODE: Final = b"health/node/"
_RENEWED: Final = struct.Struct("<d")
_FINGERPRINT: Final = struct.Struct("<Q")
_HEALTH: Final = struct.Struct("<5B")


@dataclass(frozen=True, slots=True)
class Reported:
    """What an event came to."""

    before: Health
    after: Health

    @property
    def is_change(self) -> bool:
        """Whether the state is another one now."""
        return self.before.state is not self.after.state


class Board:
    """One process's hand on it. Any number may have one."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = LenientStore(store)
        self._clock = clock

    def feed(self) -> Feed:
        """Tells what changes from now on, and at first to look at everything."""
        return Feed(self._store)

    def lease(self, owner: bytes) -> Lease:
        """This process's claim to be the one that probes. `owner`: OWNER_BYTES random bytes of its own."""
        return Lease(self._store, self._clock, owner)

    # What is checked.

    def register(self, checker: Checker) -> None:
        """Have it checked as it is here, whatever another worker said before. One that is too large is not probed."""
        if len(checker.packed) > MAX_CHECKER_BYTES:
            size = f"{len(checker.packed)} bytes, {len(checker.targets)} nodes"
            log.error("upstream in %s is too large to be probed (%s): only passive checks work", checker.key, size)
            return
        held = self._store.get(_CHECKER + checker.mark)
        if held is None or held[_RENEWED.size :] != checker.packed or self._age_s(held) >= RENEW_S:
            self._write(checker, held)

    def renew(self, checker: Checker) -> None:
        """Keep it checked. What another worker has registered in its place stays while that worker keeps it there:
        of two workers that differ, the one behind will register anew when it has caught up.
        """
        held = self._store.get(_CHECKER + checker.mark)
        patience_s = RENEW_S if held is None or held[_RENEWED.size :] == checker.packed else 2 * RENEW_S
        if held is None or self._age_s(held) >= patience_s:
            self._write(checker, held)

    def drop(self, checker: Checker) -> None:
        """This worker does not use it any more: it ends soon, unless another one does."""
        aged = _RENEWED.pack(self._clock.monotonic() - RENEW_S) + checker.packed

        def change(held: bytes | None) -> tuple[bytes | None, float | None]:
            if held is None:
                return None, None
            is_ours = held[_RENEWED.size :] == checker.packed
            return (aged, DROPPED_S) if is_ours else (held, KEPT_S - self._age_s(held))

        self._store.update(_CHECKER + checker.mark, change)

    def is_registered(self, mark: bytes) -> bool:
        """Whether anybody wants it checked."""
        return self._store.get(_CHECKER + mark) is not None

    def find_checker(self, mark: bytes) -> Checker | None:
        """What is registered under a mark."""
        held = self._store.get(_CHECKER + mark)
        return None if held is None else unpack_checker(held[_RENEWED.size :])

    def checkers(self) -> Iterator[list[Checker]]:
        """All that is registered, a small part at a time, so that a long list need not hold a loop."""
        for byte in range(256):
            part = self._store.items(_CHECKER + bytes((byte,)))
            yield [unpack_checker(held[_RENEWED.size :]) for _, held in part]

    def _write(self, checker: Checker, held: bytes | None) -> None:
        if len(checker.packed) > MAX_CHECKER_BYTES:
            return
        entry = _RENEWED.pack(self._clock.monotonic()) + checker.packed
        self._store.put(_CHECKER + checker.mark, entry, KEPT_S)
        names = {target.name for target in checker.targets}
        for key, _ in self._store.items(_prefix(checker)):
            if key[len(_prefix(checker)) :].decode() in names:
                self._store.update(key, lambda value: (value, KEPT_S))
            else:
                self._store.delete(key)
        if held is None or held[_RENEWED.size :] != checker.packed:
            announce(self._store, checker.mark, self._clock.monotonic())

    def _age_s(self, held: bytes) -> float:
        renewed_at_s: float = _RENEWED.unpack_from(held)[0]
        return self._clock.monotonic() - renewed_at_s

    # What is known.

    def healths(self, checker: Checker) -> dict[str, Health]:
        """Health by target, of those that anything was counted of; the others are FRESH."""
        prefix = _prefix(checker)
        return {key[len(prefix) :].decode(): _unpack(value) for key, value in self._store.items(prefix)}

    def report(self, checker: Checker, target: str, event: Event, thresholds: Counts, seen_by: str) -> Reported:
        """Count one event of a target, for all. `seen_by` (active, passive) is for the log."""
        before = after = FRESH

        def change(held: bytes | None) -> tuple[bytes | None, float | None]:
            nonlocal before, after
            before = FRESH if held is None else _unpack(held)
            after = step(before, event, thresholds)
            return _HEALTH.pack(after.state, *after.counts), KEPT_S

        self._store.update(_prefix(checker) + target.encode(), change)
        reported = Reported(before, after)
        if reported.is_change:
            announce(self._store, checker.mark, self._clock.monotonic())
            if before.state.is_up is not after.state.is_up:
                _tell(checker, target, event, after, seen_by)
        return reported


def _prefix(checker: Checker) -> bytes:
    return _NODE + checker.mark + _FINGERPRINT.pack(checker.checks.fingerprint)


def _unpack(value: bytes) -> Health:
    state, *counts = _HEALTH.unpack(value)
    return Health(State(state), Counts(*counts))


def _tell(checker: Checker, target: str, event: Event, after: Health, seen_by: str) -> None:
    level = logging.INFO if after.state.is_up else logging.WARNING
    word = "up" if after.state.is_up else "down"
    count = f"{event.name.lower().replace('_', ' ')} number {after.counts[event]}"
    log.log(level, "upstream in %s: node %s is %s after %s (%s checks)", checker.key, target, word, count, seen_by)
