"""`python -m sync_agent -c CONFIG`: the agent's process.

Exits with 0 when it was told to stop, 78 (EX_CONFIG) when the configuration or another agent forbids to run, 1 for what
may be better the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import grp
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from gw import __version__
from gw.clock import SystemClock
from gw.collector import calm_collector
from gw.errors import ConfigError, JitterwayError
from gw.settings import AgentSettings, load_agent_settings
from gw.settings.agent_tree import AdminKey
from gw.shm.turn_file import make_turn_file
from sync_agent.admin_key import ensure_admin_key
from sync_agent.agent import Agent
from sync_agent.lock import held_lock

log = logging.getLogger("sync_agent")

# EX_CONFIG of sysexits.h: tells `gw start` and systemd that trying again is of no use.
EXIT_CONFIG: Final = 78


def main(arguments: list[str] | None = None) -> int:
    """Run the agent; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sync_agent", description="Jitterway's sync agent, one per host")
    parser.add_argument("-c", "--config", default="conf/config.yaml", help="configuration file (default: %(default)s)")
    parser.add_argument("--version", action="version", version=f"jitterway {__version__}")
    config = Path(parser.parse_args(arguments).config)
    try:
        settings = load_agent_settings(config)
        _configure_logging(settings.settings.gw.log_level)
        _make_directories(settings)
        calm_collector()
        with held_lock(_lock_path(settings)):
            asyncio.run(_serve(settings))
    except ConfigError as error:
        print(f"sync agent: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except JitterwayError as error:
        print(f"sync agent: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(settings: AgentSettings) -> None:
    for warning in settings.warnings:
        log.warning("%s", warning)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    agent = Agent(settings, _admin_keys(settings), SystemClock())
    log.info("sync agent %s, pid %d, store %s", __version__, os.getpid(), settings.store_url)
    await agent.run(stopping)


def _admin_keys(settings: AgentSettings) -> tuple[AdminKey, ...]:
    if not settings.generate_admin_key:
        return settings.admin_keys
    return (*settings.admin_keys, AdminKey("generated", ensure_admin_key(settings.key_file), "admin"))


def _make_directories(settings: AgentSettings) -> None:
    """Make run_dir and the locks of full rebuilds in it, open to the workers' group, and data_dir, open to nobody."""
    run_dir, group = settings.settings.gw.run_dir, settings.settings.gw.shm.group
    try:
        gid = None if group is None else grp.getgrnam(group).gr_gid
        run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        if gid is not None and run_dir.stat().st_uid == os.geteuid():
            os.chown(run_dir, -1, gid)
            run_dir.chmod(0o750)
        for path in settings.settings.turn_paths:
            make_turn_file(path, gid)
        settings.settings.gw.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except KeyError:
        raise ConfigError("gw.shm.group", f"this host has no group {group!r}") from None
    except OSError as error:
        raise ConfigError("gw.run_dir", f"cannot make the directories: {error}") from None


def _lock_path(settings: AgentSettings) -> Path:
    common = settings.settings
    return common.gw.run_dir / f"{common.gw.shm.name}.agent.lock"


def _configure_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format="%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s",
    )


if __name__ == "__main__":
    sys.exit(main())
