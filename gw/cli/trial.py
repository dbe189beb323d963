"""What a new gunicorn would be, found out in a process of its own before one is started: `python -m gw.cli.trial`.

The process that reloads may be of an older version than the code on disk, so it neither reads the configuration nor
imports anything itself: new code may know settings that the old does not. What fails here fails with its own words, and
the gunicorn that serves has not been touched.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Final

from gw.cli.spawn import module_command
from gw.errors import ConfigError, JitterwayError
from gw.server.listeners import listeners
from gw.settings import AgentSettings, Settings, load_agent_settings, load_settings
from gw.shm.layout import FORMAT

# Imports and a configuration file; on a busy machine that takes seconds, not minutes.
TRIAL_TIMEOUT_S: Final = 30.0
# The end of what a process wrote before it failed: the message, after a traceback.
_TOLD_BYTES: Final = 2000
# A shorter value may be part of a secret by chance.
_TELLING_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """What a supervisor needs to know of a configuration. Times in seconds; no secrets.

    `listeners` as people read them; `withheld` are the environment variables that no worker gets to see.
    """

    graceful_timeout_s: float
    reload_timeout_s: float
    name: str
    run_dir: str
    listeners: list[str]
    withheld: list[str]
    shm_format: int = FORMAT

    @classmethod
    def of(cls, settings: Settings, withheld: Collection[str] = ()) -> Plan:
        return cls(
            graceful_timeout_s=settings.gw.graceful_timeout_s,
            reload_timeout_s=settings.gw.reload_timeout_s,
            name=settings.gw.shm.name,
            run_dir=str(settings.gw.run_dir),
            listeners=[str(listener) for listener in listeners(settings)],
            withheld=sorted(withheld),
        )


def try_out(source: str, running: Plan, *, has_agent: bool) -> Plan:
    """The plan of the configuration and code as they are on disk now, for a reload of `running`.

    Blocks for as long as that takes. Raises JitterwayError saying what is wrong, or what a reload cannot change.
    """
    command = module_command("gw.cli.trial", "-c", source, *(["--agent"] if has_agent else []))
    try:
        done = subprocess.run(  # noqa: S603 - our own module and the path of our own configuration
            command,
            env={**os.environ, "JITTERWAY_CONFIG": source},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TRIAL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JitterwayError(f"new code and configuration did not load within {TRIAL_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise JitterwayError(f"cannot start a process to try the new code in: {error}") from error
    if done.returncode == os.EX_CONFIG:
        raise JitterwayError(f"configuration refused\n{done.stderr.strip()}")
    try:
        told = json.loads(done.stdout.splitlines()[-1])
        # Newer code may tell more than we know of.
        plan = Plan(**{field.name: told[field.name] for field in fields(Plan)})
    except (ValueError, TypeError, LookupError):
        why = done.stderr.strip()[-_TOLD_BYTES:]
        raise JitterwayError(f"the new code does not load (exit code {done.returncode})\n{why}") from None
    if changed := unchangeable(running, plan):
        raise JitterwayError(f"a reload cannot change {', '.join(changed)}: stop the gateway, and start it again")
    return plan


def unchangeable(running: Plan, planned: Plan) -> list[str]:
    """What differs and belongs to the process that stays: its sockets, its lock, the names of its shared memory."""
    found = []
    if running.listeners != planned.listeners:
        found.append(f"the listeners ({', '.join(running.listeners)} -> {', '.join(planned.listeners)})")
    if running.name != planned.name:
        found.append(f"gw.shm.name ({running.name} -> {planned.name})")
    if running.run_dir != planned.run_dir:
        found.append(f"gw.run_dir ({running.run_dir} -> {planned.run_dir})")
    if running.shm_format != planned.shm_format:
        found.append(f"the format of shared memory (v{running.shm_format} -> v{planned.shm_format})")
    return found


def secret_variables(agent: AgentSettings, environ: Mapping[str, str]) -> frozenset[str]:
    """The environment variables that the agent's secrets are made of: no worker's environment holds them."""
    secrets = [key.key for key in agent.admin_keys] + [agent.etcd.password or ""]
    secrets += [*agent.data_encryption.keyring, *agent.ssl.key_encrypt_salt]
    return frozenset(
        name
        for name, value in environ.items()
        if value and any(value == secret or (len(value) >= _TELLING_LENGTH and value in secret) for secret in secrets)
    )


def main() -> int:
    """Exit codes: 0 the plan is on standard output, 78 the configuration is refused, 1 and others the code fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--agent", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.agent:
            agent = load_agent_settings(arguments.config)
            plan = Plan.of(agent.settings, secret_variables(agent, os.environ))
        else:
            plan = Plan.of(load_settings(arguments.config))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return os.EX_CONFIG
    _import_what_serves()
    print(json.dumps(asdict(plan)))
    return 0


def _import_what_serves() -> None:
    """Everything that a master and its workers import, so that what cannot be imported is found here."""
    import gw.app
    import gw.server.gunicorn_conf  # noqa: F401 - as above


if __name__ == "__main__":
    sys.exit(main())
