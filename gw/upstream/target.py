"""What a connection to an upstream is opened to, and the figures that hold while it is used. Data only."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

_DIGEST_BYTES: Final = 16


class TlsMaterial:
    """What a TLS connection is made with beside names: PEM texts of the client's certificate and key, and of CAs.

    Equal and hashed by a digest of all of it, which is also all that its repr shows: this stands in keys of pools and
    in messages, and holds a private key. `ca_certs` empty: the authorities of the gateway's configuration.
    """

    __slots__ = ("_digest", "ca_certs", "client_cert", "client_key")

    def __init__(self, client_cert: str = "", client_key: str = "", ca_certs: tuple[str, ...] = ()) -> None:
        self.client_cert = client_cert
        self.client_key = client_key
        self.ca_certs = ca_certs
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for text in (client_cert, client_key, *ca_certs):
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8) + encoded)
        self._digest = digest.digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TlsMaterial) and other._digest == self._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"<TlsMaterial {self._digest.hex()[:8]}>"


class TlsIdentity(NamedTuple):
    """What makes two TLS connections to one address different: they never share a pool.

    `server_name`: what SNI says and the certificate is verified for; "" or an address: no SNI.
    """

    server_name: str
    verify: bool
    material: TlsMaterial | None = None


class Target(NamedTuple):
    """Where to connect: the key of the connection pool. `tls` None: plain TCP."""

    host: str  # a name or an address, IPv6 without brackets
    port: int
    tls: TlsIdentity | None = None

    def named(self, server_name: str) -> Target:
        """The same with another name in TLS, for upstreams where the client's Host is it; plain TCP has none."""
        tls = self.tls
        return self if tls is None or tls.server_name == server_name else self._with_name(tls, server_name)

    def _with_name(self, tls: TlsIdentity, server_name: str) -> Target:
        return Target(self.host, self.port, TlsIdentity(server_name, tls.verify, tls.material))


class Timeouts(NamedTuple):
    """Seconds. `send_s`: between two writes that make progress; `read_s`: between two reads, as in APISIX."""

    connect_s: float
    send_s: float
    read_s: float


class KeepAlive(NamedTuple):
    """How long and how often a connection is used again; APISIX's `keepalive_pool`."""

    max_idle: int  # idle connections per target and worker
    idle_timeout_s: float
    max_requests: int  # requests served by one connection
