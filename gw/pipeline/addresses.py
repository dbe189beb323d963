"""IP addresses in text: one spelling for each, and sets of them. Pure; nothing is resolved.

An IPv4 address inside IPv6 (`::ffff:192.0.2.1`) is the IPv4 address: a limit, a rule and a log must not take one
client for two. What has two readings is no address: octets with leading zeros (octal to some), zone ids.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from gw.settings.network import Network

_MAPPED: Final = b"\0" * 10 + b"\xff\xff"
# Addresses whose answer is remembered: clients come back. A client that invents addresses makes the table begin anew.
_MAX_REMEMBERED: Final = 4096


def canonical_address(text: str) -> str | None:
    """The one spelling of an address (RFC 5952 for IPv6), or None for what is none."""
    packed = _packed(text)
    if packed is None:
        return None
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _packed(text: str) -> bytes | None:
    """4 or 16 bytes. By the C library, which takes a third of what `ipaddress` does and is as strict."""
    try:
        if ":" not in text:
            return socket.inet_pton(socket.AF_INET, text)
        packed = socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None
    return packed[12:] if packed.startswith(_MAPPED) else packed


class AddressSet:
    """A set of networks, made for being asked often: `"192.0.2.1" in networks` is one look into a table.

    Takes what `gw.settings.network` made of the configuration, where a mapped IPv6 block is already an IPv4 one.
    """

    __slots__ = ("_known", "_most_known", "_ranges")

    def __init__(self, networks: Iterable[Network], remembered: int = _MAX_REMEMBERED) -> None:
        """`remembered`: of how many addresses the answer is kept; fewer where there are many sets."""
        self._most_known = remembered
        self._known: dict[str, bool] = {}
        # By the length of an address: first addresses of disjoint ranges in order, and the last ones of the same.
        self._ranges: dict[int, tuple[list[int], list[int]]] = {}
        networks = tuple(networks)
        for version, length in ((4, 4), (6, 16)):
            bounds = sorted(
                (int(network.network_address), int(network.broadcast_address))
                for network in networks
                if network.version == version
            )
            self._ranges[length] = _disjoint(bounds)

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        return self._look(address) if known is None else known

    def _look(self, address: str) -> bool:
        packed = _packed(address)
        if packed is None:
            found = False
        else:
            firsts, lasts = self._ranges[len(packed)]
            number = int.from_bytes(packed, "big")
            at = bisect_right(firsts, number) - 1
            found = at >= 0 and number <= lasts[at]
        if len(self._known) >= self._most_known:
            self._known.clear()
        if packed is not None:
            self._known[address] = found
        return found


def _disjoint(bounds: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Merge ranges that overlap; two blocks overlap only where one lies in the other."""
    firsts: list[int] = []
    lasts: list[int] = []
    for first, last in bounds:
        if lasts and first <= lasts[-1]:
            lasts[-1] = max(lasts[-1], last)
        else:
            firsts.append(first)
            lasts.append(last)
    return firsts, lasts
