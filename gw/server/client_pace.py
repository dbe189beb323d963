"""What happens with a client that does not do its part: that takes nothing, or sends what nobody will read.

Nothing here runs for a client that keeps up.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import struct
import termios
from typing import Final, NamedTuple

# How long a client that still sends a body is listened to after the answer, without a use for what it says. nginx's
# lingering_timeout.
LINGER_S: Final = 5.0


class ClientTimes(NamedTuple):
    """Seconds. `header_s`: for a whole head; `body_s`: between two pieces of a body; `idle_s`: between two requests, 0
    for one request per connection; `send_s`: without taking any of an answer.
    """

    header_s: float
    body_s: float
    idle_s: float
    send_s: float


# struct linger: on, for 0 seconds.
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class SendWatch:
    """Cuts a connection off when its client takes nothing for `timeout_s`.

    Taken is what the client's kernel has acknowledged. The transport's own buffer alone would not tell: a socket asks
    for more only when a third of its buffer (megabytes) is free, for which a slow client may need longer.
    """

    __slots__ = ("_loop", "_timeout_s", "_timer", "_transport", "_unsent_bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, timeout_s: float) -> None:
        self._loop = loop
        self._transport = transport
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def start(self) -> None:
        """Watch from now on. Nothing happens when that is so already."""
        if self._timer is None:
            self._arm()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._unsent_bytes = unsent_bytes(self._transport)
        self._timer = self._loop.call_later(self._timeout_s, self._on_timeout)

    def _on_timeout(self) -> None:
        self._timer = None
        unsent = unsent_bytes(self._transport)
        if unsent >= self._unsent_bytes:
            reset(self._transport)
        elif unsent:
            self._arm()


def reset(transport: asyncio.Transport) -> None:
    """Cut off so that the client sees an error, not an end, and the kernel keeps nothing for it."""
    if (sock := transport.get_extra_info("socket")) is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()


def unsent_bytes(transport: asyncio.Transport) -> int:
    """What was written and the other side has not acknowledged: in the transport, and in the kernel."""
    queued = array.array("i", [0])
    sock = transport.get_extra_info("socket")
    if sock is not None and (fd := sock.fileno()) >= 0:
        fcntl.ioctl(fd, termios.TIOCOUTQ, queued)
    return transport.get_write_buffer_size() + queued[0]


class Lingering(asyncio.Protocol):
    """Takes a transport over from `protocol` when the answer is written and the client still sends a body.

    Closing at once would make the kernel answer the client's next bytes with a reset, which takes the answer with it
    before the client has read it. So only the end of our side is said, and what comes is dropped, for LINGER_S.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, protocol: asyncio.Protocol
    ) -> None:
        self._protocol = protocol
        transport.write_eof()
        transport.set_protocol(self)
        self._timer = loop.call_later(LINGER_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """What is left to be written is watched already."""

    def resume_writing(self) -> None:
        """As above."""
