"""Where resources are kept. `base` is the contract, a package beside it each store; `open_store` chooses by URL."""

from __future__ import annotations

from pathlib import Path

from gw.clock import Clock
from gw.errors import ConfigError
from gw.settings import AgentSettings, EtcdSettings
from sync_agent.stores.base import Store

SQLITE_SCHEME = "sqlite:///"  # what follows is a path, so an absolute one makes four slashes


def open_store(settings: AgentSettings, clock: Clock) -> Store:
    """The store that the settings name. Nothing is connected to or made before its first use.

    Each store is imported only when it is the one: gRPC and etcd3 take 0.2 s and 17 MB that SQLite has no use for.
    """
    if settings.store_url == "etcd":
        return _open_etcd(settings.etcd)
    if settings.store_url.startswith(SQLITE_SCHEME):
        return _open_sqlite(Path(settings.store_url.removeprefix(SQLITE_SCHEME)), clock)
    raise ConfigError("gw.store", "is neither etcd nor sqlite:///path")


def _open_etcd(settings: EtcdSettings) -> Store:
    from sync_agent.stores.etcd.options import EtcdOptions, TlsOptions
    from sync_agent.stores.etcd.store import EtcdStore

    tls = settings.tls
    return EtcdStore(
        EtcdOptions(
            hosts=settings.hosts,
            prefix=settings.prefix,
            user=settings.user,
            password=settings.password,
            tls=TlsOptions(ca=tls.ca, cert=tls.cert, key=tls.key, verify=tls.verify, sni=tls.sni),
            timeout_s=settings.timeout_s,
        )
    )


def _open_sqlite(path: Path, clock: Clock) -> Store:
    from sync_agent.stores.sql.sqlite import DIALECT, SqliteDatabase
    from sync_agent.stores.sql.store import SqlStore

    return SqlStore(SqliteDatabase(path), DIALECT, clock)
