"""A route as a request walks it: everything that can be settled when configuration changes is settled here.

Made from the model's dataclasses by `compile_upstream` and `compile_route`; immutable but for the balancer's turn.
The routes that share an upstream should be compiled with one UpstreamRuntime, so that they take turns together.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from gw.balancer.base import Balancer, Weighted
from gw.balancer.roundrobin import Only, RoundRobin
from gw.model.merge import Missing
from gw.model.route import Route
from gw.model.upstream import DEFAULT_TIMEOUT, Node, Timeout, Upstream, split_address
from gw.pipeline.context import Context, Request
from gw.pipeline.phases import NO_PHASES, Phases
from gw.upstream.target import KeepAlive, Target, Timeouts, TlsIdentity

# Thousands of routes lead to a few nodes, with the same few time-outs: equal ones are one object in memory.
SHARED: Final = 4096
_SCHEMES: Final = ("http", "https")
_GATEWAY_CHOSEN_HOST: Final = ("node", "rewrite")  # values of pass_host; `pass` is the third
# APISIX's: keepalive_pool in apisix/schema_def.lua and nginx_config.http.upstream of its default configuration.
DEFAULT_KEEPALIVE: Final = KeepAlive(max_idle=320, idle_timeout_s=60.0, max_requests=1000)


class NodeRuntime(NamedTuple):
    """One node: where to connect, and the Host it gets unless the client's is passed on. `address` is for people."""

    target: Target
    host_header: bytes
    address: str


class UpstreamRuntime:
    """An upstream, ready to be picked from.

    `retries`: how many nodes more may be tried when one fails; `retry_timeout_s`: for how long, 0 for ever.
    `unsupported`: why it cannot be picked from (the request is answered 502), or None.
    """

    __slots__ = (
        "_balancer",
        "_by_preference",
        "_passes_host",
        "keepalive",
        "retries",
        "retry_timeout_s",
        "timeouts",
        "unsupported",
    )

    def __init__(
        self,
        balancer: Balancer[NodeRuntime],
        *,
        by_preference: Sequence[NodeRuntime],
        retries: int,
        retry_timeout_s: float = 0.0,
        passes_host: bool,
        timeouts: Timeouts,
        keepalive: KeepAlive,
        unsupported: str | None = None,
    ) -> None:
        """`passes_host`: the client's Host goes to the upstream; otherwise the node's `host_header` does.

        `by_preference`: every node that may serve, in the order in which they stand in for one another.
        """
        self._balancer = balancer
        self._by_preference = by_preference
        self.retries = retries
        self.retry_timeout_s = retry_timeout_s
        self._passes_host = passes_host
        self.timeouts = timeouts
        self.keepalive = keepalive
        self.unsupported = unsupported

    def is_too_late(self, elapsed_s: float) -> bool:
        """Whether no other node may be tried any more, so long after the request came."""
        return 0 < self.retry_timeout_s < elapsed_s

    def pick(self, ctx: Context) -> NodeRuntime | None:
        """Choose the node for a request; None when no node has a weight."""
        return self._balancer.pick()

    def pick_other(self, ctx: Context, tried: Sequence[NodeRuntime]) -> NodeRuntime | None:
        """A node to stand in for those that failed; None when there is no other."""
        return next((node for node in self._by_preference if node not in tried), None)

    def host_header(self, request: Request, node: NodeRuntime) -> bytes:
        """The Host that `node` gets for this request. A client of HTTP/1.0 may have sent none: the node's then."""
        return (request.host_header or node.host_header) if self._passes_host else node.host_header


class CompiledRoute:
    """What a matched request walks: an upstream, or what is answered because one is missing."""

    __slots__ = ("id", "name", "phases", "service_id", "timeouts", "upgrades", "upstream")

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
        """`phases`: what plugins do, global rules included. `upgrades`: whether WebSocket handshakes pass."""
        self.id = id
        self.upstream = upstream
        self.timeouts = timeouts
        self.phases = phases
        self.name = name
        self.service_id = service_id
        self.upgrades = upgrades


    def walking(self, phases: Phases) -> "CompiledRoute":
        """The same route with other phases."""
        if phases is self.phases:
            return self
        return CompiledRoute(self.id, self.upstream, self.timeouts, phases=phases)


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


def compile_upstream(upstream: Upstream, keepalive: KeepAlive = DEFAULT_KEEPALIVE) -> UpstreamRuntime:
    """Settle an upstream. What we cannot do yet is `unsupported`; nothing that passed its schema raises.

    `keepalive` is for an upstream without a keepalive_pool of its own.
    """
    unsupported = _unsupported(upstream)
    able = [] if unsupported else sorted((node for node in upstream.nodes if node.weight > 0), key=_preference)
    runtimes = [_node_runtime(node, upstream) for node in able]
    # The nodes that serve while all are well: those of the highest priority.
    serving = [
        Weighted(runtime, node.weight)
        for runtime, node in zip(runtimes, able, strict=True)
        if node.priority == able[0].priority
    ]
    pool = upstream.keepalive_pool
    balancer: Balancer[NodeRuntime] = RoundRobin[NodeRuntime](serving)
    if len(serving) == 1:
        balancer = Only(serving[0].candidate)
    return UpstreamRuntime(
        balancer,
        by_preference=tuple(runtimes),
        # As APISIX: each other node once, unless the upstream says how many.
        retries=len(able) - 1 if upstream.retries is None else upstream.retries,
        retry_timeout_s=upstream.retry_timeout or 0.0,
        passes_host=upstream.pass_host not in _GATEWAY_CHOSEN_HOST,
        timeouts=_timeouts(upstream.timeout or DEFAULT_TIMEOUT),
        keepalive=keepalive if pool is None else keep_alive(pool.size, pool.idle_timeout, pool.requests),
        unsupported=unsupported,
    )


def keep_alive(size: int, idle_timeout_s: float, requests: int) -> KeepAlive:
    """What is kept of idle connections. An idle time of 0 keeps nothing."""
    return KeepAlive(size if idle_timeout_s > 0 else 0, idle_timeout_s, requests)


def compile_route(route: Route, upstream: UpstreamRuntime | Missing, phases: Phases = NO_PHASES) -> CompiledRoute:
    """Settle a route over its effective upstream (gw.model.merge). Its own time-outs stand above the upstream's."""
    timeouts = upstream.timeouts if isinstance(upstream, UpstreamRuntime) else _timeouts(DEFAULT_TIMEOUT)
    return CompiledRoute(
        route.id,
        upstream,
        _timeouts(route.timeout) if route.timeout else timeouts,
        phases=phases,
        name=route.name or "",
        service_id=route.service_id or "",
        upgrades=bool(route.enable_websocket),
    )


def _unsupported(upstream: Upstream) -> str | None:
    if upstream.scheme not in _SCHEMES:
        return f"scheme {upstream.scheme} is not supported"
    if upstream.service_name is not None and not upstream.nodes:
        return "service discovery is not supported"
    beyond = sorted((upstream.tls or {}).keys() - {"verify"}) if upstream.scheme == "https" else []
    return f"tls.{beyond[0]} is not supported" if beyond else None


@lru_cache(SHARED)
def _timeouts(timeout: Timeout) -> Timeouts:
    return Timeouts(timeout.connect, timeout.send, timeout.read)


def _preference(node: Node) -> tuple[int, int]:
    return -node.priority, -node.weight


def _node_runtime(node: Node, upstream: Upstream) -> NodeRuntime:
    rewrites = upstream.pass_host == "rewrite"  # noqa: S105 - a mode, not a password
    rewritten = upstream.upstream_host if rewrites else None
    tls = None
    if upstream.scheme == "https":
        server_name = split_address(rewritten)[0] if rewritten else node.host
        tls = TlsIdentity(server_name, bool((upstream.tls or {}).get("verify", False)))
    return _shared_node(node.host, node.port, tls, rewritten or node.host_header(upstream.scheme))


@lru_cache(SHARED)
def _shared_node(host: str, port: int, tls: TlsIdentity | None, host_header: str) -> NodeRuntime:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return NodeRuntime(Target(host, port, tls), host_header.encode("latin-1", "replace"), address)
