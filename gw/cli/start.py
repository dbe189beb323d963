"""`gw start`: agent and gunicorn in the foreground, from opening the sockets to taking the last segment away."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from gw.cli import greeting
from gw.cli.foreground import Foreground
from gw.cli.leftovers import LEFTOVERS_END_S, describe, remove_leftovers, still_living
from gw.cli.run_lock import lock_path, run_lock
from gw.cli.saying import print_while_read, say
from gw.cli.trial import secret_variables
from gw.clock import SystemClock
from gw.errors import ConfigError, JitterwayError
from gw.schema.installed import choose_plugins, installed_plugins
from gw.settings import Settings, load_agent_settings


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 stopped as told, 1 could not start or gunicorn died, 78 the configuration is refused."""
    # A parent may have left it ignored, and then no child could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    agent = load_agent_settings(arguments.config)
    settings = agent.settings
    choose_plugins(settings.plugins, installed_plugins())  # two packages that claim one name stop the start
    text = greeting.of_settings(agent)
    for warning in agent.warnings:
        say(f"warning: {warning}")
    withheld = secret_variables(agent, os.environ)
    del agent  # the keys and credentials in it are the sync agent's
    _make_run_dir(settings)
    lock = lock_path(settings)
    with run_lock(lock):
        _refuse_living(settings)
        foreground = Foreground(
            settings, has_agent=True, withheld=withheld, announce=lambda: print_while_read(text, sys.stdout), say=say
        )
        exit_code = foreground.run(lock)
        _clean_up(settings)
    return exit_code


def _make_run_dir(settings: Settings) -> None:
    try:
        settings.gw.run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("gw.run_dir", f"cannot make {settings.gw.run_dir}: {error.strerror}") from None


def _refuse_living(settings: Settings) -> None:
    """Two gateways on one shared memory would take each other's for their own."""
    if living := still_living(settings, SystemClock(), LEFTOVERS_END_S):
        raise JitterwayError(
            f"a gateway with gw.shm.name {settings.gw.shm.name!r} runs on this host already ({describe(living)}), "
            "started by somebody else; stop it, or give this one another name"
        )


def _clean_up(settings: Settings) -> None:
    """Our children are gone. What still lives is not ours, and so is the shared memory then."""
    if living := still_living(settings, SystemClock(), wait_s=0):
        say(f"shared memory is left: in use by {describe(living)}")
        return
    remove_leftovers(settings)
