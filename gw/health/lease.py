"""Who of the host's workers probes: one holds a lease, says so every second, and has it taken away when it does not.

A lock of the kernel (flock) would tell of a holder that died, not of one that hangs; both end the lease. Two may
think for a moment that they hold it, when a holder that hung comes back: it looks before it goes on, and until then
the worst is a probe too many.
"""

from __future__ import annotations

import struct
from typing import Final

from gw.clock import Clock
from gw.health.store import Store

LEASE_KEY: Final = b"health/prober"
# As long as the three shortest intervals between probes: no state moves much while nobody probes.
LEASE_S: Final = 3.0
RENEW_S: Final = 1.0
OWNER_BYTES: Final = 16
# Little endian: owner, and the monotonic time at which the lease ends.
_LEASE: Final = struct.Struct(f"<{OWNER_BYTES}sd")


class Lease:
    """One worker's claim. `owner` are 16 random bytes of its own."""

    __slots__ = ("_clock", "_owner", "_renew_at_s", "_store")

    def __init__(self, store: Store, clock: Clock, owner: bytes) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._renew_at_s: float | None = None

    def hold(self) -> bool:
        """Whether this worker is the one: takes the lease where it is free, renews it in time. Never waits."""
        now_s = self._clock.monotonic()
        if self._renew_at_s is not None and now_s < self._renew_at_s:
            return True
        is_ours = not self._is_anothers(self._store.get(LEASE_KEY), now_s)
        if is_ours:

            def change(held: bytes | None) -> tuple[bytes, float]:
                if held is not None and self._is_anothers(held, now_s):
                    return held, _LEASE.unpack(held)[1] - now_s
                return _LEASE.pack(self._owner, now_s + LEASE_S), LEASE_S

            is_ours = not self._is_anothers(self._store.update(LEASE_KEY, change), now_s)
        self._renew_at_s = now_s + RENEW_S if is_ours else None
        return is_ours

    def release(self) -> None:
        """Let another worker have it at once."""
        self._renew_at_s = None
        now_s = self._clock.monotonic()

        def change(held: bytes | None) -> tuple[bytes | None, float | None]:
            if held is None or not self._is_anothers(held, now_s):
                return None, None
            return held, _LEASE.unpack(held)[1] - now_s

        self._store.update(LEASE_KEY, change)

    def _is_anothers(self, held: bytes | None, now_s: float) -> bool:
        if held is None:
            return False
        owner, ends_at_s = _LEASE.unpack(held)
        return owner != self._owner and bool(ends_at_s > now_s)
