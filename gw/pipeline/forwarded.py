"""Whose X-Forwarded-* and Forwarded count: those of a peer in apisix.trusted_addresses. Pure.

As APISIX since 3.14 (its t/core/trusted-addresses.t has each case), by the socket's peer, not by what a header says:

    trusted_addresses   peer    X-Forwarded-Proto, -Host, -Port      Forwarded   X-Forwarded-For
    not set             any     what the gateway sees                dropped     kept, remote_addr appended
    set                 others  what the gateway sees                dropped     remote_addr alone
    set                 in it   the peer's; where it says nothing    kept        kept, remote_addr appended
                                (or an empty value): what we see

`without_forgeries` brings the headers of a request into that form once, before anything reads them, so that plugins and
variables see what the upstream will get. From then on whoever writes a request takes the header where it has a value,
and what the gateway sees where it has none; a plugin that sets one of them is believed.
"""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from itertools import product
from operator import itemgetter
from typing import Final, NamedTuple

from gw.pipeline.addresses import AddressSet
from gw.pipeline.fields import Headers
from gw.pipeline.path import REMEMBERED_HOST_BYTES
from gw.settings.network import Network

_PROTO: Final = b"x-forwarded-proto"
_HOST: Final = b"x-forwarded-host"
_PORT: Final = b"x-forwarded-port"
_FOR: Final = b"x-forwarded-for"


def spellings(name: bytes) -> frozenset[bytes]:
    """A name as WSGI, CGI and PHP fold names onto it: each dash may be an underscore or a dot."""
    parts = name.split(b"-")
    joints = product((b"-", b"_", b"."), repeat=len(parts) - 1)
    return frozenset(
        b"".join(part + joint for part, joint in zip(parts, (*each, b""), strict=True)) for each in joints
    )


_OBSERVED_NAMES: Final = frozenset[bytes]().union(*map(spellings, (_PROTO, _HOST, _PORT)), (b"forwarded",))
_FOR_ALIASES: Final = spellings(_FOR) - {_FOR}
_name_of = itemgetter(0)
_PORT_OF_HOST: Final = re.compile(rb"(?:\[[^\]]*\]|[^:\[\]]*):([0-9]+)").fullmatch


class Trust(IntEnum):
    """What the list of trusted addresses says of a peer: a row of the module's table."""

    UNDECLARED = 0
    OTHER = 1
    TRUSTED = 2


_UNWANTED: Final = {
    Trust.UNDECLARED: _OBSERVED_NAMES | _FOR_ALIASES,
    Trust.OTHER: _OBSERVED_NAMES | _FOR_ALIASES | {_FOR},
    Trust.TRUSTED: frozenset[bytes](),
}


class TrustedAddresses:
    """apisix.trusted_addresses, settled. One per worker; the answer holds for as long as a connection does."""

    __slots__ = ("_addresses",)

    def __init__(self, networks: tuple[Network, ...] | None) -> None:
        """None: there is no list. An empty one trusts nobody."""
        self._addresses = None if networks is None else AddressSet(networks)

    def judge(self, peer: str) -> Trust:
        """`peer`: the address of the socket's other end."""
        if self._addresses is None:
            return Trust.UNDECLARED
        return Trust.TRUSTED if peer in self._addresses else Trust.OTHER


class Observed(NamedTuple):
    """What the gateway itself sees of a request's origin, as the values of X-Forwarded-Proto, -Host and -Port."""

    proto: bytes
    host: bytes
    port: bytes


def observed(scheme: str, host_header: bytes | None, server_port: int | None) -> Observed:
    """`host_header`: as the client wrote it, admitted; its port, if it names one, is the one the client meant.

    Without a Host (HTTP/1.0) the host is empty, without a port (a Unix socket) the port is.
    """
    is_remembered = host_header is None or len(host_header) <= REMEMBERED_HOST_BYTES
    observe = _remembered_observed if is_remembered else _observed
    return observe(scheme, host_header, server_port)


def _observed(scheme: str, host_header: bytes | None, server_port: int | None) -> Observed:
    host = host_header or b""
    named = _PORT_OF_HOST(host)
    port = named[1] if named else b"" if server_port is None else b"%d" % server_port
    return Observed(scheme.encode("ascii"), host, port)


_remembered_observed = lru_cache(1024)(_observed)


def has_forgeries(trust: Trust, headers: Headers) -> bool:
    """Whether there are headers that do not count."""
    # PERF: walked in C; bench/access_log.py has it as a row.
    return not _UNWANTED[trust].isdisjoint(map(_name_of, headers))


def without_forgeries(trust: Trust, headers: Headers, seen: Observed) -> Headers:
    """The headers that count, as a new list, where some do not.

    As in APISIX, X-Forwarded-Proto, -Host and -Port are put in where a client sent any header that it may not; a
    request that carries none of them shows none to plugins.
    """
    unwanted = _UNWANTED[trust]
    kept = [pair for pair in headers if pair[0] not in unwanted]
    kept += ((_PROTO, seen.proto), (_HOST, seen.host), (_PORT, seen.port))
    return kept


def claimed(headers: Headers, seen: Observed) -> Observed:
    """What an upstream is told: the headers that count, and what we see where they have no value."""
    said = dict.fromkeys((_PROTO, _HOST, _PORT), b"")
    for name, value in headers:
        if name in said and not said[name]:
            said[name] = value
    return Observed(said[_PROTO] or seen.proto, said[_HOST] or seen.host, said[_PORT] or seen.port)
