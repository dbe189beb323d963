"""Conditions of the configuration (`_meta.filter`, a plugin's or a route's `vars`) over a request's variables.

`gw.expr` has the language; here it meets variables and addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final

from gw.expr import compile_expression
from gw.pipeline.addresses import AddressSet
from gw.pipeline.context import Context
from gw.pipeline.variables import find_variable
from gw.settings.network import Network

_MAPPED_PREFIX_BITS: Final = 96


def compile_condition(expression: object) -> Callable[[Context], bool]:
    """Settle a condition. Raises gw.expr.ExpressionError, a ValueError that says what is wrong where."""
    return compile_expression(expression, find=find_variable, networks=_address_set)


def _address_set(written: Sequence[str]) -> AddressSet:
    return AddressSet([_network(text) for text in written])


def _network(text: str) -> Network:
    """An address or block; bits behind the prefix are masked, as by lua-resty-ipmatcher. Raises ValueError."""
    written = ipaddress.ip_interface(text)
    mapped = written.ip.ipv4_mapped if isinstance(written.ip, ipaddress.IPv6Address) else None
    if mapped is None:
        return written.network
    # As in gw.settings.network: the bits of a mapped block count from the front of 128.
    if written.network.prefixlen < _MAPPED_PREFIX_BITS:
        raise ValueError(f"{text} would cover all IPv4 addresses; write the IPv4 block")
    return ipaddress.ip_network(f"{mapped}/{written.network.prefixlen - _MAPPED_PREFIX_BITS}", strict=False)
