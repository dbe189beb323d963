"""Addresses and CIDR blocks as conditions and routes name them (lua-resty-ipmatcher's forms)."""

from __future__ import annotations

import ipaddress
from typing import Final, TypeAlias

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# The bits before an IPv4 address inside IPv6.
_MAPPED_PREFIX_BITS: Final = 96


def parse_network(text: str) -> Network:
    """An address or block; bits behind the prefix are masked, as by lua-resty-ipmatcher. Raises ValueError."""
    written = ipaddress.ip_interface(text)
    mapped = written.ip.ipv4_mapped if isinstance(written.ip, ipaddress.IPv6Address) else None
    if mapped is None:
        return written.network
    # The bits of a mapped block count from the front of 128.
    if written.network.prefixlen < _MAPPED_PREFIX_BITS:
        raise ValueError(f"{text} would cover all IPv4 addresses; write the IPv4 block")
    return ipaddress.ip_network(f"{mapped}/{written.network.prefixlen - _MAPPED_PREFIX_BITS}", strict=False)
