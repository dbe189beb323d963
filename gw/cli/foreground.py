"""What `gw start` and `gw serve` have in common: sockets, a supervisor of gunicorns over them, and orders to reload."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from gw.cli.leftovers import segment_space
from gw.cli.orders import taking_orders
from gw.cli.run_lock import orders_path
from gw.cli.sockets import listening
from gw.cli.spawn import adopt_orphans, module_command, spawn
from gw.cli.steps import AGENT, Child
from gw.cli.supervision import Supervision
from gw.cli.supervisor import Duties, Supervisor
from gw.cli.trial import Plan, try_out
from gw.clock import SystemClock
from gw.errors import SegmentError
from gw.server.listeners import listeners
from gw.settings import Settings
from gw.shm.cells import WorkerTable

# Theirs who run in the foreground: no child tells systemd anything, or takes its sockets for systemd's.
_OURS_ALONE = frozenset(("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"))


class Foreground:
    """One gateway in this process.

    `opened` is called when its sockets are open, `announce` when its workers first serve, `say` with what is for
    people. `withheld` are the names of environment variables that no worker gets.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        has_agent: bool,
        withheld: frozenset[str] = frozenset(),
        opened: Callable[[], None] = lambda: None,
        announce: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._has_agent = has_agent
        self._plan = Plan.of(settings, withheld)
        self._opened = opened
        self._announce = announce
        self._say = say
        self._sockets: list[socket.socket] = []

    def run(self, lock: Path) -> int:
        """Serve until told to stop; the exit code. `lock` is held by the caller. Raises JitterwayError."""
        adopt_orphans()
        with listening(listeners(self._settings)) as self._sockets, taking_orders(orders_path(lock)) as orders:
            duties = Duties(
                launch=self._launch,
                is_ready=self._is_ready,
                announce=self._announce,
                plan=self._try_out,
                hand_over=self._hand_over,
                stop_listening=self._stop_listening,
                say=self._say,
            )
            self._opened()
            supervision = Supervision(self._settings.gw.graceful_timeout_s, has_agent=self._has_agent)
            return Supervisor(supervision, duties, SystemClock(), orders).run()

    def _try_out(self) -> Plan:
        self._plan = try_out(str(self._settings.source), self._plan, has_agent=self._has_agent)
        return self._plan

    def _launch(self, child: Child) -> int:
        environ = {name: value for name, value in os.environ.items() if name not in _OURS_ALONE}
        environ["JITTERWAY_CONFIG"] = str(self._settings.source)
        if child == AGENT:
            return spawn(module_command("sync_agent", "-c", str(self._settings.source)), environ=environ)
        environ = {name: value for name, value in environ.items() if name not in self._plan.withheld}
        command = module_command("gunicorn", "-c", "python:gw.server.gunicorn_conf", "gw.app:app")
        return spawn(command, environ=environ, listen_fds=[sock.fileno() for sock in self._sockets])

    def _is_ready(self, gunicorn_pid: int) -> bool:
        """Whether as many of its workers as it means to have hold a configuration."""
        table = self._open_table(writable=False)
        if table is None:
            return False
        with closing(table):
            return 0 < table.expected_by(gunicorn_pid) <= table.serving_for(gunicorn_pid)

    def _hand_over(self, gunicorn_pid: int) -> None:
        # Where the old master is gone already the new one may be the master, and this changes nothing.
        if (table := self._open_table(writable=True)) is not None:
            with closing(table):
                table.hand_over(gunicorn_pid)

    def _open_table(self, *, writable: bool) -> WorkerTable | None:
        space, names = segment_space(self._settings)
        try:
            return WorkerTable.open(space, names, writable=writable)
        except SegmentError:
            return None  # not yet there; a stranger's is gunicorn's to complain about

    def _stop_listening(self) -> None:
        for sock in self._sockets:
            sock.close()
