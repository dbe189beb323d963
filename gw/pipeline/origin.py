"""Settles where a request came from, before anything reads its headers: `Gateway.locate` of a worker.

Call it with the request as the adapter made it, before `gw.pipeline.headers.admit`: what that reads, and what plugins,
variables and the upstream get to see afterwards, are the headers that count.
"""

from __future__ import annotations

from gw.pipeline.client_address import RealIp
from gw.pipeline.context import Request
from gw.pipeline.forwarded import TrustedAddresses, has_forgeries, observed, without_forgeries
from gw.settings.tree import Settings


class Origin:
    """The settled rules of gw.pipeline.client_address and gw.pipeline.forwarded. One per worker; call it."""

    __slots__ = ("_real_ip", "_trusted")

    def __init__(self, real_ip: RealIp, trusted: TrustedAddresses) -> None:
        self._real_ip = real_ip
        self._trusted = trusted

    @classmethod
    def from_settings(cls, settings: Settings) -> Origin:
        """From nginx_config.http.real_ip_* and apisix.trusted_addresses."""
        http = settings.nginx_config.http
        return cls(
            RealIp(http.real_ip_header, http.real_ip_from, is_recursive=http.real_ip_recursive),
            TrustedAddresses(settings.apisix.trusted_addresses),
        )

    def __call__(self, request: Request) -> None:
        """Set `remote_addr` and `remote_port`, and take away the forwarding headers that do not count."""
        link, headers = request.link, request.headers
        if self._real_ip.trusts(link.peer):
            found = self._real_ip.find(link.peer, link.peer_port, headers)
            request.remote_addr, request.remote_port = found.remote_addr, found.remote_port
        trust = self._trusted.judge(link.peer)
        if has_forgeries(trust, headers):
            host = next((value for name, value in headers if name == b"host"), None)
            seen = observed(link.scheme, host, link.server_port)
            request.headers = without_forgeries(trust, headers, seen)
