"""Connections to Redis: one client a worker for all who name the same server in the same way.

The library is imported when the first client is used, in a thread: it takes longer than the loop may be held.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

_DEFAULT_PORT: Final = 6379
# These pools refuse instead of waiting, so they get one connection for each request under way, as in APISIX.
_UNBOUNDED: Final = 2**31 - 1


class RedisClient(Protocol):
    """What is used of redis.asyncio's Redis and RedisCluster."""

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any: ...

    async def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any: ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """How Redis is reached; equal ones share a client. Passwords do not show in a repr."""

    policy: str
    nodes: tuple[tuple[str, int], ...]
    username: str | None
    _password: str | None
    database: int
    connect_timeout_s: float
    read_timeout_s: float
    connections: int
    tls: bool
    verify: bool
    master: str
    wants_replica: bool
    sentinel_username: str | None
    _sentinel_password: str | None

    def __repr__(self) -> str:
        return f"Options({self.policy}, {self.nodes})"

    @classmethod
    def of(cls, conf: Mapping[str, Any]) -> Options:
        """From a plugin's configuration that passed its schema. Raises ValueError for a node that is no address."""
        policy = conf["policy"]
        timeout_ms = conf.get("redis_timeout", 1000)
        prefix = "redis_cluster" if policy == "redis-cluster" else "redis"
        return cls(
            policy=policy,
            nodes=_nodes(policy, conf),
            username=conf.get("redis_username"),
            _password=conf.get("redis_password") or None,
            database=0 if policy == "redis-cluster" else conf.get("redis_database", 0),
            connect_timeout_s=conf.get("redis_connect_timeout", timeout_ms) / 1000,
            read_timeout_s=conf.get("redis_read_timeout", timeout_ms) / 1000,
            connections=conf.get("redis_keepalive_pool", 100),
            tls=conf.get(f"{prefix}_ssl", False),
            verify=conf.get(f"{prefix}_ssl_verify", False),
            master=conf.get("redis_master_name", ""),
            wants_replica=conf.get("redis_role") == "slave",
            sentinel_username=conf.get("sentinel_username"),
            _sentinel_password=conf.get("sentinel_password") or None,
        )

    def connect(self) -> RedisClient:
        """A client; it opens connections when it is used. Imports the library: not for the loop."""
        redis = importlib.import_module("redis.asyncio")
        no_retry = importlib.import_module("redis.asyncio.retry").Retry(
            importlib.import_module("redis.backoff").NoBackoff(), 0
        )
        common: dict[str, Any] = {
            "username": self.username,
            "password": self._password,
            "socket_timeout": self.read_timeout_s,
            "socket_connect_timeout": self.connect_timeout_s,
            # A command that may have been done is not sent twice.
            "retry": no_retry,
            "protocol": 2,
            # Nothing but what was asked for goes over a connection.
            "driver_info": None,
        }
        return _CONNECT[self.policy](self, redis, common)

    def _tls(self) -> dict[str, Any]:
        if not self.tls:
            return {}
        return {"ssl_cert_reqs": "required" if self.verify else "none", "ssl_check_hostname": self.verify}

    def _connect_one(self, redis: Any, common: dict[str, Any]) -> RedisClient:
        (host, port) = self.nodes[0]
        connection = redis.SSLConnection if self.tls else redis.Connection
        pool = redis.BlockingConnectionPool(
            max_connections=self.connections,
            timeout=self.connect_timeout_s,
            connection_class=connection,
            host=host,
            port=port,
            db=self.database,
            **common,
            **self._tls(),
        )
        client: RedisClient = redis.Redis.from_pool(pool)
        return client

    def _connect_cluster(self, redis: Any, common: dict[str, Any]) -> RedisClient:
        nodes = [importlib.import_module("redis.asyncio.cluster").ClusterNode(host, port) for host, port in self.nodes]
        client: RedisClient = redis.RedisCluster(
            startup_nodes=nodes,
            max_connections=_UNBOUNDED,
            ssl=self.tls,
            **common,
            **self._tls(),
        )
        return client

    def _connect_sentinel(self, redis: Any, common: dict[str, Any]) -> RedisClient:
        asked = {**common, "username": self.sentinel_username, "password": self._sentinel_password}
        sentinel = importlib.import_module("redis.asyncio.sentinel").Sentinel(list(self.nodes), sentinel_kwargs=asked)
        choose = sentinel.slave_for if self.wants_replica else sentinel.master_for
        named = choose(self.master, db=self.database, max_connections=_UNBOUNDED, **common)
        return _BehindSentinels(named, sentinel.sentinels)


class _BehindSentinels:
    """The client of what sentinels name. The library leaves the connections to the sentinels themselves open."""

    def __init__(self, named: RedisClient, sentinels: Iterable[RedisClient]) -> None:
        self.evalsha = named.evalsha
        self.eval = named.eval
        self._all = (named, *sentinels)

    async def aclose(self) -> None:
        for client in self._all:
            await client.aclose()


_CONNECT: Final[dict[str, Callable[[Options, Any, dict[str, Any]], RedisClient]]] = {
    "redis": Options._connect_one,
    "redis-cluster": Options._connect_cluster,
    "redis-sentinel": Options._connect_sentinel,
}


def _nodes(policy: str, conf: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    if policy == "redis-cluster":
        return tuple(_address(node) for node in conf["redis_cluster_nodes"])
    if policy == "redis-sentinel":
        return tuple((node["host"], node["port"]) for node in conf["redis_sentinels"])
    return ((conf["redis_host"], conf.get("redis_port", _DEFAULT_PORT)),)


def _address(node: str) -> tuple[str, int]:
    host, colon, port = node.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"redis_cluster_nodes: {node!r} is no address; write host:port")
    return host.strip("[]"), int(port)


_Key: TypeAlias = tuple[int, Options]
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], Any]


class Clients:
    """Which clients a process has, and how many use each. Those of one loop are not given to another."""

    def __init__(self) -> None:
        self._found: dict[_Key, tuple[asyncio.Future[RedisClient] | None, int]] = {}

    def take(self, loop: asyncio.AbstractEventLoop, options: Options) -> Lease:
        """A share in the client of these options. Opens nothing yet."""
        key = (id(loop), options)
        future, users = self._found.get(key, (None, 0))
        self._found[key] = (future, users + 1)
        return Lease(self, key, loop)

    async def connected(self, key: _Key, loop: asyncio.AbstractEventLoop) -> RedisClient:
        """The client, made when the first request needs it."""
        future, users = self._found[key]
        if future is None or (future.done() and (future.cancelled() or future.exception() is not None)):
            future = loop.run_in_executor(None, key[1].connect)
            self._found[key] = (future, users)
        return await asyncio.shield(future)

    def give_back(self, key: _Key) -> asyncio.Future[RedisClient] | None:
        """One user less; the client to be closed when that was the last."""
        future, users = self._found[key]
        if users > 1:
            self._found[key] = (future, users - 1)
            return None
        del self._found[key]
        return future


class Lease:
    """One user's share in a client."""

    __slots__ = ("_client", "_clients", "_is_open", "_key", "_loop")

    def __init__(self, clients: Clients, key: _Key, loop: asyncio.AbstractEventLoop) -> None:
        self._clients = clients
        self._key = key
        self._loop = loop
        self._client: RedisClient | None = None
        self._is_open = True

    async def client(self) -> RedisClient:
        """The client; also for requests that are under way when this is closed. Raises what the library raises."""
        if self._client is None:
            self._client = await self._clients.connected(self._key, self._loop)
        return self._client

    def close(self, spawn: Spawn | None) -> None:
        """Give it back; `spawn` runs the closing of connections that nobody needs any more. Twice is no error."""
        if self._is_open:
            self._is_open = False
            if (future := self._clients.give_back(self._key)) is not None:
                closing = _close(future)
                spawn(closing) if spawn is not None else self._loop.create_task(closing)


async def _close(future: asyncio.Future[RedisClient]) -> None:
    client = await future
    await client.aclose()


# One for the process: instances that come and go with configurations share what they find here.
CLIENTS: Final = Clients()
