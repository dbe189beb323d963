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
    """Which clients a process has, and how many hold each. Those of one loop are not given to another."""

    def __init__(self) -> None:
        self._held: dict[_Key, tuple[asyncio.Future[RedisClient] | None, int]] = {}

    def hold(self, key: _Key) -> None:
        """One holder more. Opens nothing."""
        future, holders = self._held.get(key, (None, 0))
        self._held[key] = (future, holders + 1)

    async def connected(self, key: _Key, loop: asyncio.AbstractEventLoop) -> RedisClient:
        """The client, made when the first request needs it, for who holds it. Raises what the library raises."""
        future, holders = self._held[key]
        if future is None or (future.done() and future.exception() is not None):
            future = loop.run_in_executor(None, key[1].connect)
            self._held[key] = (future, holders)
        return await asyncio.shield(future)

    def let_go(self, key: _Key) -> asyncio.Future[RedisClient] | None:
        """One holder less; the client to be closed when that was the last."""
        future, holders = self._held[key]
        if holders > 1:
            self._held[key] = (future, holders - 1)
            return None
        del self._held[key]
        return future


# One for the process: instances that come and go with configurations share what they find here.
CLIENTS: Final = Clients()


class Lease:
    """One user's share in the client of some options, held from the first use on.

    Use it with `async with`. After `close` it is let go of with the last use; a use that begins later (a request that
    was under way when its configuration went) holds it for as long as it takes.
    """

    __slots__ = ("_clients", "_is_held", "_key", "_loop", "_spawn", "_uses", "_was_closed")

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, clients: Clients = CLIENTS) -> None:
        self._clients = clients
        self._key = (id(loop), options)
        self._loop = loop
        self._spawn: Spawn = loop.create_task
        self._uses = 0
        self._is_held = False
        self._was_closed = False

    async def __aenter__(self) -> RedisClient:
        if not self._is_held:
            self._clients.hold(self._key)
            self._is_held = True
        self._uses += 1
        try:
            return await self._clients.connected(self._key, self._loop)
        except BaseException:
            self._used()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._used()

    def close(self, spawn: Spawn | None) -> None:
        """Nobody will begin a use. `spawn` runs the closing of connections that nobody needs. Twice is no error."""
        self._spawn = spawn or self._spawn
        self._was_closed = True
        self._let_go()

    def _used(self) -> None:
        self._uses -= 1
        if self._was_closed:
            self._let_go()

    def _let_go(self) -> None:
        if self._is_held and not self._uses:
            self._is_held = False
            if (future := self._clients.let_go(self._key)) is not None:
                self._spawn(_close(future))


async def _close(future: asyncio.Future[RedisClient]) -> None:
    client = await future
    await client.aclose()
