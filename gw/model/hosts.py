"""What the host of a node is: an address, or a name that has to be asked for."""

from __future__ import annotations

import ipaddress


def is_address(host: str) -> bool:
    """True for an IPv4 or IPv6 address (without brackets)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
