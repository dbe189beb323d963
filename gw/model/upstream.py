"""An upstream as what uses it needs it: nodes as one list, ports and addresses settled, defaults in place.

Built from dicts that `gw.schema.validate` has passed; nothing is checked again here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gw.model.digest import fingerprint

# apisix/upstream.lua, scheme_to_port. Of the others (tcp, tls, udp, kafka) no port can be guessed.
DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443, "grpc": 80, "grpcs": 443}
# A longer time-out is no time-out; event loops count in milliseconds and overflow on what a double can hold.
MAX_TIMEOUT_S: Final = 365.0 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Timeout:
    """Seconds to connect, between two writes, and between two reads."""

    connect: float
    send: float
    read: float

    @classmethod
    def from_dict(cls, timeout: Mapping[str, Any]) -> Self:
        return cls(*(min(float(timeout[name]), MAX_TIMEOUT_S) for name in ("connect", "send", "read")))


# nginx's proxy_*_timeout, which APISIX leaves in force where neither route nor upstream says anything.
DEFAULT_TIMEOUT: Final = Timeout(connect=60.0, send=60.0, read=60.0)


@dataclass(frozen=True, slots=True)
class KeepalivePool:
    """Idle connections of one upstream: how many, for how many seconds (0: none is kept), requests per connection."""

    size: int
    idle_timeout: float
    requests: int

    @classmethod
    def from_dict(cls, pool: Mapping[str, Any]) -> Self:
        return cls(pool["size"], min(float(pool["idle_timeout"]), MAX_TIMEOUT_S), pool["requests"])


@dataclass(frozen=True, slots=True)
class Node:
    """One address traffic may be sent to. `host` is a domain or an address, IPv6 without brackets.

    `port` is 0 where none is given and the scheme has none either (L4). `weight` 0 takes no traffic. Nodes of a lower
    `priority` are used when all of a higher one are down.
    """

    host: str
    port: int
    weight: int
    priority: int = 0

    @property
    def authority(self) -> str:
        """host:port, with IPv6 in brackets."""
        return f"{_bracketed(self.host)}:{self.port}"

    def host_header(self, scheme: str) -> str:
        """The Host header under `pass_host: node`: the port is left out where it is the scheme's own.

        Source: parse_server_for_upstream_host in apisix/balancer.lua.
        """
        return _bracketed(self.host) if self.port in (0, DEFAULT_PORTS.get(scheme)) else self.authority


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where traffic goes and how. `id` is None for one that is written into a route or service; `fingerprint` is that
    of all its fields, to tell whether it changed without keeping it.

    `nodes` is empty where `service_name` and `discovery_type` say who knows them. `timeout` and `keepalive_pool` are
    None where the upstream leaves them to others; `retries` None means as many as there are other nodes.
    """

    id: str | None
    name: str | None
    type: str
    nodes: tuple[Node, ...]
    scheme: str
    pass_host: str
    upstream_host: str | None
    timeout: Timeout | None
    retries: int | None
    retry_timeout: float | None
    keepalive_pool: KeepalivePool | None
    hash_on: str
    key: str | None
    checks: Mapping[str, Any] | None
    tls: Mapping[str, Any] | None
    service_name: str | None
    discovery_type: str | None
    discovery_args: Mapping[str, Any] | None
    labels: Mapping[str, str]
    fingerprint: int

    @classmethod
    def from_dict(cls, upstream: Mapping[str, Any], id: str | None = None) -> Self:
        """`id` is that of the store key; None for one inside a route or service."""
        timeout, pool = upstream.get("timeout"), upstream.get("keepalive_pool")
        return cls(
            id=id,
            name=upstream.get("name"),
            type=upstream["type"],
            nodes=read_nodes(upstream.get("nodes", ()), upstream["scheme"]),
            scheme=upstream["scheme"],
            pass_host=upstream["pass_host"],
            upstream_host=upstream.get("upstream_host"),
            timeout=None if timeout is None else Timeout.from_dict(timeout),
            retries=upstream.get("retries"),
            retry_timeout=upstream.get("retry_timeout"),
            keepalive_pool=None if pool is None else KeepalivePool.from_dict(pool),
            hash_on=upstream["hash_on"],
            key=upstream.get("key"),
            checks=upstream.get("checks"),
            tls=upstream.get("tls"),
            service_name=upstream.get("service_name"),
            discovery_type=upstream.get("discovery_type"),
            discovery_args=upstream.get("discovery_args"),
            labels=upstream.get("labels", {}),
            fingerprint=fingerprint(upstream),
        )


def read_nodes(nodes: Any, scheme: str) -> tuple[Node, ...]:
    """Nodes from either of their forms: weights by address, or a list of objects."""
    default_port = DEFAULT_PORTS.get(scheme, 0)
    if isinstance(nodes, Mapping):
        split = [(*split_address(address), weight) for address, weight in nodes.items()]
        return tuple(Node(host, default_port if port is None else port, weight) for host, port, weight in split)
    return tuple(
        Node(_unbracketed(node["host"]), node.get("port", default_port), node["weight"], node.get("priority", 0))
        for node in nodes
    )


def split_address(address: str) -> tuple[str, int | None]:
    """Host (IPv6 without brackets) and port of `host`, `host:port`, `[::1]`, `[::1]:80` or `::1`."""
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]") or (":" in host and not host.startswith("[")):
        return _unbracketed(address), None
    return _unbracketed(host), int(port)


def _unbracketed(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
