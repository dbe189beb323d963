"""gunicorn's ASGI worker with a table of listeners: a role, hence an application, for each socket.

`_serve` and `_shutdown` replace gunicorn's; tests/server/test_worker_upstream.py fails when those change upstream. The
rest (process, signals, loop, clean-up) is gunicorn's own.

Thin: the master imports this module. What serves is imported in `load_wsgi`, after the fork.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from asyncio import Server
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gunicorn.arbiter import Arbiter
from gunicorn.workers.gasgi import ASGIWorker

from gw.errors import ConfigError
from gw.server.client_pace import ClientTimes
from gw.server.draining import GRACE_S, Connections
from gw.server.listeners import TRAFFIC, assign, listeners

if TYPE_CHECKING:
    from gw.server.lifecycle import Gateway
    from gw.settings import Settings
    from gw.shm.cells import WorkerTable
    from gw.shm.counters import CounterTable

# How often the master hears of us. It gives up after gunicorn's `timeout`, which is many times this.
HEARTBEAT_S: Final = 1.0
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What the master gives a worker before the fork. `cell` is its own in `table`, and its row in `counters`."""

    settings: Settings
    table: WorkerTable
    cell: int
    counters: CounterTable


class GatewayWorker(ASGIWorker):
    """One worker process. The master's `pre_fork` hook sets `assignment`."""

    assignment: Assignment
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_stopping = False
        self._stopping: asyncio.Event | None = None
        self._hurry: asyncio.Event | None = None
        self._reopen: Callable[[], None] | None = None
        self._traffic: Connections | None = None
        self._others: Connections | None = None

    def catch_signals(self) -> None:
        """Take signals from now on, without a loop: the master's hook calls this right after the fork.

        gunicorn hands them to the loop before it imports the application. But uvloop keeps a signal that comes before
        it runs until the next one comes, and the worker would outlive a stop by its whole grace period.
        """
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        for number, handle in (
            (signal.SIGTERM, self.handle_exit_signal),
            (signal.SIGQUIT, self.handle_quit_signal),
            (signal.SIGINT, self.handle_quit_signal),
            (signal.SIGUSR1, self.handle_usr1_signal),
            (signal.SIGABRT, self.handle_abort_signal),
        ):
            signal.signal(number, _without_arguments(handle))
        release_stop_signals()

    def init_signals(self) -> None:
        self.catch_signals()

    def handle_exit_signal(self) -> None:
        # Not gunicorn's, which clears `alive`: its protocol then ends connections that have not been told so.
        self._is_stopping = True
        self._wake(self._stopping)

    def handle_quit_signal(self) -> None:
        super().handle_quit_signal()
        self._wake(self._hurry)
        self._wake(self._stopping)

    def handle_usr1_signal(self) -> None:
        """Log files were moved away."""
        super().handle_usr1_signal()
        if self._reopen is not None:
            self._reopen()

    async def _serve(self) -> None:
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()
        super().init_signals()
        if self._is_stopping or not self.alive:
            return
        self._traffic, self._others = Connections(self.cfg.worker_connections), Connections()
        _raise_file_limit()
        # How long gunicorn's protocol waits for the next piece of a request body. It has a setting of its own for whole
        # seconds, which is also after how long the master kills a worker that stands still; this copy is ours alone.
        self.cfg.settings["timeout"].value = self.assignment.settings.nginx_config.http.client_body_timeout_s
        try:
            roles = [listener.role for listener in assign(self._socket_names(), listeners(self.assignment.settings))]
        except ConfigError as error:
            self.log.error("%s", error)
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from None
        by_role = list(zip(roles, self.sockets, strict=True))
        async with self.asgi.started(self.assignment) as gateway:
            self._traffic.counters = gateway.traffic.counters
            self._reopen = gateway.traffic.reopen_logs
            for role, sock in by_role:
                if role != TRAFFIC:
                    await self._listen(gateway, role, sock)
            opening = asyncio.create_task(
                self._listen_when_configured(gateway, [sock for role, sock in by_role if role == TRAFFIC]),
                name="open-traffic-listeners",
            )
            opening.add_done_callback(self._stop_if_failed)
            try:
                await self._beat_until_stopped()
            finally:
                opening.cancel()
                gateway.draining()
                await self._shutdown()

    async def _shutdown(self) -> None:
        assert self._hurry is not None
        self.log.info("Worker shutting down...")
        for server in self.servers:
            server.close()
        draining = asyncio.create_task(self._drain(), name="drain-connections")
        hurrying = asyncio.create_task(self._hurry.wait(), name="watch-for-quick-stop")
        end_s = self.loop.time() + self.assignment.settings.gw.graceful_timeout_s
        done: set[asyncio.Task[Any]] = set()
        while not done and (left_s := end_s - self.loop.time()) > 0:
            # A master that goes on (it has fewer workers now) kills the one it does not hear of.
            self.notify()
            done, _ = await asyncio.wait(
                (draining, hurrying), timeout=min(left_s, HEARTBEAT_S), return_when=asyncio.FIRST_COMPLETED
            )
        for task in (draining, hurrying):
            task.cancel()
        await asyncio.gather(draining, hurrying, return_exceptions=True)
        cut = sum(connections.abort() for connections in self._all_connections())
        if cut:
            self.log.warning("Forcing close of %d connections", cut)

    async def _drain(self) -> None:
        """Let connections end. Where others go on in our place there is time; who stops a gateway wants it gone."""
        is_replaced = self.assignment.table.has_other_master(self.ppid)
        patience_s = self.assignment.settings.gw.drain_timeout_s if is_replaced else GRACE_S
        await asyncio.gather(*(connections.drain(patience_s) for connections in self._all_connections()))

    async def _beat_until_stopped(self) -> None:
        assert self._stopping is not None
        while self.alive and not self._is_stopping:
            self.notify()
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                return
            try:
                await asyncio.wait_for(self._stopping.wait(), HEARTBEAT_S)
            except TimeoutError:
                continue

    async def _listen_when_configured(self, gateway: Gateway, sockets: list[Any]) -> None:
        await gateway.configured.wait()
        for sock in sockets:
            await self._listen(gateway, TRAFFIC, sock)

    async def _listen(self, gateway: Gateway, role: str, sock: Any) -> None:
        server: Server = await self.loop.create_server(self._factory(gateway, role), sock=sock.sock)
        self.servers.append(server)
        self.log.info("%s served on %s", role, sock)

    def _factory(self, gateway: Gateway, role: str) -> Callable[[], asyncio.Protocol]:
        connections = self._traffic if role == TRAFFIC else self._others
        assert connections is not None
        http = self.assignment.settings.nginx_config.http
        times = ClientTimes(
            header_s=http.client_header_timeout_s,
            body_s=http.client_body_timeout_s,
            idle_s=http.keepalive_timeout_s,
            send_s=http.send_timeout_s,
        )
        if role == TRAFFIC and self.assignment.settings.gw.edge == "h1":
            return gateway.h1_factory(connections, times)
        return gateway.asgi_factory(self, role, connections, times)

    def _all_connections(self) -> list[Connections]:
        return [connections for connections in (self._traffic, self._others) if connections is not None]

    def _socket_names(self) -> list[Any]:
        return [sock.getsockname() for sock in self.sockets]

    def _stop_if_failed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("cannot listen for traffic: %s", error)
            self.handle_exit_signal()

    @staticmethod
    def _wake(event: asyncio.Event | None) -> None:
        if event is not None:
            event.set()


def _without_arguments(handle: Callable[[], None]) -> Callable[[int, object], None]:
    return lambda _number, _frame: handle()


def hold_stop_signals() -> None:
    """For the master, before a fork: what tells the child to stop waits until the child can hear it.

    A child begins with the master's handlers, which would swallow a signal that comes before its own are set, and
    the master would wait for it in vain until its graceful time is over.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_stop_signals() -> None:
    """For the master after the fork, and for the child when its own handlers stand."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _raise_file_limit() -> None:
    """Let this process have as many sockets open as the system allows it: one for the client, one for the upstream."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
