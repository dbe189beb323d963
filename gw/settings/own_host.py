"""Which Host a listener that is not for the world answers to, and which host a URL or a Host header names.

A web page that points a name of its own at 127.0.0.1 (DNS rebinding) makes a browser send that name; an address,
`localhost`, or the host's own name is what people and probes send.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


class OwnHosts:
    """The hosts that are this one. `names` are its names, besides addresses and localhost."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(("localhost", *(name.lower() for name in names)))

    def __contains__(self, host: str) -> bool:
        """Whether a host, in lower case and without a port, is ours: any IP address is."""
        return host in self._names or _is_address(host)


def host_of_header(header: str) -> str | None:
    """The host of a Host header, in lower case, IPv6 without brackets; None when it is none."""
    return host_of_origin(f"//{header}")


def host_of_origin(origin: str) -> str | None:
    """The host of `scheme://host:port` with nothing behind it, as `host_of_header`."""
    try:
        parts = urlsplit(origin)
        _ = parts.port  # raises for what is no port
    except ValueError:
        return None
    # urlsplit drops what it does not like (tabs, an empty query), so the text is looked at too.
    is_bare = not parts.path and not parts.query and not parts.fragment and origin.endswith(f"//{parts.netloc}")
    return parts.hostname if is_bare and "@" not in parts.netloc else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
