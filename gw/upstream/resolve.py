"""Names of upstream nodes to addresses, without blocking the loop.

Addresses are remembered for a short while, for all connections of the worker; getaddrinfo tells no time to live, so
there is one for all names. Lookups of one name at the same time are one. When a lookup fails, the last addresses are
used as long as there are any.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

# Long enough that a burst of new connections asks once, short enough that a moved name is followed at once by people.
REMEMBERED_S: Final = 5.0

Lookup = Callable[[str], Awaitable[Sequence[str]]]


def is_address(host: str) -> bool:
    """True for an IPv4 or IPv6 address (without brackets)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Resolver:
    """One per worker. `await addresses(name)` gives them in the order of the system's preference."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, lookup: Lookup | None = None, remembered_s: float = REMEMBERED_S
    ) -> None:
        """`lookup`: addresses of a name, or OSError; the system's resolver in a thread by default."""
        self._loop = loop
        self._lookup = lookup or self._ask_system
        self._remembered_s = remembered_s
        self._known: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._lookups: dict[str, asyncio.Task[tuple[str, ...]]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """Return at least one address. Raises OSError when the name has none and never had."""
        known = self._known.get(host)
        if known is not None and known[0] > self._loop.time():
            return known[1]
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = self._loop.create_task(self._look_up(host), name=f"resolve {host}")
            lookup.add_done_callback(lambda _: self._lookups.pop(host, None))
        try:
            # Shielded: one waiting request that is cancelled does not take the answer from the others.
            return await asyncio.shield(lookup)
        except OSError:
            if known is not None:
                return known[1]
            raise

    async def _look_up(self, host: str) -> tuple[str, ...]:
        addresses = tuple(dict.fromkeys(await self._lookup(host)))
        if not addresses:
            raise OSError(f"{host} has no address")
        self._known[host] = (self._loop.time() + self._remembered_s, addresses)
        return addresses

    async def _ask_system(self, host: str) -> list[str]:
        found = await self._loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [str(entry[4][0]) for entry in found]

    async def close(self) -> None:
        """Give up lookups under way."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)
