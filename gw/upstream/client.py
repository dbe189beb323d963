"""Connections to upstream nodes: idle ones from the pool, new ones opened here. The only place that connects.

Opening takes a task, because the event loop's own way to connect is a coroutine; using a connection takes none.
"""

import asyncio
import logging
import random
import socket
import ssl
from pathlib import Path
from typing import Final, Protocol

from gw.errors import UpstreamError
from gw.model.hosts import is_address
from gw.upstream.connection import UpstreamConnection
from gw.upstream.dns_query import MAX_ADDRESSES
from gw.upstream.errors import ConnectFailed, ConnectTimedOut, NotResolved
from gw.upstream.lookup import SystemLookup
from gw.upstream.pool import IdlePool
from gw.upstream.resolve import Lookup, NoAddress, Resolver
from gw.upstream.target import Target, TlsIdentity
from gw.upstream.tls import TlsContexts, UnusableTls, name_fault
from gw.upstream.turns import Turns

logger = logging.getLogger(__name__)

# A name's next address is tried when one took no connection for this long: two of TCP's own attempts (after 1 and 3 s).
NEXT_ADDRESS_S: Final = 3.5
# Of a name that a client chose, in a message.
MAX_SHOWN: Final = 80


class Opener(Protocol):
    """Who asked for a new connection."""

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """It stands, and belongs to the asker."""
        ...

    def upstream_failed(self, error: UpstreamError) -> None:
        """It does not."""
        ...


class ConnectionCounters(Protocol):
    """Who counts connections (gw.shm.counters.TrafficCounters)."""

    def upstream_connected(self) -> None: ...
    def upstream_reused(self) -> None: ...


class UpstreamClient:
    """One per worker. Made in the worker, on its running loop; `close` gives everything back."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        trusted_certificates: Path | None = None,
        *,
        lookup: Lookup | None = None,
        counters: ConnectionCounters | None = None,
    ) -> None:
        """`trusted_certificates`: PEM file of the authorities that `tls.verify` goes by; None: those of the host.

        `lookup`: how addresses of a name are found; this host's files and DNS servers by default. `counters` are told
        of each connection that is opened, and used again.
        """
        self._counters = counters
        self._loop = loop
        self._resolver = Resolver(loop, lookup or SystemLookup(), on_moved=self._addresses_gone)
        self._turns = Turns(random.SystemRandom().randrange(MAX_ADDRESSES))
        self._contexts = TlsContexts(loop, trusted_certificates)
        self._pool: IdlePool[UpstreamConnection] = IdlePool()
        # With the address each of them leads to.
        self._connections: dict[UpstreamConnection, str] = {}
        # Busy ones to addresses that their name no longer has: they serve their request, and no other.
        self._leaving: set[UpstreamConnection] = set()
        self._openings: set[asyncio.Task[None]] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop all connections live on."""
        return self._loop

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of a name as connections use them. Raises OSError when there are none."""
        return await self._resolver.addresses(host)

    def take_idle(self, target: Target) -> UpstreamConnection | None:
        """Return a connection that waits for work, if there is one."""
        while (connection := self._pool.take(target)) is not None:
            if not connection.is_spoilt:
                if self._counters is not None:
                    self._counters.upstream_reused()
                return connection
            connection.abort()
        return None

    def open(self, target: Target, timeout_s: float, opener: Opener) -> asyncio.Task[None]:
        """Begin to connect. Exactly one call to `opener` follows, later, unless the returned task is cancelled."""
        task = self._loop.create_task(self._open(target, timeout_s, opener), name=f"connect {target.host}")
        self._openings.add(task)
        task.add_done_callback(self._openings.discard)
        return task

    async def _open(self, target: Target, timeout_s: float, opener: Opener) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connect(target, timeout_s)
        except TimeoutError:
            opener.upstream_failed(ConnectTimedOut())
        except NoAddress as error:
            opener.upstream_failed(NotResolved(_words(error)))
        except OSError as error:  # ssl.SSLError is one, too
            opener.upstream_failed(ConnectFailed(_words(error)))
        except Exception:
            logger.exception("connecting to %s:%s", target.host, target.port)
            opener.upstream_failed(ConnectFailed("internal error"))
        else:
            opener.upstream_connected(connection)

    async def _connect(self, target: Target, timeout_s: float) -> UpstreamConnection:
        """Try the addresses of the target one after the other. Raises OSError with what the last one came to."""
        host, port = target.host, target.port
        context = None if target.tls is None else await self._tls_context(target.tls)
        if is_address(host):
            return await self._connect_to(host, target, context)
        deadline = self._loop.time() + timeout_s
        addresses = await self._resolver.addresses(host)
        order = self._turns.order(host, port, addresses, self._loop.time())
        for left, address in zip(range(len(order), 0, -1), order, strict=True):
            share_s = (deadline - self._loop.time()) / left
            try:
                # The last one has what is left, and its end is that of the whole.
                async with asyncio.timeout(min(share_s, NEXT_ADDRESS_S) if left > 1 else None):
                    connection = await self._connect_to(address, target, context)
            except OSError as error:
                self._turns.failed(address, port, self._loop.time())
                if left == 1:
                    raise OSError(f"{address}: {_words(error)}") from None
                logger.info("upstream %s:%s: no connection to %s: %s", host, port, address, _words(error))
            else:
                self._turns.worked(address, port)
                if not self._resolver.has_address(host, address):
                    # It has moved meanwhile.
                    self._leaving.add(connection)
                return connection
        raise OSError(f"{host} has no address")

    async def _tls_context(self, tls: TlsIdentity) -> ssl.SSLContext:
        fault = name_fault(tls.server_name)
        if fault is None and tls.verify and not tls.server_name:
            fault = "without one there is nothing to verify a certificate for"
        if fault is not None:
            raise UnusableTls(f"server name {tls.server_name[:MAX_SHOWN]!a}: {fault}")
        return await self._contexts.get_context(tls)

    async def _connect_to(self, address: str, target: Target, context: ssl.SSLContext | None) -> UpstreamConnection:
        connection = UpstreamConnection(self._loop, target, self)
        tls = target.tls
        try:
            await self._loop.create_connection(
                lambda: connection,
                address,
                target.port,
                family=socket.AF_UNSPEC,
                ssl=context,
                server_hostname=None if tls is None else tls.server_name,
            )
        except BaseException:
            connection.give_up()
            raise
        if connection.closed:
            raise ConnectionResetError("closed as soon as it was open")
        self._connections[connection] = address
        if address != target.host:
            connection.address = f"[{address}]:{target.port}" if ":" in address else f"{address}:{target.port}"
        if self._counters is not None:
            self._counters.upstream_connected()
        return connection

    def _addresses_gone(self, host: str, gone: frozenset[str]) -> None:
        """A name has moved: nothing new goes to where it was."""
        left = [
            connection
            for connection, address in self._connections.items()
            if address in gone and connection.target.host == host
        ]
        for connection in left:
            if self._pool.holds(connection.target, connection):
                connection.abort()
            else:
                self._leaving.add(connection)

    # What connections call.

    def connection_idle(self, connection: UpstreamConnection, max_idle: int) -> None:
        """Keep it; close the one that is too many for it."""
        if self._leaving and connection in self._leaving:
            connection.abort()
            return
        surplus = self._pool.put(connection.target, connection, max_idle)
        if surplus is not None:
            surplus.abort()

    def connection_gone(self, connection: UpstreamConnection) -> None:
        """Forget it, wherever it was."""
        self._connections.pop(connection, None)
        self._leaving.discard(connection)
        self._pool.discard(connection.target, connection)

    async def close(self) -> None:
        """Close idle and busy connections, and stop opening new ones."""
        for task in list(self._openings):
            task.cancel()
        await asyncio.gather(*self._openings, return_exceptions=True)
        await self._resolver.close()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    def __repr__(self) -> str:
        return f"<UpstreamClient connections={len(self._connections)} opening={len(self._openings)} {self._pool!r}>"


def _words(error: OSError) -> str:
    """What it says; a time-out and some ends of connections say nothing."""
    return str(error) or type(error).__name__
