"""What proxied traffic needs in one worker beside the configuration: put together here, and closed in reverse.

Connections to upstreams, shared state, health of nodes, plugins, counters, the access log. Each is opened after the
fork; nothing in here decides anything.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gw import __version__
from gw.access_log.log import AccessLog
from gw.clock import SystemClock
from gw.health.board import Board
from gw.health.probe import StreamProbe
from gw.health.prober import Prober
from gw.health.view import HealthView
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.pipeline.context import Context, Link
from gw.pipeline.gateway import Gateway
from gw.pipeline.origin import Origin
from gw.pipeline.upstream import UpstreamRuntime, Watching, compile_upstream, keep_alive
from gw.plugins.api import Environment
from gw.plugins.registry import load_registry
from gw.rebuild.entry import MakeRuntime
from gw.rebuild.state import ConfigState
from gw.settings import Settings
from gw.settings.resolver import ResolverSettings
from gw.shared.files import state_directory
from gw.shared.store import SharedStore
from gw.shm.counters import TrafficCounters
from gw.shm.names import SegmentNames
from gw.upstream.client import UpstreamClient
from gw.upstream.fetch import Fetcher
from gw.upstream.lookup import ResolverOptions, SystemLookup

Start = Callable[[Coroutine[Any, Any, None], str], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """`gateway` serves requests, `board` shows the health of nodes."""

    gateway: Gateway
    board: Board
    access_log: AccessLog | None


def open_health(store: SharedStore, settings: Settings, lookup: SystemLookup, start: Start) -> tuple[Board, HealthView]:
    """Follow the health of nodes, and be ready to probe them for the host."""
    clock = SystemClock()
    board = Board(store, clock)
    view = HealthView(board, clock, not settings.apisix.disable_upstream_healthcheck)
    probe = StreamProbe(settings.apisix.ssl.ssl_trusted_certificate, _addresses_of(lookup))
    lease = board.lease(os.urandom(16))
    prober = Prober(board, lease, probe, clock=clock, chance=random.SystemRandom(), on_change=view.changed)
    start(view.run(), "health-view")
    start(prober.run(), "health-probes")
    return board, view


def runtime_maker(settings: Settings, view: HealthView) -> MakeRuntime:
    """What makes upstreams ready for requests, with the health of their nodes."""
    idle = settings.nginx_config.http.upstream
    keepalive = keep_alive(idle.keepalive, idle.keepalive_timeout_s, idle.keepalive_requests)

    def make(key: ResourceKey, upstream: Upstream, before: UpstreamRuntime | None) -> UpstreamRuntime:
        def watch(upstream: Upstream, on_change: Callable[[frozenset[str]], None]) -> Watching | None:
            watch = view.watch(key, upstream, on_change)
            return None if watch is None else (watch, partial(view.unwatch, watch))

        return compile_upstream(upstream, keepalive, watch_health=watch, before=before)

    return make


async def open_traffic(
    stack: AsyncExitStack,
    settings: Settings,
    state: ConfigState,
    store: SharedStore,
    board: Board,
    lookup: SystemLookup,
    counters: TrafficCounters,
) -> Traffic:
    """Open what requests walk through. `state` is given its plugins here, before its first rebuild."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    access_log = AccessLog.open(settings.nginx_config.http, access_log_path(settings), loop)
    if access_log is not None:
        stack.callback(access_log.close)
    upstreams = UpstreamClient(
        loop, settings.apisix.ssl.ssl_trusted_certificate, lookup=lookup, counters=counters
    )
    stack.push_async_callback(upstreams.close)
    gateway = Gateway(
        state,
        upstreams,
        server_name=f"Jitterway/{__version__}",
        max_body_bytes=settings.nginx_config.http.client_max_body_size_bytes,
        locate=Origin.from_settings(settings),
        counters=counters,
        on_ended=None if access_log is None else access_log.add,
    )
    stack.push_async_callback(gateway.close)
    registry = load_registry(settings.plugins)
    environment = Environment(
        loop=loop,
        shared=store,
        fetcher=Fetcher(upstreams),
        clock=clock,
        metadata=state.metadata,
        attr=partial(_attr, settings),
        spawn=gateway.spawn,
    )
    state.use_plugins(registry.maker(environment))
    stack.callback(state.close)
    return Traffic(gateway, board, access_log)


def open_store(settings: Settings) -> SharedStore:
    """The state that this host's workers share. Raises SegmentError."""
    names = SegmentNames(settings.gw.shm.name)
    return SharedStore.open(state_directory(names), settings.gw.shared_state.size_bytes, SystemClock())


def new_lookup(settings: ResolverSettings) -> SystemLookup:
    """How names of nodes become addresses."""
    return SystemLookup(
        ResolverOptions(
            servers=settings.dns_resolver,
            valid_s=settings.dns_resolver_valid_s,
            timeout_s=settings.resolver_timeout_s,
            search=settings.enable_resolv_search_opt,
            ipv6=settings.enable_ipv6,
        )
    )
