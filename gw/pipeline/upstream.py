"""An upstream as requests use it: which node is next, which Host and TLS name it gets, and who learns how it went.

Settled when configuration changes by `compile_upstream`. What changes besides is the balancer: its turn with each pick,
and all of it when health says that other nodes are down. Routes that share an upstream share its UpstreamRuntime, so
that they take turns together.

The health view is told of a runtime by a weak reference, and ends with it: nothing that lasts ends in a cycle.
"""

import random
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from gw.balancer.base import Balancer, Weighted
from gw.balancer.build import TYPES, build_balancer
from gw.errors import UpstreamError
from gw.health.serving import serving_nodes
from gw.model.upstream import DEFAULT_TIMEOUT, Node, Timeout, Upstream
from gw.pipeline.context import Attempt, Context, Request
from gw.pipeline.hash_key import NO_KEY, hash_key
from gw.upstream.errors import ConnectTimedOut, ReadTimedOut, SendTimedOut
from gw.upstream.target import KeepAlive, Target, Timeouts, TlsIdentity
from gw.upstream.tls import UnusableTls, fixed_server_name, material_fault, read_material, server_name_of

# Thousands of routes lead to a few nodes, with the same few time-outs: equal ones are one object in memory.
SHARED: Final = 4096
_SCHEMES: Final = ("http", "https")
# What anybody wrote for a balancer ends in logs.
_LONGEST_TOLD: Final = 64
_GATEWAY_CHOSEN_HOST: Final = ("node", "rewrite")  # values of pass_host; `pass` is the third
_TIMED_OUT: Final = (ConnectTimedOut, SendTimedOut, ReadTimedOut)
# APISIX's: keepalive_pool in apisix/schema_def.lua and nginx_config.http.upstream of its default configuration.
DEFAULT_KEEPALIVE: Final = KeepAlive(max_idle=320, idle_timeout_s=60.0, max_requests=1000)


class NodeRuntime(NamedTuple):
    """One node: where to connect, and the Host it gets unless the client's is passed on. `address` is for people."""

    target: Target
    host_header: bytes
    address: str


class NodeHealth(Protocol):
    """What the health checks of one upstream offer: see gw.health.view.Watch. Nodes go by `Node.authority`."""

    down: frozenset[str]

    @property
    def is_passive(self) -> bool: ...
    def report_http(self, node: str, status: int) -> None: ...
    def report_tcp_failure(self, node: str) -> None: ...
    def report_timeout(self, node: str) -> None: ...


# Begins to watch an upstream's nodes, told what to call when others are down than before; and what ends that.
Watching = tuple[NodeHealth, Callable[[], None]]
WatchHealth = Callable[[Upstream, Callable[[frozenset[str]], None]], Watching | None]


class UpstreamRuntime:
    """An upstream, ready to be picked from.

    `retries`: how many nodes more may be tried when one fails; `retry_timeout_s`: for how long, 0 for ever.
    `unsupported`: why it cannot be picked from (the request is answered 502), or None. `observes`: whether `over` is
    to be called. `uses_clients_name`: whether `target` depends on the request.
    """

    __slots__ = (
        "__weakref__",
        "_balancer",
        "_candidates",
        "_health",
        "_key",
        "_nodes",
        "_passes_host",
        "_type",
        "keepalive",
        "observes",
        "retries",
        "retry_timeout_s",
        "scheme",
        "timeouts",
        "unsupported",
        "uses_clients_name",
    )

    def __init__(
        self,
        upstream: Upstream,
        keepalive: KeepAlive,
        watch_health: WatchHealth | None,
        before: "UpstreamRuntime | None",
    ) -> None:
        pool = upstream.keepalive_pool
        self.keepalive = keepalive if pool is None else keep_alive(pool.size, pool.idle_timeout, pool.requests)
        self.timeouts = shared_timeouts(upstream.timeout or DEFAULT_TIMEOUT)
        self.scheme = upstream.scheme
        self._passes_host = upstream.pass_host not in _GATEWAY_CHOSEN_HOST
        self.uses_clients_name = upstream.scheme == "https" and self._passes_host
        self._key = hash_key(upstream) if upstream.type == "chash" else NO_KEY
        self._type = upstream.type if upstream.type in TYPES else TYPES[0]
        self._health: NodeHealth | None = None
        try:
            self.unsupported = _unsupported(upstream)
            self._candidates = {} if self.unsupported else {node: _candidate(node, upstream) for node in upstream.nodes}
        except UnusableTls as error:
            self.unsupported = str(error)
            self._candidates = {}
        self._nodes = tuple(self._candidates)
        able = sum(node.weight > 0 for node in self._nodes)
        # As APISIX: each other node once, unless the upstream says how many.
        self.retries = max(0, able - 1) if upstream.retries is None else upstream.retries
        self.retry_timeout_s = upstream.retry_timeout or 0.0
        if watch_health is not None and upstream.checks and self.unsupported is None:
            self._watch(upstream, watch_health)
        self._balancer: Balancer[NodeRuntime] = self._build(None if before is None else before._balancer)
        self.observes = self._balancer.needs_done or (self._health is not None and self._health.is_passive)

    def _watch(self, upstream: Upstream, watch_health: WatchHealth) -> None:
        told = weakref.WeakMethod(self._rebuild)

        def on_change(_: frozenset[str]) -> None:
            if (rebuild := told()) is not None:
                rebuild()

        watching = watch_health(upstream, on_change)
        if watching is not None:
            self._health, end = watching
            weakref.finalize(self, end).atexit = False

    def _rebuild(self) -> None:
        """Other nodes are down than before."""
        self._balancer = self._build(self._balancer)

    def _build(self, after: Balancer[NodeRuntime] | None) -> Balancer[NodeRuntime]:
        down = frozenset[str]() if self._health is None else self._health.down
        serving = [self._candidates[node] for node in serving_nodes(self._nodes, down)]
        if down and len(serving) == 1:
            serving = [serving[0]._replace(weight=1)]  # it may have none: see serving_nodes
        whole = list(self._candidates.values()) if self._type == "chash" else ()
        return build_balancer(self._type, serving, chance=random.random, after=after, whole=whole)

    def pick(self, ctx: Context, tried: Sequence[NodeRuntime] = ()) -> NodeRuntime | None:
        """Choose the node for an attempt; None when there is none but those that were tried."""
        balancer = self._balancer
        return balancer.pick(self._key(ctx) if balancer.needs_key else b"", tried)

    def is_too_late(self, elapsed_s: float) -> bool:
        """Whether no other node may be tried any more, so long after the request came."""
        return 0 < self.retry_timeout_s < elapsed_s

    def host_header(self, request: Request, node: NodeRuntime) -> bytes:
        """The Host that `node` gets for this request. A client of HTTP/1.0 may have sent none: the node's then."""
        return (request.host_header or node.host_header) if self._passes_host else node.host_header

    def target(self, node: NodeRuntime, host: bytes) -> Target:
        """Where to connect for a request with this Host: TLS names it where the configuration names none."""
        return node.target.named(server_name_of(host.decode("latin-1"))) if self.uses_clients_name else node.target

    def over(self, attempt: Attempt, error: UpstreamError | None, *, is_last: bool, status: int) -> None:
        """An attempt at a node has ended. `status`: what the client gets, where it is the last one."""
        node: NodeRuntime = attempt.node
        if self._balancer.needs_done:
            self._balancer.done(node, attempt.started_s, attempt.ended_s, ok=error is None)
        health = self._health
        if health is None or not health.is_passive:
            return
        if is_last:
            health.report_http(node.address, status)
        elif isinstance(error, _TIMED_OUT):
            health.report_timeout(node.address)
        else:
            health.report_tcp_failure(node.address)


def compile_upstream(
    upstream: Upstream,
    keepalive: KeepAlive = DEFAULT_KEEPALIVE,
    *,
    watch_health: WatchHealth | None = None,
    before: UpstreamRuntime | None = None,
) -> UpstreamRuntime:
    """Settle an upstream. What we cannot do yet is `unsupported`; nothing that passed its schema raises.

    `keepalive` is for an upstream without a keepalive_pool of its own. `before`: the one that this takes the place of;
    what its balancer knows of nodes that stay goes on.
    """
    return UpstreamRuntime(upstream, keepalive, watch_health, before)


def keep_alive(size: int, idle_timeout_s: float, requests: int) -> KeepAlive:
    """What is kept of idle connections. An idle time of 0 keeps nothing."""
    return KeepAlive(size if idle_timeout_s > 0 else 0, idle_timeout_s, requests)


@lru_cache(SHARED)
def shared_timeouts(timeout: Timeout) -> Timeouts:
    """The model's figures as connections take them."""
    return Timeouts(timeout.connect, timeout.send, timeout.read)


def _unsupported(upstream: Upstream) -> str | None:
    if upstream.scheme not in _SCHEMES:
        return f"scheme {upstream.scheme} is not supported"
    if upstream.type not in TYPES:
        return f"type {upstream.type[:_LONGEST_TOLD]!r} is none of {', '.join(TYPES)}"
    if upstream.service_name is not None and not upstream.nodes:
        return "service discovery is not supported"
    if upstream.scheme != "https":
        return None
    material = read_material(upstream.tls)
    return None if material is None else material_fault(material)


def _candidate(node: Node, upstream: Upstream) -> Weighted[NodeRuntime]:
    """Raises UnusableTls."""
    rewrites = upstream.pass_host == "rewrite"  # noqa: S105 - a mode, not a password
    tls = None
    if upstream.scheme == "https":
        name, verify = fixed_server_name(upstream, node), bool((upstream.tls or {}).get("verify", False))
        # Where the client's Host is the name, this one stands in for a client that sends none.
        tls = TlsIdentity(server_name_of(node.host) if name is None else name, verify, read_material(upstream.tls))
    host_header = (upstream.upstream_host if rewrites else None) or node.host_header(upstream.scheme)
    runtime = _shared_node(node.host, node.port, tls, host_header, node.authority)
    # The name under which APISIX hashes a node has NUL for each colon.
    hashed_as = node.authority.replace(":", "\0").encode("latin-1", "replace")
    return Weighted(runtime, node.weight, hashed_as, node.priority)


@lru_cache(SHARED)
def _shared_node(host: str, port: int, tls: TlsIdentity | None, host_header: str, address: str) -> NodeRuntime:
    return NodeRuntime(Target(host, port, tls), host_header.encode("latin-1", "replace"), address)
