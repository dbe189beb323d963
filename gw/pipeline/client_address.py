"""Whose address a request counts under: the socket's peer, or what a trusted peer says of its own client. Pure.

The rules are those of nginx's ngx_http_realip_module, which APISIX configures with real_ip_header, real_ip_from and
real_ip_recursive:

- The header counts only when the peer is trusted. What is no address ends the search; what was found so far stands.
- The last address of the value counts, separated by blanks or commas, with or without a port. X-Forwarded-For is all
  its lines in order; of any other header the first line counts.
- Recursive: while the address found is itself trusted, the one before it counts.

Two things differ, both towards one spelling for one client: nginx reads `010.0.0.1` as 10.0.0.1, here it is no address;
and `::ffff:192.0.2.1` becomes `192.0.2.1`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from gw.pipeline.addresses import AddressSet, canonical_address
from gw.settings.client_address import UNIX, Peers

_X_FORWARDED_FOR: Final = b"x-forwarded-for"
_SEPARATORS: Final = b" ,"
# `[2001:db8:...]:65535` with all its digits, and an IPv4 address at its end.
_LONGEST_BYTES: Final = 64
_PORT: Final = re.compile(r"[0-9]{1,9}").fullmatch
# How the adapters name the peer of a Unix socket.
_UNIX_PEERS: Final = frozenset(("", "unix", UNIX))


class ClientAddress(NamedTuple):
    """Where a request comes from, by nginx's names of variables. The same twice where no header counted.

    `remote_port` is None where the header named an address without one, and for Unix sockets.
    """

    remote_addr: str
    remote_port: int | None
    realip_remote_addr: str
    realip_remote_port: int | None


class RealIp:
    """The settled rule. One per worker."""

    __slots__ = ("_header", "_is_recursive", "_trusted", "_trusts_unix")

    def __init__(self, header: str, trusted: Peers, *, is_recursive: bool) -> None:
        """`header`: its name in any case; `trusted`: networks, and `unix:` for all peers of Unix sockets."""
        self._header = header.lower().encode("ascii")
        self._trusted = AddressSet(peer for peer in trusted if not isinstance(peer, str))
        self._trusts_unix = UNIX in trusted
        self._is_recursive = is_recursive

    def trusts(self, peer: str) -> bool:
        """Whether `find` can come to anything but the peer itself: to be asked once for a connection."""
        return self._trusts_unix if peer in _UNIX_PEERS else peer in self._trusted

    def find(self, peer: str, peer_port: int | None, headers: Sequence[tuple[bytes, bytes]]) -> ClientAddress:
        """The address that counts. `peer` is the socket's, in its one spelling; header names are in lower case."""
        found, port = peer, peer_port
        header = self._header
        values = [value for name, value in headers if name == header]
        if values and self.trusts(peer):
            for written in _last_first(values if header == _X_FORWARDED_FOR else values[:1]):
                parsed = _address_and_port(written) if len(written) <= _LONGEST_BYTES else None
                if parsed is None:
                    break
                found, port = parsed
                if not self._is_recursive or found not in self._trusted:
                    break
        return ClientAddress(found, port, peer, peer_port)


def _last_first(values: list[bytes]) -> Iterator[bytes]:
    """What the lines of the header say; an empty piece, which is no address, where nginx would look in vain."""
    for value in reversed(values):
        if value[-1:] in _SEPARATORS:
            value = value.rstrip(_SEPARATORS)
        pieces = value.replace(b",", b" ").split(b" ")
        for number in range(len(pieces) - 1, -1, -1):
            # Two separators side by side are one, unless nothing is before them.
            if pieces[number] or number == 0:
                yield pieces[number]


# Clients come back; the bound keeps those that do not from growing the cache.
@lru_cache(maxsize=4096)
def _address_and_port(written: bytes) -> tuple[str, int | None] | None:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`, as nginx's ngx_parse_addr_port; else None."""
    text = written.decode("latin-1")
    if (whole := canonical_address(text)) is not None:
        return whole, None
    if text.startswith("["):
        host, _, port_text = text[1:].partition("]:")
        if ":" not in host:
            return None
    else:
        host, _, port_text = text.partition(":")
    address = canonical_address(host)
    if address is None or not _PORT(port_text) or not 1 <= int(port_text) <= 65535:
        return None
    return address, int(port_text)
