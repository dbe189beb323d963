"""Connections to upstream nodes: idle ones from the pool, new ones opened here. The only place that connects.

Opening takes a task, because the event loop's own way to connect is a coroutine; using a connection takes none.
"""

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Protocol

from gw.errors import UpstreamError
from gw.upstream.connection import UpstreamConnection
from gw.upstream.errors import ConnectFailed, ConnectTimedOut
from gw.upstream.pool import IdlePool
from gw.upstream.resolve import Resolver, is_address
from gw.upstream.target import Target, TlsIdentity

logger = logging.getLogger(__name__)


class Opener(Protocol):
    """Who asked for a new connection."""

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        """It stands, and belongs to the asker."""
        ...

    def upstream_failed(self, error: UpstreamError) -> None:
        """It does not."""
        ...


class UpstreamClient:
    """One per worker. Made in the worker, on its running loop; `close` gives everything back."""

    def __init__(self, loop: asyncio.AbstractEventLoop, trusted_certificates: Path | None = None) -> None:
        """`trusted_certificates`: PEM file of the authorities that `tls.verify` goes by; None: those of the host."""
        self._loop = loop
        self._trusted_certificates = trusted_certificates
        self._resolver = Resolver(loop)
        self._pool: IdlePool[UpstreamConnection] = IdlePool()
        self._connections: set[UpstreamConnection] = set()
        self._openings: set[asyncio.Task[None]] = set()
        self._tls_contexts: dict[bool, ssl.SSLContext] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop all connections live on."""
        return self._loop

    def take_idle(self, target: Target) -> UpstreamConnection | None:
        """Return a connection that waits for work, if there is one."""
        while (connection := self._pool.take(target)) is not None:
            if not connection.is_spoilt:
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
                connection = await self._connect(target)
        except TimeoutError:
            opener.upstream_failed(ConnectTimedOut())
        except OSError as error:  # ssl.SSLError is one, too
            opener.upstream_failed(ConnectFailed(str(error)))
        except Exception:
            logger.exception("connecting to %s:%s", target.host, target.port)
            opener.upstream_failed(ConnectFailed("internal error"))
        else:
            opener.upstream_connected(connection)

    async def _connect(self, target: Target) -> UpstreamConnection:
        """Try the addresses of the target one after the other. Raises OSError, the last address's."""
        host = target.host
        addresses = (host,) if is_address(host) else await self._resolver.addresses(host)
        for left, address in zip(range(len(addresses) - 1, -1, -1), addresses, strict=True):
            try:
                return await self._connect_to(address, target)
            except OSError:
                if not left:
                    raise
        raise OSError(f"{host} has no address")

    async def _connect_to(self, address: str, target: Target) -> UpstreamConnection:
        connection = UpstreamConnection(self._loop, target, self)
        tls = target.tls
        try:
            await self._loop.create_connection(
                lambda: connection,
                address,
                target.port,
                family=socket.AF_UNSPEC,
                ssl=None if tls is None else self._tls_context(tls),
                server_hostname=None if tls is None else tls.server_name,
            )
        except BaseException:
            connection.give_up()
            raise
        if connection.closed:
            raise ConnectionResetError("closed as soon as it was open")
        self._connections.add(connection)
        return connection

    def _tls_context(self, tls: TlsIdentity) -> ssl.SSLContext:
        context = self._tls_contexts.get(tls.verify)
        if context is None:
            context = ssl.create_default_context(cafile=self._trusted_certificates if tls.verify else None)
            # Python sets it from 3.13 on; private authorities often fail by it, for what nginx does not ask for.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            if not tls.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._tls_contexts[tls.verify] = context
        return context

    # What connections call.

    def connection_idle(self, connection: UpstreamConnection, max_idle: int) -> None:
        """Keep it; close the one that is too many for it."""
        surplus = self._pool.put(connection.target, connection, max_idle)
        if surplus is not None:
            surplus.abort()

    def connection_gone(self, connection: UpstreamConnection) -> None:
        """Forget it, wherever it was."""
        self._connections.discard(connection)
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
