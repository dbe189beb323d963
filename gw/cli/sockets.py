"""Opening the listening sockets of a gateway, in the order in which they are passed on."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Final

from gw.errors import JitterwayError
from gw.server.listeners import ADMIN, CONTROL, METRICS, STATUS, TRAFFIC, Listener

# gunicorn's default; the kernel cuts it to net.core.somaxconn.
BACKLOG: Final = 2048

_SETTING: Final = {
    TRAFFIC: "apisix.node_listen",
    ADMIN: "deployment.admin.admin_listen",
    CONTROL: "apisix.control",
    STATUS: "apisix.status",
    METRICS: "plugin_attr.prometheus.export_addr",
}

_REASONS: Final = {
    errno.EADDRINUSE: "another process listens there already",
    errno.EADDRNOTAVAIL: "this host has no such address",
    errno.EACCES: "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
}


class CannotListen(JitterwayError):
    """An address of the configuration cannot be opened."""


@contextlib.contextmanager
def listening(listeners: Sequence[Listener]) -> Iterator[list[socket.socket]]:
    """One listening socket for each listener. Raises CannotListen naming the setting and the address."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(_open(listener)) for listener in listeners]


def _open(listener: Listener) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.ip else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are in TIME_WAIT may be taken at once.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # [::] is IPv6 alone, so that 0.0.0.0 may stand beside it and no peer shows a mapped address.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((listener.ip, listener.port))
        # Here and not in gunicorn: two sockets may bind to one address, but only one may listen.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = _REASONS.get(error.errno or 0) or os.strerror(error.errno or 0)
        raise CannotListen(f"{_SETTING[listener.role]}: cannot listen on {listener.address}: {reason}") from error
    return sock
