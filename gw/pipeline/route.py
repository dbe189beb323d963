"""A route as a request walks it: everything that can be settled when configuration changes is settled here.

Made by `compile_route` from the model's dataclasses, over an upstream that `gw.pipeline.upstream` settled; immutable.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from gw.model.merge import Missing
from gw.model.route import Route
from gw.model.upstream import DEFAULT_TIMEOUT
from gw.pipeline.phases import NO_PHASES, Phases
from gw.pipeline.upstream import UpstreamRuntime, shared_timeouts
from gw.upstream.target import Timeouts


class CompiledRoute:
    """What a matched request walks: an upstream, or what is answered because one is missing."""

    __slots__ = ("id", "name", "phases", "service_id", "timeouts", "upgrades", "upstream", "usable")

    id: str
    name: str
    service_id: str

    def __init__(
        self,
        id: str,
        upstream: UpstreamRuntime | Missing,
        timeouts: Timeouts,
        *,
        phases: Phases = NO_PHASES,
        name: str = "",
        service_id: str = "",
        upgrades: bool = False,
    ) -> None:
        """`phases`: what plugins do, global rules included. `upgrades`: whether WebSocket handshakes pass.

        `usable` is the upstream where requests can go there.
        """
        self.id = id
        self.upstream = upstream
        is_usable = isinstance(upstream, UpstreamRuntime) and upstream.unsupported is None
        self.usable: UpstreamRuntime | None = upstream if is_usable else None  # type: ignore[assignment]
        self.timeouts = timeouts
        self.phases = phases
        self.name = name
        self.service_id = service_id
        self.upgrades = upgrades

    def walking(self, phases: Phases, upstream: UpstreamRuntime | Missing | None = None) -> "CompiledRoute":
        """The same route with other phases, and (None: its own) another upstream."""
        if phases is self.phases and upstream is None:
            return self
        return CompiledRoute(
            self.id,
            self.upstream if upstream is None else upstream,
            self.timeouts,
            phases=phases,
            name=self.name,
            service_id=self.service_id,
            upgrades=self.upgrades,
        )


class RouteHandle(Protocol):
    """A match: the way to the route as it is now, and the parameters of its path."""

    @property
    def params(self) -> Mapping[str, str] | None:
        """Values of `:name` parts of the path, if the route has such."""
        ...

    def resolve(self) -> CompiledRoute:
        """The settled route; made anew only when what it was made from has changed."""
        ...


class Routes(Protocol):
    """What the pipeline needs of the configuration."""

    def find(self, path: str, host: str, method: str) -> RouteHandle | None:
        """Match on the canonical path (`Request.path`), the host in lower case without port, and the method."""
        ...

    def unmatched(self) -> Phases:
        """What requests without a route walk: the global rules."""
        ...


# What a request without a route is answered by.
NO_ROUTE: Final = CompiledRoute("", Missing(404, "no route"), Timeouts(0, 0, 0))


def compile_route(route: Route, upstream: UpstreamRuntime | Missing, phases: Phases = NO_PHASES) -> CompiledRoute:
    """Settle a route over its effective upstream (gw.model.merge). Its own time-outs stand above the upstream's."""
    timeouts = upstream.timeouts if isinstance(upstream, UpstreamRuntime) else shared_timeouts(DEFAULT_TIMEOUT)
    return CompiledRoute(
        route.id,
        upstream,
        shared_timeouts(route.timeout) if route.timeout else timeouts,
        phases=phases,
        name=route.name or "",
        service_id=route.service_id or "",
        upgrades=bool(route.enable_websocket),
    )
