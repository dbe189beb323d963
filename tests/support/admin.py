"""The Admin API from end to end in one process: falcon app, real Unix socket, real AdminServer, real store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from falcon.testing import ASGIConductor

from gw.admin.agent_client import AgentClient
from gw.admin.app import admin_app
from gw.admin.resource import UntilServed
from gw.clock import Clock, SystemClock
from gw.plugins.catalogue import NO_CATALOGUE, Catalogue
from gw.schema import NO_PLUGINS, PluginSchemas
from gw.settings import AdminKey, Settings, load_settings
from sync_agent.admin.keys import AdminKeys
from sync_agent.admin.operations import AdminLimits
from sync_agent.admin.server import AdminServer
from sync_agent.identities import Identities
from sync_agent.stores.base import Store
from sync_agent.stores.sql.sqlite import DIALECT, SqliteDatabase
from sync_agent.stores.sql.store import SqlStore

ADMIN_KEY = "planted-admin-key-5f2c9a"
VIEWER_KEY = "planted-viewer-key-77e1b0"
KEYS = (AdminKey("admin", ADMIN_KEY, "admin"), AdminKey("viewer", VIEWER_KEY, "viewer"))
ROUTE: Mapping[str, Any] = {"uri": "/hello", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}}
UPSTREAM: Mapping[str, Any] = {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}

MakeStore = Callable[[], Store]


class MovedClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, wall_s: float = 1_700_000_000.0) -> None:
        self.wall_s = wall_s

    def wall(self) -> float:
        return self.wall_s

    def cpu(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.wall_s


@dataclass
class Reply:
    """An answer of the Admin API. `body` is its JSON, None when it has none."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class World:
    """What a test of the Admin API holds in its hands."""

    def __init__(self, http: ASGIConductor, store: Store, server: AdminServer, client: AgentClient, path: Path) -> None:
        self.http = http
        self.store = store
        self.server = server
        self.client = client
        self.socket_path = path

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN_KEY,
        raw: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        peer: str = "127.0.0.1",
    ) -> Reply:
        """One request below /apisix/admin; a path that begins with // is taken as it is, less one slash."""
        sent = ({} if key is None else {"X-API-KEY": key}) | dict(headers or {})
        result = await self.http.simulate_request(
            method,
            path[1:] if path.startswith("//") else f"/apisix/admin{path}",
            headers=sent,
            host=host,
            port=9180,
            body=raw if raw is not None else (None if body is None else json.dumps(body)),
            remote_addr=peer,
        )
        is_json = result.headers.get("content-type", "").startswith("application/json")
        body = json.loads(result.content) if result.content and is_json else result.text or None
        return Reply(result.status_code, body, result.headers)


def admin_settings(directory: Path, text: str = "") -> Settings:
    """Real settings, from a file with this text."""
    path = directory / "config.yaml"
    path.write_text(text or "apisix: {}\n")
    path.chmod(0o600)
    return load_settings(path)


def sqlite_store(directory: Path, clock: Clock | None = None) -> SqlStore:
    """A store in a file of its own."""
    return SqlStore(SqliteDatabase(directory / "config.db"), DIALECT, clock or SystemClock())


@contextlib.asynccontextmanager
async def agent(
    directory: Path,
    store: Store,
    *,
    limits: AdminLimits | None = None,
    keys: AdminKeys | None = None,
    clock: Clock | None = None,
    status: Callable[[], Mapping[str, Any]] = dict,
    processed: Callable[[], int] = lambda: 0,
    plugins: PluginSchemas = NO_PLUGINS,
    identities: Identities | None = None,
) -> AsyncIterator[AdminServer]:
    """The agent's admin side, serving at `directory/agent.sock`."""
    server = AdminServer(
        directory / "agent.sock",
        store,
        keys or AdminKeys(KEYS),
        limits or AdminLimits(),
        status,
        processed=processed,
        prefix="/apisix",
        clock=clock,
        plugins=plugins,
        identities=identities,
    )
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def served_at_once(revision: int, timeout_s: float) -> list[dict[str, Any]]:
    """There are no workers to wait for."""
    return []


@contextlib.asynccontextmanager
async def world(
    directory: Path,
    store: Store | None = None,
    *,
    config: str = "",
    clock: Clock | None = None,
    until_served: UntilServed = served_at_once,
    catalogue: Catalogue = NO_CATALOGUE,
    **of_agent: Any,
) -> AsyncIterator[World]:
    """Everything together. Without a store, SQLite in a file. The store is closed in the end."""
    async with contextlib.AsyncExitStack() as stack:
        store = store or sqlite_store(directory)
        stack.push_async_callback(store.close)
        server = await stack.enter_async_context(agent(directory, store, clock=clock, **of_agent))
        client = AgentClient(directory / "agent.sock")
        stack.push_async_callback(client.close)
        app = admin_app(admin_settings(directory, config), client, until_served, catalogue)
        http = await stack.enter_async_context(ASGIConductor(app))
        yield World(http, store, server, client, directory / "agent.sock")
