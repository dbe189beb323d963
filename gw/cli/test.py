"""`gw test`: check a configuration without starting anything."""

from __future__ import annotations

import argparse

from gw.cli import exit_codes
from gw.cli.leftovers import segment_space
from gw.schema import load_plugin_schemas
from gw.settings import load_agent_settings


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 the configuration would be accepted, 1 it is refused (the reasons are on standard error)."""
    agent = load_agent_settings(arguments.config)
    segment_space(agent.settings)  # knows the users and the group, or raises
    plugins = load_plugin_schemas(agent.settings.plugins)  # or raises, for a name that two packages claim
    for warning in (*agent.warnings, *(f"plugin {name} {problem}" for name, problem in plugins.problems.items())):
        print(f"warning: {warning}")
    print(f"{agent.settings.source}: ok (store {agent.store_url}, {agent.settings.gw.workers} workers)")
    return exit_codes.OK
