"""Names of upstream nodes to addresses: what is remembered, for how long, and when it is asked for again.

No request waits for a name that is in use: it is asked for again before its time is over, and while nobody can tell
the addresses, the last good ones serve. Only the first request for a name waits, and the first one after so long that
nobody refreshed it any more (and that one not for long).

    name asked for -> looked up -> known, refreshed while in use -> asleep, when nobody asked for a while
                          |           | fails: kept, tried again ever more slowly; logged when that begins and ends
                          |           ` gone (the servers say so): kept a while, then forgotten
                          ` fails: remembered briefly, so that requests do not wait for it one by one

Lookups hand on their outcome as a value and never raise, so that no exception is held by what it refers to.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

# Below it a name would be asked for all the time (TTL 0 means: do not remember); above it a moved name would be
# followed too late for those who have to wait.
MIN_TTL_S: Final = 1.0
MAX_TTL_S: Final = 3600.0
# Requests for a name without addresses ask again after this.
NEGATIVE_S: Final = 5.0
# A name that nobody asked for in this time, and through its last TTL, is no longer refreshed.
IDLE_S: Final = 600.0
# The wait for a name that slept; then the old addresses serve.
WAKE_S: Final = 1.0
# How long the addresses of a name serve on that the servers say has none: one that reloads its zones says so, too.
GONE_KEPT_S: Final = 300.0
# Between two attempts at a name that fails: doubled from the first to the last.
RETRY_S: Final = (5.0, 60.0)
# Some 1 KB each; names come from the configuration, so this is for one with a name per route.
MAX_NAMES: Final = 10_000
# So that thousands of names that expire together do not take the loop (some 0.5 ms each) or the servers at once.
REFRESHES_AT_ONCE: Final = 16


class Found(NamedTuple):
    """What a lookup found: at least one address, and how long it holds."""

    addresses: tuple[str, ...]
    ttl_s: float


class NoSuchName(OSError):
    """Whoever knows says that the name has no address. Any other OSError: nobody can tell."""


Lookup = Callable[[str], Awaitable[Found]]
Moved = Callable[[str, frozenset[str]], None]


def bounded_ttl_s(ttl_s: float) -> float:
    """The time an answer is used for."""
    return min(max(ttl_s, MIN_TTL_S), MAX_TTL_S)


def refresh_after_s(ttl_s: float, chance: float) -> float:
    """When to ask again, so that the answer is there in time. `chance` (0 to 1) keeps workers apart."""
    return ttl_s * (0.75 + 0.15 * chance)


def retry_after_s(failures: int, chance: float) -> float:
    """When to ask again after that many failures in a row (1 or more)."""
    first, last = RETRY_S
    # The exponent is bounded before it is used: failures count on for days.
    return float(min(first * 2 ** min(failures - 1, 10), last)) * (0.75 + 0.25 * chance)


class _Name:
    """What is known of one name. `expires_at` is the end of its addresses' time, or of its error's."""

    __slots__ = (
        "addresses",
        "asleep",
        "error",
        "expires_at",
        "failures",
        "gone_since",
        "host",
        "task",
        "timer",
        "ttl_s",
        "used_at",
    )

    def __init__(self, host: str) -> None:
        self.host = host
        self.addresses: tuple[str, ...] = ()
        self.error = ""
        self.ttl_s = 0.0
        self.expires_at = 0.0
        self.used_at = 0.0
        self.failures = 0
        self.gone_since: float | None = None
        self.asleep = False
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class NoAddress(OSError):
    """A name has none, or nobody could be asked."""


class Resolver:
    """One per worker, on its loop. `await addresses(name)` is all that connections need."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lookup: Lookup,
        *,
        on_moved: Moved | None = None,
        chance: random.Random | None = None,
        max_names: int = MAX_NAMES,
    ) -> None:
        """`lookup`: addresses of a name, or OSError. `on_moved(name, gone)`: these addresses are no longer its own."""
        self._loop = loop
        self._lookup = lookup
        self._on_moved = on_moved
        self._chance = chance or random.SystemRandom()
        self._max_names = max_names
        # Least recently used first.
        self._names: dict[str, _Name] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refreshing = asyncio.Semaphore(REFRESHES_AT_ONCE)
        self._closed = False

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return at least one address. Raises NoAddress when the name has none and had none lately."""
        name = self._used(host)
        if not self._answers(name):
            task = name.task or self._start(name)
            # Not awaited itself: one waiting request that is cancelled does not take the answer from the others.
            await asyncio.wait((task,), timeout=WAKE_S if name.addresses else None)
        if not name.addresses:
            raise NoAddress(name.error or f"{host} was not looked up")
        return name.addresses

    def has_address(self, host: str, address: str) -> bool:
        """Whether it is one of the name's addresses as they are known now."""
        name = self._names.get(host)
        return name is not None and address in name.addresses

    def _used(self, host: str) -> _Name:
        name = self._names.pop(host, None) or _Name(host)
        self._names[host] = name
        name.used_at = self._loop.time()
        if len(self._names) > self._max_names:
            self._names.pop(next(iter(self._names))).stop()
        return name

    def _answers(self, name: _Name) -> bool:
        """Whether what is known serves without a wait; one that slept and is not yet over is woken."""
        is_over = name.expires_at <= self._loop.time()
        if name.addresses and not name.asleep:
            return True
        if not is_over and name.asleep and name.task is None:
            self._start(name)
        return not is_over

    def _start(self, name: _Name, gate: asyncio.Semaphore | None = None) -> asyncio.Task[None]:
        task = name.task = self._loop.create_task(self._look_up(name, gate), name=f"resolve {name.host}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look_up(self, name: _Name, gate: asyncio.Semaphore | None) -> None:
        name.stop()
        try:
            if gate is None:
                outcome = await self._outcome(name.host)
            else:
                async with gate:
                    outcome = await self._outcome(name.host)
            if isinstance(outcome, Found):
                self._found(name, outcome)
            else:
                self._failed(name, *outcome)
        finally:
            name.task = None

    async def _outcome(self, host: str) -> Found | tuple[str, bool]:
        """What was found; or why nothing was, and whether that is because there is nothing."""
        try:
            return await self._lookup(host)
        except OSError as error:
            return str(error) or type(error).__name__, isinstance(error, NoSuchName)
        except Exception:
            logger.exception("looking up %s", host)
            return "internal error", False

    def _found(self, name: _Name, found: Found) -> None:
        before, name.addresses = name.addresses, found.addresses
        name.ttl_s = bounded_ttl_s(found.ttl_s)
        name.expires_at = self._loop.time() + name.ttl_s
        if name.failures:
            logger.info("%s is resolved again: %s", name.host, ", ".join(found.addresses[:4]))
        name.failures, name.error, name.gone_since, name.asleep = 0, "", None, False
        self._tell_moved(name.host, before, found.addresses)
        self._refresh_in(name, refresh_after_s(name.ttl_s, self._chance.random()))

    def _failed(self, name: _Name, reason: str, is_gone: bool) -> None:
        now = self._loop.time()
        name.failures += 1
        name.error = reason
        if not is_gone:
            name.gone_since = None
        elif name.gone_since is None:
            name.gone_since = now
        if name.addresses and name.gone_since is not None and now - name.gone_since >= GONE_KEPT_S:
            logger.warning("%s: %s, for %d s: its last addresses are forgotten", name.host, reason, GONE_KEPT_S)
            before, name.addresses = name.addresses, ()
            self._tell_moved(name.host, before, ())
        if not name.addresses:
            if name.failures == 1:
                logger.warning("%s cannot be resolved: %s", name.host, reason)
            name.expires_at = now + NEGATIVE_S
            return
        if name.failures == 1:
            logger.warning("%s cannot be resolved: %s; its last addresses serve on", name.host, reason)
        name.asleep = False
        self._refresh_in(name, retry_after_s(name.failures, self._chance.random()))

    def _tell_moved(self, host: str, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        gone = frozenset(before).difference(after)
        if gone and self._on_moved is not None:
            self._on_moved(host, gone)

    def _refresh_in(self, name: _Name, seconds: float) -> None:
        # One that was pushed out meanwhile is nobody's to refresh.
        if not self._closed and self._names.get(name.host) is name:
            name.timer = self._loop.call_later(seconds, self._refresh, name)

    def _refresh(self, name: _Name) -> None:
        name.timer = None
        if self._loop.time() - name.used_at > max(IDLE_S, name.ttl_s):
            name.asleep = True
        elif name.task is None:
            self._start(name, self._refreshing)

    async def close(self) -> None:
        """Give up lookups under way, and refresh nothing any more."""
        self._closed = True
        for name in self._names.values():
            name.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._on_moved = None

    def __len__(self) -> int:
        return len(self._names)
