"""Which plugins this worker can run: the enabled ones of those that are installed, imported and looked at once.

A plugin is an entry point of the group `gw.plugins` (see gw.schema.installed, which finds them without importing any).
Its class is checked here and never at a request: name, priority, version, the phases it takes part in. One that fails
is reported with its module, and what uses it answers 500; the others run. Importing runs other people's code, so this
is for workers after the fork, and for `gw plugins`.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import isfunction, signature
from typing import Any, Final

from gw.errors import JitterwayError
from gw.pipeline.phases import PHASES
from gw.plugins.api import Environment, Plugin
from gw.plugins.resolving import UnfitReference, resolved_conf
from gw.schema.installed import InstalledPlugin, choose_plugins, installed_plugins
from gw.schema.plugin_schemas import NO_PLUGINS, PluginSchemas, load_plugin_schemas

log = logging.getLogger(__name__)

# Besides self: the context, and for the body its piece and whether it is the last one.
_ARGUMENTS: Final[Mapping[str, int]] = {**dict.fromkeys(PHASES, 1), "body_filter": 3}


class PluginError(JitterwayError):
    """A plugin cannot be run. Its text says why, and names its module where there is one."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One plugin and its class. `phases` are those it takes part in, in the order in which they run."""

    installed: InstalledPlugin
    cls: type[Plugin]
    phases: tuple[str, ...]


class Registry:
    """The plugins of a worker. `problems` names the enabled ones that cannot be run, and why.

    `schemas` are those of what is enabled.
    """

    def __init__(
        self, plugins: Iterable[Registered], problems: Mapping[str, str], schemas: PluginSchemas = NO_PLUGINS
    ) -> None:
        self._by_name = {plugin.installed.name: plugin for plugin in plugins}
        self.problems = dict(problems)
        self.schemas = schemas

    @property
    def plugins(self) -> tuple[Registered, ...]:
        """All of them in the order in which they run: the higher priority first, of equal ones by name."""
        return tuple(sorted(self._by_name.values(), key=lambda each: (-each.cls.priority, each.installed.name)))

    @property
    def credential_fields(self) -> dict[str, str]:
        """By auth plugin, the field by which it finds a credential."""
        fields = {name: plugin.cls.credential_field for name, plugin in self._by_name.items()}
        return {name: field for name, field in fields.items() if field is not None}

    def find(self, name: str) -> Registered | None:
        """A plugin that can be run, None when there is none of this name."""
        return self._by_name.get(name)

    def maker(self, env: Environment) -> Callable[[str, Mapping[str, Any], str], Plugin]:
        """What makes instances: (name, configuration without `_meta`, owner such as `routes/1`) -> the instance.

        It raises PluginError for a plugin that is not enabled or cannot be run, UnresolvedReference and UnfitReference
        for references, and whatever its `prepare` raises of a configuration without any.
        """

        def make(name: str, conf: Mapping[str, Any], owner: str) -> Plugin:
            registered = self._by_name.get(name)
            if registered is None:
                raise PluginError(f"it {self.problems.get(name) or 'is not enabled (`plugins` in config.yaml)'}")
            schema = self.schemas.schema_for(owner.partition("/")[0], name)
            resolved = resolved_conf(conf, schema, os.environ)
            try:
                return registered.cls(resolved, env, owner)
            except Exception as error:
                if resolved is conf:
                    raise
                # What a plugin says of a value may quote it, and goes into logs.
                reason = f"it cannot be prepared with what its references name ({type(error).__name__})"
                raise UnfitReference(f"{reason}; the reason is not shown, for it may hold a value") from None

        return make


def load_registry(enabled: Sequence[str], installed: Iterable[InstalledPlugin] | None = None) -> Registry:
    """Import the enabled plugins. Those that cannot be run are logged and named in `problems`.

    `installed` is for whoever has looked already. Raises ConfigError for a name that two distributions claim.
    """
    found = installed_plugins() if installed is None else tuple(installed)
    # What the agent cannot check must not run: nobody has looked at its configuration.
    schemas = load_plugin_schemas(enabled, found)
    problems = dict(schemas.problems)
    plugins: list[Registered] = []
    for name, plugin in choose_plugins(enabled, found).items():
        if name in problems:
            continue
        try:
            plugins.append(register(plugin))
        except PluginError as error:
            problems[name] = str(error)
    for name, problem in problems.items():
        log.warning("plugin %s %s: what uses it answers 500", name, problem)
    return Registry(plugins, problems, schemas)


def register(plugin: InstalledPlugin) -> Registered:
    """Import a plugin and look at its class. Raises PluginError, which names the module."""
    cls = _import(plugin)
    fault = _fault(plugin, cls)
    if fault is not None:
        raise PluginError(f"({plugin}) {fault}")
    return Registered(plugin, cls, tuple(phase for phase in PHASES if getattr(cls, phase, None) is not None))


def _import(plugin: InstalledPlugin) -> Any:
    try:
        module = importlib.import_module(plugin.module)
    except (Exception, SystemExit) as error:  # a module that ends the process must not end the worker
        log.debug("plugin %s cannot be imported", plugin.name, exc_info=True)
        raise PluginError(f"({plugin}) cannot be imported: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, plugin.attribute)
    except AttributeError:
        raise PluginError(f"({plugin}) is not there: the module has no {plugin.attribute!r}") from None


def _fault(plugin: InstalledPlugin, cls: Any) -> str | None:
    if not (isinstance(cls, type) and issubclass(cls, Plugin)):
        return "is not a subclass of gw.plugins.api.Plugin"
    name, priority, version = (getattr(cls, field, None) for field in ("name", "priority", "version"))
    if name != plugin.name:
        return f"has the name {name!r}, and its entry point says {plugin.name!r}"
    if type(priority) is not int:
        return f"has the priority {priority!r}; it must be a whole number"
    if not isinstance(version, str) or not version:
        return f"has the version {version!r}; it must be a text"
    faults = [fault for phase in PHASES if (fault := _phase_fault(cls, phase)) is not None]
    return faults[0] if faults else None


def _phase_fault(cls: type[Plugin], phase: str) -> str | None:
    """What is wrong with a phase's method, None when nothing is or there is none."""
    method = getattr(cls, phase, None)
    if method is None:
        return None
    if not isfunction(method):
        return f"has {phase} as {type(method).__name__}; a phase is a plain or async method"
    try:
        signature(method).bind(*range(1 + _ARGUMENTS[phase]))
    except TypeError:
        wanted = "(self, ctx, piece, is_last)" if phase == "body_filter" else "(self, ctx)"
        return f"has {phase}{signature(method)}; it is called as {phase}{wanted}"
    return None
