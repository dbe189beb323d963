"""`gw plugins`: what is installed, what of it is enabled, and in which order it runs. Imports the plugins."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gw.cli import exit_codes
from gw.errors import ConfigError
from gw.plugins.registry import PluginError, register
from gw.schema import load_plugin_schemas
from gw.schema.installed import InstalledPlugin, choose_plugins, installed_plugins
from gw.settings import load_settings

_HEADINGS: Final = ("NAME", "PRIORITY", "VERSION", "ENABLED", "PHASES", "MODULE", "SCHEMA")


def run(arguments: argparse.Namespace) -> int:
    """Exit codes: 0 each enabled plugin can be run, 1 one cannot."""
    plugins = list(describe(load_settings(arguments.config).plugins, installed_plugins()))
    print(json.dumps(plugins, indent=2) if arguments.json else table(plugins))
    has_problem = any(plugin["enabled"] and plugin["problem"] for plugin in plugins)
    return exit_codes.FAILED if has_problem else exit_codes.OK


def describe(enabled: Sequence[str], installed: Sequence[InstalledPlugin]) -> Iterator[dict[str, Any]]:
    """Each plugin that is installed or enabled, in the order in which they run, those that cannot be run last.

    What is known only of a class that can be imported is None where it cannot; `problem` says why not.
    """
    described = [_describe(plugin, plugin.name in enabled) for plugin in installed]
    described += [
        _absent(name) for name in dict.fromkeys(enabled) if name not in {plugin.name for plugin in installed}
    ]
    try:
        choose_plugins(enabled, installed)
    except ConfigError as error:
        for plugin in described:
            twice = sum(other["name"] == plugin["name"] for other in described) > 1
            plugin["problem"] = plugin["problem"] or (error.reason if twice else None)
    return iter(sorted(described, key=_order))


def table(plugins: Sequence[Mapping[str, Any]]) -> str:
    """The same for people."""
    rows = [_HEADINGS, *(_row(plugin) for plugin in plugins)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{plugin['name']} {plugin['problem']}" for plugin in plugins if plugin["problem"]]
    return "\n".join(lines)


def _describe(plugin: InstalledPlugin, is_enabled: bool) -> dict[str, Any]:
    described = _absent(plugin.name) | {
        "enabled": is_enabled,
        "module": f"{plugin.module}:{plugin.attribute}",
        "distribution": plugin.distribution,
        "schema": None if plugin.schema_path is None else str(plugin.schema_path),
        "problem": load_plugin_schemas([plugin.name], [plugin]).problems.get(plugin.name),
    }
    try:
        registered = register(plugin)
    except PluginError as error:
        return described | {"problem": described["problem"] or str(error)}
    cls = registered.cls
    return described | {"priority": cls.priority, "version": cls.version, "phases": list(registered.phases)}


def _absent(name: str) -> dict[str, Any]:
    unknown = dict.fromkeys(("priority", "version", "phases", "module", "distribution", "schema"))
    return {"name": name, **unknown, "enabled": True, "problem": "is not installed"}


def _order(plugin: Mapping[str, Any]) -> tuple[bool, int, str]:
    return plugin["priority"] is None, -(plugin["priority"] or 0), plugin["name"]


def _row(plugin: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        plugin["name"],
        _shown(plugin["priority"]),
        _shown(plugin["version"]),
        "yes" if plugin["enabled"] else "no",
        _shown(plugin["phases"] and ",".join(plugin["phases"])),
        _shown(plugin["module"]),
        _shown(plugin["schema"]),
    )


def _shown(value: object) -> str:
    return "-" if value is None or value == [] else str(value)
