"""What one worker opens after the fork, in which order, and how it closes: in reverse.

Each task has a name and its owner is the stack that it was started on. Nothing in here decides anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gw.admin.agent_client import AgentClient
from gw.admin.app import admin_app
from gw.clock import SystemClock
from gw.collector import calm_collector, settle_heap
from gw.control.app import Part, control_app
from gw.control.convergence import convergence
from gw.control.dumps import Dumps
from gw.control.healthcheck import DEFAULT_PREFIX, Healthchecks
from gw.control.masking import Masking
from gw.control.metrics_app import metrics_app
from gw.control.schemas import Schemas
from gw.control.served import Observed
from gw.control.status_app import status_app
from gw.control.upkeep import Upkeep
from gw.errors import AgentUnavailable
from gw.expr import import_engines
from gw.metrics.host_view import HostView, view_host
from gw.model.operations import Status
from gw.plugins.reloading import PluginReload
from gw.rebuild.follower import Applied, Follower
from gw.rebuild.scheduler import RebuildScheduler
from gw.rebuild.state import ConfigState
from gw.rebuild.turn import Turn
from gw.server.asgi import http_only, traffic_app
from gw.server.client_pace import ClientTimes
from gw.server.draining import Connections
from gw.server.h1.connection import H1Connection
from gw.server.h1.request_head import HeadLimits
from gw.server.listeners import ADMIN, CONTROL, METRICS, STATUS, TRAFFIC
from gw.server.parser import MAX_HEAD_BYTES
from gw.server.protocol import GatewayProtocol
from gw.server.report import CellReport
from gw.server.traffic import Traffic, open_traffic
from gw.server.waiting import ServedWait
from gw.server.worker import Assignment
from gw.settings import Settings
from gw.settings.roles import DOCUMENT_FORMS
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace

log = logging.getLogger(__name__)

# What the agent says of itself is one part of the answer: it is left out when it takes longer.
AGENT_REPORT_TIMEOUT_S: Final = 2.0
# gunicorn's own form, so that a log has one.
_LOG_FORMAT: Final = "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"
_LOG_TIME: Final = "[%Y-%m-%d %H:%M:%S %z]"


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running worker. `apps` are by role; `configured` is set once there is a configuration to take traffic with."""

    apps: Mapping[str, Any]
    traffic: Traffic
    configured: asyncio.Event
    report: CellReport
    head_limits: HeadLimits

    def h1_factory(self, connections: Connections, times: ClientTimes) -> Callable[[], H1Connection]:
        """What makes a protocol for each connection of the traffic listeners."""
        return partial(H1Connection, self.traffic.gateway, connections, self.head_limits, times)

    def asgi_factory(
        self, worker: Any, role: str, connections: Connections, times: ClientTimes
    ) -> Callable[[], GatewayProtocol]:
        """The same for any listener: gunicorn's protocol before the role's application."""
        return partial(GatewayProtocol, worker, self.apps[role], connections, times)

    def draining(self) -> None:
        """Say in the cell that this worker takes nothing new."""
        self.report.is_draining = True
        self.report.write()


@dataclass(frozen=True, slots=True)
class _Following:
    """The configuration, kept up to date. `configured` is set with the first one."""

    reader: SnapshotReader
    state: ConfigState
    report: CellReport
    configured: asyncio.Event


@asynccontextmanager
async def running_gateway(assignment: Assignment) -> AsyncIterator[Gateway]:
    """Open everything, follow the configuration, and close everything again."""
    settings, table = assignment.settings, assignment.table
    configure_logging(settings.gw.log_level)
    import_engines()
    calm_collector()
    # Before the cell says that this worker lives: what the last owner of the row left open is not ours.
    counters = assignment.counters.take(assignment.cell)
    counters.write_behind(asyncio.get_running_loop().call_later)
    async with AsyncExitStack() as stack:
        stack.callback(counters.flush)
        traffic = open_traffic(stack, settings, counters, partial(_start, stack))
        following = _follow(stack, assignment, traffic.state)
        agent = AgentClient(settings.socket_path)
        stack.push_async_callback(agent.close)
        asking = AgentClient(settings.socket_path, timeout_s=AGENT_REPORT_TIMEOUT_S)
        stack.push_async_callback(asking.close)

        async def current_convergence() -> dict[str, Any]:
            report = await _agent_report(asking)
            return convergence(following.reader.peek(), table.read_all(), table.expected, report)

        def look() -> Observed:
            cells = table.read_all()
            return Observed(cells, table.expected, following.reader.peek())

        waiting = ServedWait(look, lambda: following.report.is_draining, SystemClock())
        host_names = {socket.gethostname()}

        def look_at_host() -> HostView:
            counters.flush()  # a client that was answered here finds its request counted here
            return view_host(following.reader, table, socket.gethostname(), assignment.counters)

        metrics = settings.plugin_attr.prometheus
        apps: dict[str, Any] = {
            TRAFFIC: traffic_app(traffic.gateway),
            ADMIN: http_only(admin_app(settings, agent, waiting.until_served, traffic.plugins)),
            CONTROL: http_only(control_app(current_convergence, host_names, _control_parts(settings, traffic))),
            STATUS: http_only(status_app(table, host_names)),
            METRICS: http_only(
                metrics_app(look_at_host, path=metrics.export_uri, prefix=metrics.metric_prefix, host_names=host_names)
            ),
        }
        yield Gateway(apps, traffic, following.configured, following.report, _head_limits(settings))


def _control_parts(settings: Settings, traffic: Traffic) -> Iterator[Part]:
    # In APISIX, too, keys of what comes as a document are without the prefix of a store.
    prefix = "" if settings.deployment.config_provider in DOCUMENT_FORMS else DEFAULT_PREFIX
    if traffic.board is not None:
        yield Healthchecks(traffic.board, traffic.state.resource, prefix)
    yield Dumps(traffic.state, Masking(traffic.plugins.schemas), prefix)
    yield Schemas(traffic.plugins)
    yield Upkeep(PluginReload(settings))


def _follow(stack: AsyncExitStack, assignment: Assignment, state: ConfigState) -> _Following:
    """Start to follow the configuration in shared memory, and to say in the cell how far that is."""
    settings, clock = assignment.settings, SystemClock()
    space = PosixSpace(settings.gw.shm.owners, settings.gw.shm.group)
    reader = SnapshotReader(space, SegmentNames(settings.gw.shm.name), clock)
    stack.callback(reader.close)
    rebuild = settings.gw.rebuild
    scheduler = RebuildScheduler(
        update_jitter_ms=rebuild.update_jitter_ms,
        full_jitter_ms=rebuild.full_jitter_ms,
        clock=clock,
        chance=random.SystemRandom(),
    )
    report = CellReport(assignment.table, assignment.cell, state, scheduler, clock)
    turn = Turn(settings.turn_paths)
    stack.callback(turn.close)
    configured = asyncio.Event()

    def on_applied(applied: Applied) -> None:
        if not configured.is_set():
            settle_heap()
            configured.set()
        report.write()
        log.debug("%s to version %d in %.1f ms", applied.work.value, applied.slot.version, applied.duration_s * 1e3)

    report.follower = Follower(
        reader=reader,
        state=state,
        scheduler=scheduler,
        clock=clock,
        poll_interval_ms=rebuild.poll_interval_ms,
        slice_ms=rebuild.slice_ms,
        turn=turn,
        full_timeout_ms=rebuild.full_timeout_ms,
        on_applied=on_applied,
    )
    _start(stack, report.run(), "report")
    _start(stack, report.follower.run(), "follow-configuration")
    return _Following(reader, state, report, configured)


def _head_limits(settings: Settings) -> HeadLimits:
    limits = settings.gw.limits
    return HeadLimits(
        limits.request_line_bytes,
        limits.request_headers,
        limits.request_header_bytes,
        max(MAX_HEAD_BYTES, 2 * limits.request_header_bytes),
        drops_underscores=not settings.nginx_config.http.underscores_in_headers,
    )


def configure_logging(level: str) -> None:
    """Lines of our own modules go where gunicorn's go: to standard error."""
    logger = logging.getLogger("gw")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(_LOG_FORMAT, _LOG_TIME))
        logger.addHandler(handler)
        logger.propagate = False


async def _agent_report(agent: AgentClient) -> Mapping[str, Any] | None:
    try:
        return (await agent.call(Status())).status
    except AgentUnavailable:
        return None


def _start(stack: AsyncExitStack, work: Coroutine[Any, Any, None], name: str) -> None:
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_stop_at_end)
    stack.push_async_callback(_stop, task)


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _stop_at_end(task: asyncio.Task[None]) -> None:
    """Without its tasks a worker would serve what it has for ever: let the master put another in its place."""
    if not task.cancelled():
        log.critical("task %s ended, which it never should: stopping", task.get_name(), exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)
