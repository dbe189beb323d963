"""Bytes both ways between two connections that have switched protocols, with back-pressure.

One end reads only as fast as the other can write. An end that says no more (half-close) is told on to the other; when
both have, or one is lost, both are closed, each once it has taken what it was sent. A tunnel in which nothing moves for
`idle_s` is cut off, as nginx does by proxy_read_timeout; that a slow end takes something is movement, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gw.server.client_pace import unsent_bytes

# Bytes that wait for a slow end before the other is paused.
_HIGH_WATER_BYTES: Final = 64 * 1024


class Tunnel:
    """Takes over both transports. `on_over(client_bytes, upstream_bytes)` is called once, with what each end sent.

    What is to be written first is written afterwards: then the ends are told when it is too much.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        client: asyncio.Transport,
        upstream: asyncio.Transport,
        idle_s: float,
        on_over: Callable[[int, int], None],
    ) -> None:
        self._loop = loop
        self._idle_s = idle_s
        self._on_over: Callable[[int, int], None] | None = on_over
        self._client, self._upstream = _End(self, upstream), _End(self, client)
        self._open = [(self._client, client), (self._upstream, upstream)]
        self._moved_at = loop.time()
        self._unsent_bytes = 0
        self._timer = loop.call_later(idle_s, self._check_idle)
        for end, transport in self._open:
            transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
            transport.set_protocol(end)
            transport.resume_reading()

    def abort(self) -> None:
        """Cut both ends off."""
        self._client.other.abort()
        self._upstream.other.abort()

    def client_ended(self) -> None:
        """The client had said all before its connection was handed over."""
        self._client.eof_received()

    def moved(self) -> None:
        """Something came."""
        self._moved_at = self._loop.time()

    def half_closed(self) -> None:
        """One end has said all; when both have, it is over."""
        if self._client.ended and self._upstream.ended:
            self._client.other.close()
            self._upstream.other.close()

    def lost(self, end: _End) -> None:
        """One connection is gone: send what the other is still to get, and close it. The clock goes on for that."""
        if not end.other.is_closing():
            end.other.close()
        self._open = [pair for pair in self._open if pair[0] is not end]
        if self._open:
            return
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            self._timer.cancel()
            on_over(self._client.received_bytes, self._upstream.received_bytes)

    def _check_idle(self) -> None:
        unsent = sum(unsent_bytes(transport) for _, transport in self._open)
        if unsent != self._unsent_bytes:
            self._unsent_bytes = unsent
            self.moved()
        left_s = self._moved_at + self._idle_s - self._loop.time()
        if left_s <= 0:
            self.abort()
        else:
            self._timer = self._loop.call_later(left_s, self._check_idle)


class _End(asyncio.Protocol):
    """Reads one connection, writes to the other."""

    __slots__ = ("_tunnel", "ended", "other", "received_bytes")

    def __init__(self, tunnel: Tunnel, other: asyncio.Transport) -> None:
        self._tunnel: Tunnel | None = tunnel  # until the connection is lost: no cycle stays
        self.other = other
        self.ended = False
        self.received_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Never: the transport is older than we are."""

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self._tunnel is not None:
            self._tunnel.moved()
        if not self.other.is_closing():
            self.other.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if not self.other.is_closing():
            if self.other.can_write_eof():
                self.other.write_eof()
            else:
                self.other.close()  # TLS here cannot end one side alone
        if self._tunnel is not None:
            self._tunnel.half_closed()
        return True

    def pause_writing(self) -> None:
        """Our connection takes no more: stop reading the one whose bytes go there."""
        if not self.other.is_closing():
            self.other.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.is_closing():
            self.other.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        tunnel, self._tunnel = self._tunnel, None
        if tunnel is not None:
            tunnel.lost(self)
