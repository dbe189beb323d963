"""How names of upstream nodes become addresses. APISIX's keys, which stand directly under `apisix`."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from gw.settings import kinds
from gw.settings.declare import Context, Kind, Refused, setting
from gw.settings.kinds import list_of, shown

_DNS_PORT: Final = 53
_MAX_PORT: Final = 65535
# Longer than any TTL that is followed (RFC 8767 suggests a week as the most).
_MAX_VALID_S: Final = 604800.0
_WITH_PORT: Final = re.compile(r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[^:\[\]]+)):(?P<port>[0-9]{1,5})")


class NameServer(NamedTuple):
    """A DNS server to ask. `ip` is an IP address without brackets."""

    ip: str
    port: int


def name_servers() -> Kind[tuple[NameServer, ...]]:
    """A list of DNS servers: an IP address, or one with a port."""
    return list_of(Kind("an IP address", _name_server), "a list of addresses such as 1.1.1.1, 1.1.1.1:53 or [::1]:53")


def _name_server(raw: object, context: Context) -> NameServer:
    form = "an IP address, or one with a port, such as 1.1.1.1:53 or [::1]:53"
    text = raw if isinstance(raw, str) else ""
    written = _WITH_PORT.fullmatch(text)
    port = int(written["port"]) if written else _DNS_PORT
    host = (written["v6"] or written["v4"]) if written else text.removeprefix("[").removesuffix("]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise Refused(f"must be {form}, not {shown(raw)}") from None
    if not 1 <= port <= _MAX_PORT:
        raise Refused(f"must have a port from 1 to {_MAX_PORT}, not {port}")
    return NameServer(str(ip), port)


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """Whom to ask for addresses, and for how long an answer holds."""

    dns_resolver: tuple[NameServer, ...] = setting(
        name_servers(),
        default=[],
        help="DNS servers for the names of upstream nodes. An empty list: those of /etc/resolv.conf.",
    )
    dns_resolver_valid_s: float | None = setting(
        kinds.optional(kinds.seconds(1, _MAX_VALID_S)),
        key="dns_resolver_valid",
        default=None,
        unit="seconds",
        help="How long an answer of a DNS server holds. null: as long as its TTL says, from a second to an hour.",
    )
    resolver_timeout_s: float = setting(
        kinds.seconds(0.1, 60),
        key="resolver_timeout",
        default=5,
        unit="seconds",
        help="Within what time the DNS servers must have answered, all attempts together.",
    )
    enable_resolv_search_opt: bool = setting(
        kinds.boolean(),
        default=True,
        help="Whether a short name is also looked for in the search domains of /etc/resolv.conf.",
    )
    enable_ipv6: bool = setting(
        kinds.boolean(),
        default=True,
        help="Whether a name of an upstream node means its IPv6 addresses, too. (What we listen on says node_listen.)",
    )
