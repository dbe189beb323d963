"""What proxied traffic needs in one worker beside the configuration: put together here, and closed in reverse.

Connections to upstreams, shared state, health of nodes, plugins, counters, the access log. Each is opened after the
fork; nothing in here decides anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from gw import __version__
from gw.access_log.log import AccessLog
from gw.clock import SystemClock
from gw.errors import SegmentError
from gw.health.board import Board
from gw.health.probe import StreamProbe
from gw.health.prober import Prober
from gw.health.view import HealthView
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.pipeline.gateway import Gateway
from gw.pipeline.meta_filter import compile_filter
from gw.pipeline.origin import Origin
from gw.pipeline.path_view import compile_path_view
from gw.pipeline.upstream import UpstreamRuntime, Watching, compile_upstream, keep_alive
from gw.plugins.api import Environment
from gw.plugins.catalogue import Catalogue
from gw.plugins.registry import load_registry
from gw.rebuild.entry import MakeRuntime
from gw.rebuild.state import ConfigState
from gw.settings import Settings
from gw.settings.matching import body_limits
from gw.settings.resolver import ResolverSettings
from gw.shared.files import state_directory
from gw.shared.store import SharedStore
from gw.shm.counters import TrafficCounters
from gw.shm.names import SegmentNames
from gw.shm.trust import Trust
from gw.upstream.client import UpstreamClient
from gw.upstream.fetch import Fetcher
from gw.upstream.lookup import ResolverOptions, SystemLookup

log = logging.getLogger(__name__)

# Starts a task that the worker owns, under this name, and cannot do without.
Start = Callable[[Coroutine[Any, Any, None], str], None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """`gateway` serves requests by `state`, `board` shows the health of nodes; None where nothing can be shared.

    `plugins` are those that can be run.
    """

    gateway: Gateway
    state: ConfigState
    board: Board | None
    access_log: AccessLog | None
    counters: TrafficCounters
    plugins: Catalogue

    def reopen_logs(self) -> None:
        """The log file was moved away: SIGUSR1."""
        if self.access_log is not None:
            self.access_log.reopen()


def open_traffic(stack: AsyncExitStack, settings: Settings, counters: TrafficCounters, start: Start) -> Traffic:
    """Open what requests walk through. Nothing is configured yet: `state` is to be followed."""
    loop, clock = asyncio.get_running_loop(), SystemClock()
    store = _open_store(settings, clock)
    if store is not None:
        stack.callback(store.close)
    upstreams = UpstreamClient(
        loop, settings.apisix.ssl.ssl_trusted_certificate, lookup=_lookup(settings.apisix), counters=counters
    )
    stack.push_async_callback(upstreams.close)
    board, view = _follow_health(store, settings, upstreams, start)
    state = ConfigState(
        settings.apisix.router.http, _runtime_maker(settings, view), allow_code=settings.gw.allow_code
    )
    access_log = AccessLog.open(settings.nginx_config.http, settings.access_log_path, loop)
    if access_log is not None:
        stack.callback(access_log.close)
    to_match_bytes, graphql_bytes = body_limits(settings.apisix, settings.graphql)
    gateway = Gateway(
        state,
        upstreams,
        server_name=f"Jitterway/{__version__}" if settings.apisix.enable_server_tokens else "Jitterway",
        max_body_bytes=settings.nginx_config.http.client_max_body_size_bytes,
        max_body_to_match_bytes=to_match_bytes,
        max_graphql_bytes=graphql_bytes,
        path_view=compile_path_view(
            without_final_slash=settings.apisix.delete_uri_tail_slash,
            like_servlet=settings.apisix.normalize_uri_like_servlet,
        ),
        locate=Origin.from_settings(settings),
        counters=counters,
        on_ended=None if access_log is None else access_log.add,
        shows_every_status=settings.apisix.show_upstream_status_in_response_header,
    )
    stack.push_async_callback(gateway.close)
    environment = Environment(
        loop=loop,
        shared=store,
        fetcher=Fetcher(upstreams),
        clock=clock,
        metadata=state.metadata,
        attr=settings.attr_of,
        spawn=gateway.spawn,
        consumers=state,
    )
    registry = load_registry(settings.plugins)
    state.use_plugins(registry.maker(environment), compile_filter, registry.credential_fields)
    stack.callback(state.close)
    return Traffic(gateway, state, board, access_log, counters, Catalogue(registry))


def _open_store(settings: Settings, clock: SystemClock) -> SharedStore | None:
    """Without it the worker serves all the same: what counts on it answers 500, and every node counts as healthy."""
    shm = settings.gw.shm
    directory = state_directory(SegmentNames(shm.name))
    try:
        return SharedStore.open(directory, settings.gw.shared_state.size_bytes, clock, Trust(shm.owners, shm.group))
    except SegmentError as error:
        log.error("no shared state, so no counting and no health checks: %s", error)
        return None


def _follow_health(
    store: SharedStore | None, settings: Settings, upstreams: UpstreamClient, start: Start
) -> tuple[Board | None, HealthView | None]:
    """Follow the health of nodes, and be ready to probe them for the host."""
    if store is None:
        return None, None
    clock = SystemClock()
    board = Board(store, clock)
    view = HealthView(board, clock, not settings.apisix.disable_upstream_healthcheck)
    probe = StreamProbe(settings.apisix.ssl.ssl_trusted_certificate, upstreams.addresses)
    lease = board.lease(os.urandom(16))
    prober = Prober(board, lease, probe, clock=clock, chance=random.SystemRandom(), on_change=view.changed)
    start(view.run(), "health-view")
    start(prober.run(), "health-probes")
    return board, view


def _runtime_maker(settings: Settings, view: HealthView | None) -> MakeRuntime:
    idle = settings.nginx_config.http.upstream
    keepalive = keep_alive(idle.keepalive, idle.keepalive_timeout_s, idle.keepalive_requests)

    def make(key: ResourceKey, upstream: Upstream, before: UpstreamRuntime | None) -> UpstreamRuntime:
        def watch_health(upstream: Upstream, on_change: Callable[[frozenset[str]], None]) -> Watching | None:
            watch = None if view is None else view.watch(key, upstream, on_change)
            return None if view is None or watch is None else (watch, partial(view.unwatch, watch))

        return compile_upstream(upstream, keepalive, watch_health=watch_health, before=before)

    return make


def _lookup(settings: ResolverSettings) -> SystemLookup:
    return SystemLookup(
        ResolverOptions(
            servers=settings.dns_resolver,
            valid_s=settings.dns_resolver_valid_s,
            timeout_s=settings.resolver_timeout_s,
            search=settings.enable_resolv_search_opt,
            ipv6=settings.enable_ipv6,
        )
    )
