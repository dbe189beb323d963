"""`gw serve`: gunicorn alone in the foreground, without an agent; the main process of the systemd unit of the workers.

Under a main process that stays, a reload is an affair between it and its gunicorns: systemd sees one process from
start to stop, and no MAINPID has to wander. It says READY=1 (sd_notify(3), Type=notify) when its sockets are open and
not when its workers serve: for that they need a configuration, and systemd would end a unit that waited for the agent.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
from pathlib import Path

from gw.cli.foreground import Foreground
from gw.cli.leftovers import describe, still_living
from gw.cli.run_lock import lock_path, run_lock, unit_directory
from gw.cli.saying import say
from gw.clock import SystemClock
from gw.control.convergence import AGENT_TITLE
from gw.errors import JitterwayError
from gw.schema.installed import choose_plugins, installed_plugins
from gw.settings import Settings, load_settings


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: those of `gw start`."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    settings = load_settings(arguments.config)
    choose_plugins(settings.plugins, installed_plugins())  # two packages that claim one name stop the start
    for warning in settings.warnings:
        say(f"warning: {warning}")
    lock = lock_path(settings, unit_directory(os.environ))
    _check_directory(lock.parent)
    with run_lock(lock):
        _refuse_other_workers(settings)
        foreground = Foreground(
            settings,
            has_agent=False,
            opened=lambda: notify("READY=1\nSTATUS=waiting for a configuration"),
            announce=lambda: notify("STATUS=all workers serve"),
            say=say,
        )
        return foreground.run(lock)


def notify(state: str) -> None:
    """Tell systemd, if it listens: sd_notify(3). A service that cannot say it goes on all the same."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def _check_directory(directory: Path) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise JitterwayError(
            f"cannot write into {directory}, for the lock and the socket of `gw reload`: as a systemd unit set "
            "RuntimeDirectory= (conf/jitterway.service), else run the agent first or make the directory"
        )


def _refuse_other_workers(settings: Settings) -> None:
    """Two masters would give out cells of one table, and listen at the same addresses. An agent may run, and should."""
    living = [found for found in still_living(settings, SystemClock(), wait_s=0) if found[0] != AGENT_TITLE]
    if living:
        raise JitterwayError(
            f"workers of {settings.gw.shm.name!r} run on this host already ({describe(living)}); stop them where they "
            "were started"
        )
