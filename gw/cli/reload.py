"""`gw reload`: let the running `gw start` or `gw serve` of a configuration change its workers for new ones."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from gw.cli import exit_codes
from gw.cli.orders import order_reload
from gw.cli.run_lock import Holder, find_holder, lock_path, orders_path, unit_directory
from gw.cli.trial import TRIAL_TIMEOUT_S
from gw.errors import JitterwayError
from gw.settings import Settings, load_settings

# For who answers: beside the two times that it keeps itself.
_MARGIN_S = 10.0


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 the new workers serve, 1 the old ones go on or nothing runs."""
    settings = load_settings(arguments.config)
    lock, holder = _running(settings)
    outcome = order_reload(
        orders_path(lock),
        holder.pid,
        with_agent=arguments.agent,
        timeout_s=TRIAL_TIMEOUT_S + settings.gw.reload_timeout_s + _MARGIN_S,
    )
    print(f"gw: {outcome.text}", file=sys.stdout if outcome.is_done else sys.stderr)
    return exit_codes.OK if outcome.is_done else exit_codes.FAILED


def _running(settings: Settings) -> tuple[Path, Holder]:
    """The lock that is held, and by whom. In a unit the directory that systemd made for it comes first."""
    directories = (unit_directory(os.environ), settings.gw.run_dir)
    for path in (lock_path(settings, directory) for directory in directories if directory is not None):
        if (holder := find_holder(path)) is not None:
            return path, holder
    raise JitterwayError(
        f"no `gw start` of {settings.gw.shm.name!r} runs with gw.run_dir {settings.gw.run_dir}; workers that systemd "
        "runs are reloaded by `systemctl reload jitterway`"
    )
