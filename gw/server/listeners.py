"""Which sockets a gateway listens on, and what each is for. Decides only: opens no socket.

A worker gets its sockets from gunicorn's own bind, or inherited (`gw start`, systemd: LISTEN_FDS). They carry no name,
so the bound address tells which role a socket has; where the address cannot tell (port 0, a host name, a socket unit
that binds elsewhere), its place in the list does, and only if the list is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gw.errors import ConfigError

if TYPE_CHECKING:
    from gw.settings import Settings

TRAFFIC: Final = "traffic"
ADMIN: Final = "admin"
CONTROL: Final = "control"
STATUS: Final = "status"
METRICS: Final = "metrics"

# What getsockname() answers: (host, port) and, for IPv6, two more.
SocketName = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Listener:
    """One address to listen on. `ip` may be IPv6, without brackets."""

    role: str
    ip: str
    port: int

    @property
    def address(self) -> str:
        """As gunicorn's `bind` and a URL write it."""
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"

    def __str__(self) -> str:
        return f"{self.role} {self.address}"


def listeners(settings: Settings) -> tuple[Listener, ...]:
    """Every listener of a gateway, traffic first. The order is that of the sockets handed to gunicorn."""
    apisix, admin, metrics = settings.apisix, settings.deployment.admin, settings.plugin_attr.prometheus
    found = [Listener(TRAFFIC, listen.ip, listen.port) for listen in apisix.node_listen]
    if apisix.enable_admin:
        found.append(Listener(ADMIN, admin.listen.ip, admin.listen.port))
    if apisix.control.enabled:
        found.append(Listener(CONTROL, apisix.control.ip, apisix.control.port))
    found.append(Listener(STATUS, apisix.status.ip, apisix.status.port))
    if metrics.enable_export_server:
        found.append(Listener(METRICS, metrics.listen.ip, metrics.listen.port))
    return tuple(found)


def assign(names: Sequence[SocketName], wanted: Sequence[Listener]) -> tuple[Listener, ...]:
    """The listener behind each socket, in the sockets' order.

    Raises ConfigError when a socket fits no listener, or a listener has no socket: a gateway that takes traffic on the
    Admin API's socket is worse than one that does not start.
    """
    by_address = {(listener.ip, listener.port): listener for listener in wanted}
    missing = dict(by_address)
    found = [missing.pop(_normal(name), None) for name in names]
    if len(names) == len(wanted):
        for place, listener in enumerate(wanted):
            is_elsewhere = _normal(names[place]) in by_address
            if found[place] is None and not is_elsewhere and listener in missing.values():
                found[place] = missing.pop((listener.ip, listener.port))
    unknown = [f"{name[0]}:{name[1]}" for name, listener in zip(names, found, strict=True) if listener is None]
    if unknown:
        expected = ", ".join(map(str, wanted))
        raise ConfigError("", f"no listener is configured for the socket {', '.join(unknown)} (configured: {expected})")
    assigned = tuple(listener for listener in found if listener is not None)
    absent = [str(listener) for listener in wanted if listener not in assigned]
    if absent:
        raise ConfigError("", f"no socket was passed for {', '.join(absent)}")
    return assigned


def _normal(name: Sequence[object]) -> SocketName:
    """The first two parts of a socket name; those of a Unix socket (its path) never match."""
    if isinstance(name, str | bytes):
        return (str(name), 0)
    return (str(name[0]), int(str(name[1])))
