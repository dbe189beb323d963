"""Where resources are kept. `base` is the contract, a package beside it each store; `open_store` chooses by URL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from gw.clock import Clock
from gw.errors import ConfigError
from gw.settings import AgentSettings, EtcdSettings
from gw.settings.roles import DOCUMENT_FORMS
from sync_agent.stores.base import Store

# What follows a scheme is a path, so an absolute one makes four slashes.
SQLITE_SCHEME: Final = "sqlite:///"
STANDALONE_SCHEME: Final = "standalone:///"
FILE_SCHEMES: Final = {f"{form}:///": form for form in DOCUMENT_FORMS}


def open_store(settings: AgentSettings, clock: Clock) -> Store:
    """The store that the settings name. Nothing is connected to or made before its first use.

    Each store is imported only when it is the one: gRPC and etcd3 take 0.2 s and 17 MB that SQLite has no use for.
    """
    if settings.store_url == "etcd":
        return _open_etcd(settings.etcd)
    if settings.store_url.startswith(SQLITE_SCHEME):
        return _open_sqlite(Path(settings.store_url.removeprefix(SQLITE_SCHEME)), clock)
    if settings.store_url.startswith(STANDALONE_SCHEME):
        return _open_standalone(Path(settings.store_url.removeprefix(STANDALONE_SCHEME)), clock)
    for scheme, form in FILE_SCHEMES.items():
        if settings.store_url.startswith(scheme):
            limit_bytes = settings.settings.gw.limits.document_bytes
            return _open_file(Path(settings.store_url.removeprefix(scheme)), form, clock, limit_bytes)
    raise ConfigError("gw.store", "is no store that there is")


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


def _open_standalone(path: Path, clock: Clock) -> Store:
    from sync_agent.stores.standalone.pushed_store import PushedStore

    return PushedStore(path, clock)


def _open_file(path: Path, form: str, clock: Clock, limit_bytes: int) -> Store:
    from sync_agent.stores.standalone.file_store import FileStore

    return FileStore(path, form, clock, limit_bytes=limit_bytes, environ=os.environ)
