"""`gw stop`: end the running `gw start` of a configuration, or clean up after one that was killed."""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys

from gw.cli import exit_codes
from gw.cli.leftovers import LEFTOVERS_END_S, describe, of_other_versions, remove_leftovers, still_living
from gw.cli.run_lock import AlreadyRuns, Holder, lock_path, run_lock
from gw.cli.supervision import AGENT_STOP_S, GRACE_MARGIN_S
from gw.clock import SystemClock
from gw.settings import Settings, load_settings


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 nothing runs any more, 1 something still does."""
    settings = load_settings(arguments.config)
    if not settings.gw.run_dir.is_dir():
        print(f"gw: nothing of {settings.gw.shm.name!r} runs")
        return _clean_up(settings)
    try:
        with run_lock(lock_path(settings)):
            return _clean_up(settings)
    except AlreadyRuns as running:
        if running.holder is None:
            print(f"gw: {running}", file=sys.stderr)
            return exit_codes.FAILED
        return _stop(running.holder, settings)


def _stop(holder: Holder, settings: Settings) -> int:
    """Ask the holder to stop, as its SIGTERM does: requests in flight may finish. Wait until it is gone."""
    try:
        pidfd = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return exit_codes.OK
    try:
        # The pid could be another's by now; the descriptor cannot change its process any more.
        if not holder.is_alive:
            return exit_codes.OK
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        longest_s = settings.gw.graceful_timeout_s + GRACE_MARGIN_S + AGENT_STOP_S + LEFTOVERS_END_S
        if not poller.poll(longest_s * 1000):
            print(f"gw: pid {holder.pid} still runs after {longest_s:g} s", file=sys.stderr)
            return exit_codes.FAILED
    finally:
        os.close(pidfd)
    print(f"gw: stopped (pid {holder.pid})")
    return exit_codes.OK


def _clean_up(settings: Settings) -> int:
    if living := still_living(settings, SystemClock(), LEFTOVERS_END_S):
        print(
            f"gw: no `gw start` runs, but {describe(living)} of {settings.gw.shm.name!r} does; stop it where it was "
            "started (systemctl?)",
            file=sys.stderr,
        )
        return exit_codes.FAILED
    gone = remove_leftovers(settings)
    print(f"gw: nothing runs; removed {', '.join(gone)}" if gone else "gw: nothing runs, nothing was left")
    if others := of_other_versions(settings):
        print(f"gw: {others}; stop these where they were started, then remove it", file=sys.stderr)
    return exit_codes.OK
