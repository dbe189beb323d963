"""`gw start`: agent and gunicorn in the foreground, from opening the sockets to taking the last segment away."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from collections.abc import Collection
from typing import Final

from gw.cli import greeting
from gw.cli.leftovers import LEFTOVERS_END_S, describe, remove_leftovers, segment_space, still_living
from gw.cli.run_lock import lock_path, run_lock
from gw.cli.sockets import listening
from gw.cli.spawn import adopt_orphans, module_command, spawn
from gw.cli.supervision import Child, Supervision
from gw.cli.supervisor import Duties, Supervisor
from gw.clock import SystemClock
from gw.errors import ConfigError, JitterwayError, SegmentError
from gw.server.listeners import listeners
from gw.settings import AgentSettings, Settings, load_agent_settings
from gw.shm.cells import WorkerTable
from gw.shm.layout import CellState

# A shorter value may be part of a secret by chance.
_TELLING_LENGTH: Final = 8


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 stopped as told, 1 could not start or gunicorn died, 78 the configuration is refused."""
    # A parent may have left it ignored, and then no child could be waited for.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    agent = load_agent_settings(arguments.config)
    settings = agent.settings
    text = greeting.of_settings(agent)
    for warning in agent.warnings:
        _say(f"warning: {warning}")
    withheld = _secret_variables(agent)
    del agent  # the keys and credentials in it are the sync agent's
    _make_run_dir(settings)
    with run_lock(lock_path(settings)):
        _refuse_living(settings)
        adopt_orphans()
        with listening(listeners(settings)) as sockets:
            exit_code = _supervise(settings, sockets, text, withheld)
        _clean_up(settings)
    return exit_code


def _supervise(settings: Settings, sockets: list[socket.socket], text: str, withheld: Collection[str]) -> int:
    duties = Duties(
        launch=lambda child: _launch(child, settings, [sock.fileno() for sock in sockets], withheld),
        is_ready=lambda: _all_serve(settings),
        announce=lambda: print(text, flush=True),
        stop_listening=lambda: _close(sockets),
        say=_say,
    )
    supervision = Supervision(settings.gw.graceful_timeout_s)
    return Supervisor(supervision, duties, SystemClock()).run()


def _secret_variables(agent: AgentSettings) -> frozenset[str]:
    """The environment variables that the agent's secrets are made of: no worker's environment holds them."""
    secrets = [key.key for key in agent.admin_keys] + [agent.etcd.password or ""]
    return frozenset(
        name
        for name, value in os.environ.items()
        if value and any(value == secret or (len(value) >= _TELLING_LENGTH and value in secret) for secret in secrets)
    )


def _launch(child: Child, settings: Settings, listen_fds: list[int], withheld: Collection[str]) -> int:
    environ = {**os.environ, "JITTERWAY_CONFIG": str(settings.source)}
    if child is Child.AGENT:
        return spawn(module_command("sync_agent", "-c", str(settings.source)), environ=environ)
    environ = {name: value for name, value in environ.items() if name not in withheld}
    command = module_command("gunicorn", "-c", "python:gw.server.gunicorn_conf", "gw.app:app")
    return spawn(command, environ=environ, listen_fds=listen_fds)


def _all_serve(settings: Settings) -> bool:
    """Whether as many workers as configured hold a configuration."""
    space, names = segment_space(settings)
    try:
        table = WorkerTable.open(space, names, writable=False)
    except SegmentError:
        return False  # not yet there; a stranger's is gunicorn's to complain about
    try:
        serving = sum(1 for _, cell in table.live() if cell.state is CellState.SERVING)
    finally:
        table.close()
    return serving >= settings.gw.workers


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
        _say(f"shared memory is left: in use by {describe(living)}")
        return
    remove_leftovers(settings)


def _close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _say(text: str) -> None:
    print(f"gw: {text}", file=sys.stderr, flush=True)
