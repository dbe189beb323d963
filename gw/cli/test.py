"""`gw test`: check a configuration without starting anything, and the document of resources where that is a file."""

from __future__ import annotations

import argparse
import subprocess
import sys

from gw.cli import exit_codes
from gw.cli.leftovers import segment_space
from gw.cli.spawn import module_command
from gw.schema import load_plugin_schemas
from gw.settings import load_agent_settings
from gw.settings.roles import DOCUMENT_FORMS


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 the configuration would be accepted, 1 it is refused (the reasons are on standard error)."""
    agent = load_agent_settings(arguments.config)
    segment_space(agent.settings)  # knows the users and the group, or raises
    plugins = load_plugin_schemas(agent.settings.plugins)  # or raises, for a name that two packages claim
    for warning in (*agent.warnings, *(f"plugin {name} {problem}" for name, problem in plugins.problems.items())):
        print(f"warning: {warning}")
    print(f"{agent.settings.source}: ok (store {agent.store_url}, {agent.settings.gw.workers} workers)")
    if agent.store_url.partition(":///")[0] in DOCUMENT_FORMS:
        return _check_document(str(agent.settings.source))
    return exit_codes.OK


def _check_document(config: str) -> int:
    """By the agent's own code, which nothing here imports."""
    sys.stdout.flush()  # before what it prints
    done = subprocess.run(module_command("sync_agent.check_document", "-c", config), check=False)  # noqa: S603 - ours
    return exit_codes.OK if done.returncode == 0 else exit_codes.FAILED
