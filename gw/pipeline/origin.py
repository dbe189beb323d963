"""Settles where a request came from, before anything reads its headers: `Gateway.locate` of a worker.

`gw.pipeline.headers.admit` calls it where a header may tell, and reads the headers again: what it, plugins, variables
and the upstream get to see afterwards are the headers that count.
"""

from __future__ import annotations

from typing import Final

from gw.pipeline.caller import drop_identity, watch_identity_headers
from gw.pipeline.client_address import RealIp
from gw.pipeline.context import Request
from gw.pipeline.forwarded import Trust, TrustedAddresses, has_forgeries, observed, without_forgeries
from gw.pipeline.headers import note_origin_header
from gw.settings.tree import Settings

# Peers come back; one that does not makes room for the others at last.
_MAX_REMEMBERED: Final = 4096


class Origin:
    """The settled rules of gw.pipeline.client_address and gw.pipeline.forwarded. One per worker; call it."""

    __slots__ = ("_known", "_real_ip", "_trusted")

    def __init__(self, real_ip: RealIp, trusted: TrustedAddresses) -> None:
        self._real_ip = real_ip
        self._trusted = trusted
        self._known: dict[str, tuple[bool, Trust]] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> Origin:
        """From nginx_config.http.real_ip_* and apisix.trusted_addresses."""
        http = settings.nginx_config.http
        note_origin_header(http.real_ip_header.lower().encode("ascii"))
        watch_identity_headers()
        return cls(
            RealIp(http.real_ip_header, http.real_ip_from, is_recursive=http.real_ip_recursive),
            TrustedAddresses(settings.apisix.trusted_addresses),
        )

    def __call__(self, request: Request) -> None:
        """Set `remote_addr` and `remote_port`; take away the forwarding headers that do not count, and any identity."""
        link, headers = request.link, request.headers
        is_proxy, trust = self._known.get(link.peer) or self._judge(link.peer)
        if is_proxy:
            found = self._real_ip.find(link.peer, link.peer_port, headers)
            request.remote_addr, request.remote_port = found.remote_addr, found.remote_port
        if has_forgeries(trust, headers):
            host = next((value for name, value in headers if name == b"host"), None)
            seen = observed(link.scheme, host, link.server_port)
            request.headers = without_forgeries(trust, headers, seen)
        drop_identity(request)
        request.is_settled = True

    def _judge(self, peer: str) -> tuple[bool, Trust]:
        """Whether real_ip_header of a peer is believed, and what the rest of its word is worth."""
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        judged = self._known[peer] = (self._real_ip.trusts(peer), self._trusted.judge(peer))
        return judged
