"""A route as a request walks it: everything that can be settled when configuration changes is settled here.

Made by `compile_route` from the model's dataclasses, over an upstream that `gw.pipeline.upstream` settled; immutable.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from gw.model.merge import Missing
from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import DEFAULT_TIMEOUT
from gw.pipeline.context import Context
from gw.pipeline.phases import NO_PHASES, Phases
from gw.pipeline.upstream import UpstreamRuntime, shared_timeouts
from gw.upstream.target import Timeouts


class CompiledRoute:
    """What a matched request walks: an upstream, or what is answered because one is missing."""

    __slots__ = (
        "id",
        "is_plain",
        "name",
        "phases",
        "service_id",
        "service_name",
        "timeouts",
        "upgrades",
        "upstream",
        "usable",
    )

    id: str
    name: str
    service_id: str
    service_name: str

    def __init__(
        self,
        id: str,
        upstream: UpstreamRuntime | Missing,
        timeouts: Timeouts,
        *,
        phases: Phases = NO_PHASES,
        name: str = "",
        service_id: str = "",
        service_name: str = "",
        upgrades: bool = False,
    ) -> None:
        """`phases`: what plugins do, global rules included. `upgrades`: whether WebSocket handshakes pass.

        `usable` is the upstream where requests can go there. `is_plain`: no plugin takes part before the log phase.
        """
        self.id = id
        self.upstream = upstream
        is_usable = isinstance(upstream, UpstreamRuntime) and upstream.unsupported is None
        self.usable: UpstreamRuntime | None = upstream if is_usable else None  # type: ignore[assignment]
        self.timeouts = timeouts
        self.phases = phases
        self.is_plain = not (phases.request or phases.before_proxy or phases.header_filter or phases.body_filter)
        self.name = name
        self.service_id = service_id
        self.service_name = service_name
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
            service_name=self.service_name,
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

    def find(self, path: str, host: str, method: str, ctx: Context) -> RouteHandle | None:
        """Match on the canonical path (`Request.path`), the host in lower case without port, and the method.

        Of `ctx` the conditions of routes read what else they ask of a request. Raises UnsafeRequest where one of them
        cannot be asked of this request, and gw.pipeline.body_variables.NeedsWait where something must be awaited first.
        """
        ...

    def unmatched(self) -> Phases:
        """What requests without a route walk: the global rules."""
        ...


# What a request without a route is answered by.
NO_ROUTE: Final = CompiledRoute("", Missing(404, "no route"), Timeouts(0, 0, 0))


def compile_route(
    route: Route, upstream: UpstreamRuntime | Missing, phases: Phases = NO_PHASES, service: Service | None = None
) -> CompiledRoute:
    """Settle a route over its effective upstream (gw.model.merge). Its own time-outs stand above the upstream's.

    `service`: the one that it names, where it is there. What the route does not say of WebSocket the service says
    (apisix/init.lua, http_access_phase).
    """
    timeouts = upstream.timeouts if isinstance(upstream, UpstreamRuntime) else shared_timeouts(DEFAULT_TIMEOUT)
    upgrades = route.enable_websocket
    if upgrades is None and service is not None:
        upgrades = service.enable_websocket
    return CompiledRoute(
        route.id,
        upstream,
        shared_timeouts(route.timeout) if route.timeout else timeouts,
        phases=phases,
        name=route.name or "",
        service_id=route.service_id or "",
        service_name=(service.name if service is not None else None) or "",
        upgrades=bool(upgrades),
    )
