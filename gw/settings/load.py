"""From files to frozen settings: defaults, the user's file, the environment; every problem of a file at once.

The defaults are those of the declarations. conf/config-default.yaml is their printed form (a test holds the two
equal), so nothing has to be found at run time, and an edited copy of that file changes nothing.

A worker calls `load_settings`, and no secret stays in its memory. The agent calls `load_agent_settings`, which also
reads agent.yaml beside the configuration file.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from gw.errors import ConfigError
from gw.settings import kinds, rules
from gw.settings.admin import without_version
from gw.settings.agent_tree import AgentSettings, AgentTree
from gw.settings.declare import Context, Refused, Section, Setting, members
from gw.settings.encryption import encryption_problems, encryption_warnings
from gw.settings.environment import substitute
from gw.settings.roles import DATA_PLANE
from gw.settings.tree import PluginAttr, Settings
from gw.settings.unknown import Names, Problem, inspect_keys, names_of
from gw.settings.yaml_file import read_private_file, read_settings_file

T = TypeVar("T")

AGENT_FILE = "agent.yaml"
# Those that the gateway itself reads.
_DECLARED_SECTIONS: Final = frozenset(declared.key for _, declared in members(PluginAttr))


class ConfigErrors(ConfigError):
    """All that is wrong with a configuration. `path`, `reason` and `source` are those of the first of `problems`."""

    def __init__(self, problems: tuple[ConfigError, ...]) -> None:
        first = problems[0]
        super().__init__(first.path, first.reason, source=first.source)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def load_settings(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of a configuration file, without the agent's part.

    Raises ConfigError (with more than one problem ConfigErrors): path, reason, and the nearest name of an unknown key.
    """
    file = _File(path, environ)
    settings = file.settings()
    file.refuse_problems()
    return dataclasses.replace(settings, warnings=tuple(file.warnings))


def load_agent_settings(path: str | Path, *, environ: Mapping[str, str] | None = None) -> AgentSettings:
    """The settings of a configuration file and of agent.yaml beside it: credentials and admin keys too.

    Raises ConfigError as `load_settings`, also when others than the owner could read agent.yaml.
    """
    file = _File(path, environ)
    settings = file.settings()
    agent = file.agent(settings)
    file.refuse_problems()
    return dataclasses.replace(agent, warnings=tuple(file.warnings))


class _File:
    """One configuration file while it is being read: what it says, and what was wrong with it so far."""

    def __init__(self, path: str | Path, environ: Mapping[str, str] | None) -> None:
        # The directory as it really is, but the file by the name it was given (a symbolic link may change its target).
        self.source = Path(path).parent.resolve() / Path(path).name
        self._environ = os.environ if environ is None else environ
        self.raw = read_settings_file(self.source)
        self._overlay: dict[str, Any] = {}
        self._problems: list[ConfigError] = []
        self.warnings: list[str] = []
        self._inspect(self.raw, names_of(Settings, AgentTree), self.source)

    def settings(self) -> Settings:
        """The part of all processes. Not to be used before `refuse_problems`."""
        settings = self._parse(Settings, self.raw, "")
        if self._problems:
            return settings
        settings = dataclasses.replace(
            _derive(settings, self.source), plugin_sections=tuple(self._plugin_sections(settings.plugins))
        )
        self._add(rules.settings_problems(settings))
        self.warnings += rules.settings_warnings(settings)
        return settings

    def agent(self, settings: Settings) -> AgentSettings:
        """The agent's part. Not to be used before `refuse_problems`."""
        raw = self._with_overlay()
        tree = self._parse(AgentTree, raw, "")
        self.refuse_problems()
        self._add(rules.agent_problems(tree, settings))
        store_url = rules.chosen_store(tree, raw, settings)
        encryption, is_embedded = tree.apisix.data_encryption, rules.is_embedded(store_url)
        is_shared = not is_embedded and not rules.is_document(store_url)
        self._add(encryption_problems(encryption, is_shared=is_shared))
        self.warnings += encryption_warnings(encryption)
        self.warnings += rules.agent_warnings(tree, raw, settings, store_url)
        self._warn_of_readable_secrets()
        etcd, keys = tree.deployment.etcd, tree.deployment.admin.admin_key
        trusted = settings.apisix.ssl.ssl_trusted_certificate
        return AgentSettings(
            settings=settings,
            store_url=store_url,
            etcd=dataclasses.replace(etcd, tls=dataclasses.replace(etcd.tls, ca=trusted)),
            admin_keys=keys,
            key_file=settings.gw.data_dir / "admin.key",
            generate_admin_key=not keys
            and store_url != "etcd"
            and settings.apisix.enable_admin
            and settings.deployment.admin.admin_key_required,
            data_encryption=encryption,
            ssl=tree.apisix.ssl,
            keyring_file=settings.gw.data_dir / "keyring" if is_embedded else None,
            warnings=(),
        )

    def _plugin_sections(self, plugins: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What `plugin_attr` has for enabled plugins beyond what is declared here: it means something after all."""
        for name in dict.fromkeys(plugins):
            path, written = f"plugin_attr.{name}", (self.raw.get("plugin_attr") or {}).get(name)
            if written is None or name in _DECLARED_SECTIONS:
                continue
            self.warnings = [warning for warning in self.warnings if not warning.startswith(f"{path} ")]
            try:
                section = kinds.plain(substitute(written, self._environ))
            except Refused as refused:
                self._add([Problem(f"{path}{refused.at}", refused.reason)])
                continue
            if isinstance(section, dict):
                yield name, section
            else:
                self._add([Problem(path, f"must be a mapping of settings, not {type(written).__name__}")])

    def refuse_problems(self) -> None:
        """Raise what was found wrong so far."""
        if len(self._problems) == 1:
            raise self._problems[0]
        if self._problems:
            raise ConfigErrors(tuple(self._problems))

    def _with_overlay(self) -> dict[str, Any]:
        path = self.source.parent / AGENT_FILE
        overlay = None if path == self.source else read_private_file(path)
        if overlay is None:
            return self.raw
        self._inspect(overlay, names_of(AgentTree), path, elsewhere=names_of(Settings))
        self._overlay = overlay
        return _merged(self.raw, overlay)

    def _warn_of_readable_secrets(self) -> None:
        if rules.holds_secrets(self.raw) and self.source.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            self.warnings.append(
                f"{self.source.name} holds secrets and is readable by others than its owner: "
                f"lay them into {AGENT_FILE} beside it, mode 0600, or chmod 600 it"
            )

    def _inspect(self, raw: dict[str, Any], names: Names, source: Path, *, elsewhere: Names | None = None) -> None:
        findings = inspect_keys(raw, names, elsewhere=elsewhere)
        self._problems += [ConfigError(found.path, found.reason, source=str(source)) for found in findings.problems]
        self.warnings += findings.warnings

    def _add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            source = self.source.parent / AGENT_FILE if _has(self._overlay, problem.path) else self.source
            error = ConfigError(problem.path, problem.reason, source=str(source))
            # Both parts meet the same mistake in a section they share.
            if str(error) not in map(str, self._problems):
                self._problems.append(error)

    def _parse(self, cls: type[T], raw: object, path: str) -> T:
        """A section from what the file has for it. A value that is wrong becomes a problem, and None in the result."""
        if raw is not None and not isinstance(raw, dict):
            self._add([Problem(path, f"must be a mapping of settings, not {type(raw).__name__}")])
            raw = None
        given = raw or {}
        values: dict[str, Any] = {}
        for name, declared in members(cls):
            below = f"{path}.{declared.key}" if path else declared.key
            if isinstance(declared, Section):
                values[name] = self._parse(declared.cls, given.get(declared.key), below)
            else:
                values[name] = self._parse_value(declared, given.get(declared.key), below)
        return cls(**values)

    def _parse_value(self, declared: Setting, written: object, path: str) -> object:
        """The value, or the default where nothing (or null) is written."""
        context = Context(self.source.parent, self._environ, lambda text: self.warnings.append(f"{path}: {text}"))
        try:
            if written is None:
                return declared.kind.parse(declared.default, context)
            return declared.kind.parse(substitute(written, self._environ), context)
        except Refused as refused:
            self._add([Problem(f"{path}{refused.at}", refused.reason)])
        except RecursionError:
            self._add([Problem(path, "contains itself")])
        return None


def _derive(settings: Settings, source: Path) -> Settings:
    """Fill in what follows from other settings."""
    apisix, gw, nginx = settings.apisix, settings.gw, settings.nginx_config
    cpus = len(os.sched_getaffinity(0))
    return dataclasses.replace(
        settings,
        source=source,
        apisix=dataclasses.replace(
            apisix,
            # As in APISIX (read_yaml_conf of apisix/cli/file.lua).
            enable_admin=apisix.enable_admin and settings.deployment.role != DATA_PLANE,
            control=dataclasses.replace(apisix.control, enabled=apisix.enable_control),
        ),
        gw=dataclasses.replace(
            gw,
            admin=gw.admin if apisix.enable_server_tokens else without_version(gw.admin),
            workers=gw.workers or nginx.worker_processes or cpus,
            graceful_timeout_s=nginx.worker_shutdown_timeout_s,
        ),
    )


def _merged(base: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """The base with the overlay's values; mappings are merged, everything else is replaced."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _has(raw: dict[str, Any], path: str) -> bool:
    value: Any = raw
    for key in path.partition("[")[0].split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True
