"""The live client connections of a worker, and how they end when it does, with nothing lost that was sent before.

A drain begins when the listeners are closed. From then on

- a response whose head is written says `Connection: close`, and its connection ends after it;
- a connection whose response was promised to be followed by more (its head went out before) waits for that request;
- an idle connection waits for its next request, for `patience_s`; then it is closed, as after its keep-alive time;
- of requests that came in one piece (pipelined) the last one's response says it: after a response that does, a client
  must take what it sent later for not processed (RFC 9112 section 9.6).

nginx does the same with `keepalive_min_timeout`, haproxy with `option idle-close-on-response`. This module knows no
protocol: a connection is what has the few methods below.

Thin, because the gunicorn master imports it with the worker class.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

# A connection that was just accepted, or answered without a warning, may have a request on the way: closing it would
# fail that request. Longer than a round trip, short beside any grace period.
GRACE_S: Final = 0.5
# Connections closed between two turns of the loop, each of which reads what has come for the next ones.
_CLOSED_AT_ONCE: Final = 64


class Connection(Protocol):
    """What one connection can be asked and told. None of it raises."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing is lost by closing: no request is being read or answered."""
        ...

    def drain(self) -> None:
        """Let the next response whose head is written be the last one, and say so in it. Twice is as once."""
        ...

    def close_idle(self) -> None:
        """Close as at the end of the keep-alive time."""
        ...

    def abort(self) -> None:
        """Cut off: what is still to be sent is not."""
        ...


class ConnectionCounters(Protocol):
    """Who counts connections (gw.shm.counters.TrafficCounters)."""

    def connection_opened(self) -> None: ...
    def connection_closed(self) -> None: ...
    def connection_refused(self) -> None: ...


class Connections:
    """Live connections of one worker. `limit` is how many there may be, one more is cut off; 0 for any number.

    `counters`, where there are some, are told of each.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.counters: ConnectionCounters | None = None
        self._live: set[Connection] = set()
        self._emptied = asyncio.Event()
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def is_full(self) -> bool:
        return 0 < self.limit <= len(self._live)

    def add(self, connection: Connection) -> bool:
        """False: there is no room for it, and it is to be cut off."""
        if self.is_full:
            if self.counters is not None:
                self.counters.connection_refused()
            return False
        self._live.add(connection)
        if self.counters is not None:
            self.counters.connection_opened()
        if self._is_draining:  # it was accepted before the listener closed
            connection.drain()
        return True

    def discard(self, connection: Connection) -> None:
        if connection not in self._live:
            return
        self._live.remove(connection)
        if self.counters is not None:
            self.counters.connection_closed()
        if not self._live:
            self._emptied.set()

    async def drain(self, patience_s: float) -> None:
        """Tell every connection that its next response is its last, and return when all have ended.

        Connections that are idle `patience_s` seconds from now, and were so GRACE_S before, are closed; later ones when
        they have been idle for that long.
        """
        self._is_draining = True
        for connection in list(self._live):
            connection.drain()
        closing = asyncio.create_task(self._close_idle(patience_s), name="close-idle-connections")
        try:
            while self._live:
                self._emptied.clear()
                await self._emptied.wait()
        finally:
            closing.cancel()

    def abort(self) -> int:
        """Cut every connection off, whatever it does. How many there were."""
        live = list(self._live)
        for connection in live:
            connection.abort()
        return len(live)

    async def _close_idle(self, patience_s: float) -> None:
        await asyncio.sleep(max(0.0, patience_s - GRACE_S))
        idle_before: set[Connection] = set()
        while True:
            idle_before = await self._close_those_idle_since(idle_before)
            await asyncio.sleep(GRACE_S)

    async def _close_those_idle_since(self, before: set[Connection]) -> set[Connection]:
        """Close the connections that are idle and were so `before`; those that have become idle since."""
        became_idle: set[Connection] = set()
        for number, connection in enumerate(list(self._live)):
            if number % _CLOSED_AT_ONCE == 0:
                # A request that has reached our socket counts as one that began: two turns later it is read.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if not connection.is_idle:
                continue
            if connection in before:
                connection.close_idle()
            else:
                became_idle.add(connection)
        return became_idle
