"""Where etcd is and how it is spoken to: plain values, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from gw.errors import ConfigError

DEFAULT_PORT = 2379  # registered for etcd clients


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Files in PEM, read anew for each connection. `ca` None: the system's authorities.

    `verify` False accepts any certificate the server shows (it must still be within its dates). `sni` is the name to
    ask for and to find in the certificate, in place of the host's.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    verify: bool = True
    sni: str | None = None


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """`hosts` are URLs (`http://10.0.0.1:2379`), tried in this order. `prefix` as in APISIX, `/apisix`.

    `timeout_s` bounds every request. Raises ConfigError for a host that is no such URL.
    """

    hosts: tuple[str, ...]
    prefix: str = "/apisix"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: TlsOptions = TlsOptions()
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.hosts:
            raise ConfigError("deployment.etcd.host", "names no host")
        for host in self.hosts:
            parse_host(host)


@dataclass(frozen=True, slots=True)
class Address:
    """One endpoint. `target` is what gRPC connects to, `url` what people are shown."""

    url: str
    host: str
    port: int
    is_tls: bool

    @property
    def target(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host(url: str) -> Address:
    """The address in a URL of `deployment.etcd.host`. Raises ConfigError, which shows no part of a user or password."""
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ConfigError("deployment.etcd.host", "a user belongs in deployment.etcd.user and .password, not in a URL")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        raise ConfigError("deployment.etcd.host", f"{url!r} has no valid port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ConfigError("deployment.etcd.host", f"{url!r} is not of the form http://host:port or https://host:port")
    return Address(url, parts.hostname, port, parts.scheme == "https")
