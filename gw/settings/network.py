"""Addresses in settings: where we listen, and whom we let in. Nothing here opens a socket."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from gw.settings.declare import Context, Kind, Refused
from gw.settings.environment import EnvText
from gw.settings.kinds import integer, list_of, mapping_fields, parse_at, scalar, shown

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# 0 would be a port that nobody knows.
PORT: Final = integer(1, 65535)
# IPv4 addresses inside IPv6: the last 32 bits are the address.
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Listen:
    """An address to listen on. `ip` is an IP address without brackets."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def overlaps(self, other: Listen) -> bool:
        """Both cannot be opened on one host: the same port, on the same address or one of them on all of the family."""
        mine, theirs = ipaddress.ip_address(self.ip), ipaddress.ip_address(other.ip)
        return (
            self.port == other.port
            and mine.version == theirs.version
            and (mine == theirs or mine.is_unspecified or theirs.is_unspecified)
        )

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.ip).is_loopback


def ip_address() -> Kind[str]:
    """An IP address to listen on. A name is not accepted: what it stands for could change between two starts."""
    form = "an IP address such as 127.0.0.1, 0.0.0.0 or ::1"

    def parse(raw: object, context: Context) -> str:
        try:
            return str(ipaddress.ip_address(str(raw).strip("[]") if isinstance(raw, str) else ""))
        except ValueError:
            raise Refused(f"must be {form}, not {shown(raw)}") from None

    return Kind(form, parse)


def traffic_listens() -> Kind[tuple[Listen, ...]]:
    """APISIX's forms of `node_listen`: a port, or a list of ports and of {ip, port}."""
    form = "a port, or a list of ports and of {ip: ..., port: ...}"
    items = list_of(Kind(form, _listen_item), form, minimum=1)

    def parse(raw: object, context: Context) -> tuple[Listen, ...]:
        single = isinstance(scalar(raw), int)
        return items.parse([raw] if single else raw, context)

    return Kind(form, parse)


def _listen_item(raw: object, context: Context) -> Listen:
    if isinstance(raw, dict):
        keys = {"ip": False, "port": True, "enable_http2": False, "enable_http3": False}
        fields = mapping_fields(raw, keys, "a port or {ip: ..., port: ...}")
        for name in ("enable_http2", "enable_http3"):
            if scalar(fields.get(name)):
                context.warn(f"{name} is not supported yet: port {fields['port']} speaks HTTP/1.1")
        ip = fields.get("ip")
        # APISIX's default: all IPv4 addresses of the host.
        address = "0.0.0.0" if ip is None else parse_at(".ip", ip_address().parse, ip, context)  # noqa: S104
        return Listen(address, parse_at(".port", PORT.parse, fields["port"], context))
    if isinstance(raw, str) and not isinstance(raw, EnvText):
        raise Refused(f"must be a port or {{ip: ..., port: ...}}, not {shown(raw)}")
    return Listen("0.0.0.0", PORT.parse(raw, context))  # noqa: S104 - as above


def networks() -> Kind[tuple[Network, ...]]:
    """Whom to let in, as CIDR blocks or single addresses."""
    form = "a list of addresses and CIDR blocks such as 127.0.0.0/24 or ::1"
    return list_of(Kind("an address or CIDR block", _network), form)


def _network(raw: object, context: Context) -> Network:
    form = "an address or CIDR block"
    try:
        written = ipaddress.ip_interface(raw if isinstance(raw, str) else "")
    except ValueError:
        raise Refused(f"must be {form}, not {shown(raw)}") from None
    address, prefix_bits = written.ip, written.network.prefixlen
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        # CVE-2026-92395: the 8 bits of ::ffff:10.0.0.0/8 count from the front of 128, so it let in all of IPv4.
        if prefix_bits < _MAPPED.prefixlen:
            raise Refused(f"{raw} would cover all IPv4 addresses; write the IPv4 block, {address.ipv4_mapped}/...")
        return _network(f"{address.ipv4_mapped}/{prefix_bits - _MAPPED.prefixlen}", context)
    if address != written.network.network_address:
        raise Refused(f"{raw} has bits set after its prefix; write {written.network}, or {address} for one host")
    return written.network


def admits(networks: Sequence[Network], peer: str) -> bool:
    """Whether a peer's address is in one of the networks. A mapped IPv6 address counts as the IPv4 address it maps."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        address = address.ipv4_mapped or address
    return any(address in network for network in networks)


def endpoint_urls() -> Kind[tuple[str, ...]]:
    """etcd's endpoints, `http(s)://host:port`, all of one scheme."""
    form = "a list of http://host:port or https://host:port"
    items = list_of(Kind(form, _endpoint), form, minimum=1)

    def parse(raw: object, context: Context) -> tuple[str, ...]:
        urls = items.parse([raw] if isinstance(raw, str) else raw, context)
        if len({urlsplit(url).scheme for url in urls}) > 1:
            raise Refused("endpoints must be all http or all https: they are members of one cluster")
        return urls

    return Kind(form, parse)


def _endpoint(raw: object, context: Context) -> str:
    form = "http://host:port or https://host:port"
    if not isinstance(raw, str):
        raise Refused(f"must be {form}, not {shown(raw)}")
    try:
        parts = urlsplit(raw)
        port = parts.port
    except ValueError:
        raise Refused(f"must be {form}") from None
    if "@" in parts.netloc:
        raise Refused("must not hold a user or password; use deployment.etcd.user and .password")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise Refused(f"must be {form}, not {shown(raw)}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    # 2379 is etcd's client port; APISIX leaves it to the URL, where 80 and 443 would be meant by nobody.
    return f"{parts.scheme}://{host}:{port or 2379}"
