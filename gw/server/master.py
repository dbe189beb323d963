"""The gunicorn master's part: gunicorn's settings from ours, and the table of workers with their counters.

The master knows settings and the tables, loads no resources, and imports nothing that serves: a worker's memory is its
own, and code that is replaced on disk is taken up by the next worker.
"""

from __future__ import annotations

import math
import os
import signal
from typing import Any, Final

from gw.errors import ConfigError
from gw.server.listeners import assign, listeners
from gw.server.worker import Assignment, hold_stop_signals, release_stop_signals
from gw.settings import Settings
from gw.shm.cells import WorkerTable
from gw.shm.counters import CounterTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace

# A loop that has stood still for so long is stuck for good. gunicorn's own default.
STUCK_S: Final = 30
# The master kills what is left after its graceful time, so it waits longer than the worker, which closes what is left.
KILL_MARGIN_S: Final = 2
# APISIX's nginx_config.event.worker_connections.
WORKER_CONNECTIONS: Final = 10620
# Workers touch a file to say that they live. On a disk that can take seconds; gunicorn's documentation advises this.
HEARTBEAT_DIR: Final = "/dev/shm"  # noqa: S108 - the file is unlinked as soon as it is open


def gunicorn_settings(settings: Settings) -> dict[str, Any]:
    """Everything of gunicorn's that differs from its defaults, or matters so much that it is not left to them."""
    http, limits = settings.nginx_config.http, settings.gw.limits
    return {
        "bind": [listener.address for listener in listeners(settings)],
        "worker_class": "gw.server.worker.GatewayWorker",
        "workers": settings.gw.workers,
        "worker_connections": WORKER_CONNECTIONS,
        "worker_tmp_dir": HEARTBEAT_DIR,
        "proc_name": f"jitterway {settings.gw.shm.name}",
        # Each worker imports what serves after the fork.
        "preload_app": False,
        # In the workers it is something else besides: see gw.server.worker.
        "timeout": STUCK_S,
        "graceful_timeout": math.ceil(settings.gw.graceful_timeout_s) + KILL_MARGIN_S,
        "keepalive": math.ceil(http.keepalive_timeout_s),
        "limit_request_line": limits.request_line_bytes,
        "limit_request_fields": limits.request_headers,
        "limit_request_field_size": limits.request_header_bytes,
        # "dangerous" is so only where headers become environment variables (WSGI): here names stay as they came.
        "header_map": "dangerous" if http.underscores_in_headers else "drop",
        # Nobody tells us by a header who the client is or which scheme was used: the proxy decides that, not gunicorn.
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "secure_scheme_headers": {},
        "proxy_protocol": "off",
        # gw.server.protocol looks into this parser; it is also the one whose limits are tested.
        "http_parser": "python",
        "http_protocols": "h1",
        "http2_cleartext": "off",
        "permit_obsolete_folding": False,
        "permit_unconventional_http_method": False,
        "permit_unconventional_http_version": False,
        "strip_header_spaces": False,
        "casefold_http_method": False,
        "asgi_loop": "uvloop",
        "asgi_lifespan": "off",
        # A client that has gone takes its upstream request with it at once.
        "asgi_disconnect_grace_period": 0,
        # A socket that takes commands is one more way in.
        "control_socket_disable": True,
        "accesslog": None,
        "loglevel": settings.gw.log_level,
    }


class Master:
    """gunicorn's server hooks: who has which cell of the table of workers, and how many there should be."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._table: WorkerTable | None = None
        self._counters: CounterTable | None = None
        self._held: set[int] = set()  # cells of children that were not reaped yet
        os.register_at_fork(after_in_parent=release_stop_signals)

    def hooks(self) -> dict[str, Any]:
        """The hooks by gunicorn's names."""
        return {
            "on_starting": self._on_starting,
            "when_ready": self._check_sockets,
            "nworkers_changed": self._on_workers_changed,
            "pre_fork": self._assign,
            "post_fork": self._catch_signals,
            "child_exit": self._free,
            "on_exit": self._on_exit,
        }

    def _on_starting(self, server: Any) -> None:
        space = PosixSpace(self._settings.gw.shm.owners, self._settings.gw.shm.group)
        names = SegmentNames(self._settings.gw.shm.name)
        self._counters = CounterTable.open_or_create(space, names)
        self._table = WorkerTable.open_or_create(space, names)
        self._table.claim(server.num_workers)

    def _check_sockets(self, server: Any) -> None:
        """Before the first fork, because gunicorn stops with a traceback when two workers do not start."""
        try:
            assign([listener.getsockname() for listener in server.LISTENERS], listeners(self._settings))
        except ConfigError as error:
            self._on_exit(server)
            raise SystemExit(f"{error}") from None

    def _on_workers_changed(self, server: Any, new: int, old: int | None) -> None:
        # gunicorn calls this once before it starts, too.
        if self._table is not None:
            self._table.claim(new)

    def _assign(self, server: Any, worker: Any) -> None:
        assert self._table is not None, "on_starting comes first"
        assert self._counters is not None
        hold_stop_signals()
        cell = self._table.reserve(self._held)
        self._held.add(cell)
        worker.assignment = Assignment(self._settings, self._table, cell, self._counters)

    def _catch_signals(self, server: Any, worker: Any) -> None:
        """In the child: up to here a signal for it went into its copy of the master's queue."""
        worker.catch_signals()
        while not server.SIG_QUEUE.empty():
            number = server.SIG_QUEUE.get_nowait()
            if number == signal.SIGTERM:
                worker.handle_exit_signal()
            elif number in (signal.SIGQUIT, signal.SIGINT):
                worker.handle_quit_signal()

    def _free(self, server: Any, worker: Any) -> None:
        if self._table is not None:
            self._held.discard(worker.assignment.cell)
            self._table.free(worker.assignment.cell)

    def _on_exit(self, server: Any) -> None:
        if self._table is not None:
            self._table.resign()
            self._table.close()
            self._table = None
        if self._counters is not None:
            self._counters.close()
            self._counters = None
