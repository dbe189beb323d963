"""Addresses and CIDR blocks as conditions and routes name them (lua-resty-ipmatcher's forms)."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, TypeAlias

from gw.expr.errors import shown

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# The bits before an IPv4 address inside IPv6.
_MAPPED_PREFIX_BITS: Final = 96
# Python also takes zone ids (`fe80::1%eth0`) and netmasks in place of a length.
_WRITTEN: Final = re.compile(r"[0-9A-Fa-f:.]{1,45}(?:/[0-9]{1,3})?").fullmatch


def parse_network(text: str) -> Network:
    """An address or block; bits behind the prefix are masked, as by lua-resty-ipmatcher. Raises ValueError.

    A block of IPv4-mapped addresses is the IPv4 block; one that is wider than they are (`::ffff:10.0.0.0/8`) is
    refused: read as written it would hold all of IPv4 and far more. What a schema accepts is what is read here.
    """
    if _WRITTEN(text) is None:
        raise ValueError(f"{shown(text)} is neither an address nor a block")
    network = ipaddress.ip_network(text, strict=False)
    if network.version == 4:
        return network
    address = ipaddress.IPv6Address(text.partition("/")[0])
    if (mapped := address.ipv4_mapped) is None:
        return network
    # The bits of a mapped block count from the front of 128.
    if network.prefixlen < _MAPPED_PREFIX_BITS:
        raise ValueError(f"{text} would cover all IPv4 addresses; write the IPv4 block")
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED_PREFIX_BITS}", strict=False)
