"""The settings that say whose word counts about where a request comes from: APISIX's names and defaults."""
# ruff: noqa: RUF009 - setting is a field specifier, as dataclasses.field is

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from gw.settings import kinds, network
from gw.settings.declare import Context, Kind, Refused, setting
from gw.settings.network import Network

# nginx's word for all peers on Unix sockets.
UNIX: Final = "unix:"
Peers: TypeAlias = tuple[Network | str, ...]


def _peers() -> Kind[Peers]:
    """Addresses, CIDR blocks, and `unix:`. A name, which nginx would look up once at the start, is not accepted."""
    form = "a list of addresses, CIDR blocks and unix:"
    block = network.networks()

    def parse_item(raw: object, context: Context) -> Network | str:
        if raw == UNIX:
            return UNIX
        try:
            return block.parse([raw], context)[0]
        except Refused as refused:
            raise Refused(f"{refused.reason} (or {UNIX})") from None

    return kinds.list_of(Kind(form, parse_item), form)


@dataclass(frozen=True)
class RealIpSettings:
    """nginx's realip module, under nginx_config.http. Not slotted, because that section inherits from several."""

    real_ip_header: str = setting(
        kinds.text("the name of a request header", r"(?!proxy_protocol\Z)[!#$%&'*+.^_`|~0-9A-Za-z-]+"),
        default="X-Real-IP",
        help="The header with the client's address, taken from the peers in real_ip_from alone. (proxy_protocol is not "
        "supported yet.)",
    )
    real_ip_recursive: bool = setting(
        kinds.boolean(),
        default="off",
        help="off: the header's last address is the client; on: its last one that is not in real_ip_from.",
    )
    real_ip_from: Peers = setting(
        _peers(),
        default=["127.0.0.1", "unix:"],
        help="Peers whose real_ip_header is believed; unix: are all on Unix sockets. An empty list believes nobody.",
    )


@dataclass(frozen=True)
class TrustSettings:
    """Whose X-Forwarded-* headers count, under apisix. Not slotted, because that section inherits from it."""

    trusted_addresses: tuple[Network, ...] | None = setting(
        kinds.optional(network.networks()),
        default=None,
        help="Peers whose X-Forwarded-Proto, -Host, -Port and Forwarded are passed on; those of others are replaced by "
        "what the gateway sees. With a list, X-Forwarded-For of others is dropped, too; without one it is appended to.",
    )


def trust_warnings(trusted: tuple[Network, ...] | None, real_ip_from: Peers) -> Iterator[str]:
    """What is accepted, but lets every client say where it comes from."""
    for path, peers in (("apisix.trusted_addresses", trusted or ()), ("nginx_config.http.real_ip_from", real_ip_from)):
        if any(not isinstance(peer, str) and peer.prefixlen == 0 for peer in peers):
            yield f"{path} holds everybody: any client can choose the address that limits, rules and logs see"
