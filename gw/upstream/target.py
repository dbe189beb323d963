"""What a connection to an upstream is opened to, and the figures that hold while it is used. Data only."""

from typing import NamedTuple


class TlsIdentity(NamedTuple):
    """What makes two TLS connections to one address different: they never share a pool."""

    server_name: str
    verify: bool


class Target(NamedTuple):
    """Where to connect: the key of the connection pool. `tls` None: plain TCP."""

    host: str  # a name or an address, IPv6 without brackets
    port: int
    tls: TlsIdentity | None = None


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
