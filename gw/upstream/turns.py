"""Which address of a name the next connection goes to. Decides only: connects nowhere, reads no clock.

Connections take turns over all addresses. One that took no connection rests: it is tried after all others, for a time
that doubles with each failure in a row. Nothing is ever left out, since to try is how to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# nginx's fail_timeout to begin with; an address that stays dead costs a connection's wait every five minutes at most.
REST_S: Final = (10.0, 300.0)
# Ports and names come from the configuration. Beyond this all is forgotten, which costs a few tries.
_MAX_REMEMBERED: Final = 10_000

Address = tuple[str, int]


class Turns:
    """The state of one worker. Times are seconds of one clock."""

    __slots__ = ("_offset", "_resting", "_turns")

    def __init__(self, offset: int = 0) -> None:
        """`offset`: where to begin with each name, so that workers do not all begin with the same address."""
        self._offset = offset
        self._turns: dict[Address, int] = {}
        # When it may be tried again in its turn, and how often it failed in a row.
        self._resting: dict[Address, tuple[float, int]] = {}

    def order(self, host: str, port: int, addresses: Sequence[str], now: float) -> Sequence[str]:
        """All addresses, in the order to try them for the next connection to `host`."""
        count = len(addresses)
        if count < 2:
            return addresses
        turn = self._turns.get((host, port), self._offset)
        if len(self._turns) >= _MAX_REMEMBERED:
            self._turns.clear()
        self._turns[host, port] = turn + 1
        start = turn % count
        order = [*addresses[start:], *addresses[:start]]
        if self._resting:
            order.sort(key=lambda address: self._rests((address, port), now))
        return order

    def _rests(self, address: Address, now: float) -> bool:
        return address in self._resting and self._resting[address][0] > now

    def failed(self, address: str, port: int, now: float) -> None:
        """It took no connection."""
        first, last = REST_S
        failures = self._resting.get((address, port), (0.0, 0))[1]
        if len(self._resting) >= _MAX_REMEMBERED:
            self._resting.clear()
        self._resting[address, port] = (now + min(first * 2 ** min(failures, 10), last), failures + 1)

    def worked(self, address: str, port: int) -> None:
        """It took one."""
        if self._resting:
            self._resting.pop((address, port), None)

    def __len__(self) -> int:
        return len(self._turns) + len(self._resting)
