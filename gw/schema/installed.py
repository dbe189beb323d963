"""Which plugins are installed, and where their schemas lie: found out without importing any.

A plugin is an entry point of the group `gw.plugins`: its name, and the class (`package.module:Class`). The agent, which
knows credentials, must read its schema and not run its code. So the schema is a file at a place that follows from the
entry point:

- ours (modules below `gw.plugins`): gw/schema/plugins/<name>.json
- a third party's: schemas/<name>.json in the directory in which the module's file lies

`<name>.metadata.json` beside it is the schema of the plugin's plugin_metadata, `<name>.consumer.json` that of what
consumers and credentials have under its name, where routes have something else. The directory is found through the
import system's finders, asked for the topmost package alone: that runs nothing of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from gw.errors import ConfigError

GROUP: Final = "gw.plugins"
# A name is part of file names and of store keys. No dot: `x.metadata` would take the place of the metadata of x.
PLUGIN_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_OURS: Final = "gw.plugins."


@dataclass(frozen=True, slots=True)
class InstalledPlugin:
    """A plugin that some distribution brings. `module` and `attribute` say where its class is.

    `schema_path` is where its schema lies or would have to lie; None where no place follows from the entry point.
    """

    name: str
    module: str
    attribute: str
    distribution: str
    schema_path: Path | None

    @property
    def is_ours(self) -> bool:
        """Whether it comes with the gateway."""
        return self.module.startswith(_OURS)

    @property
    def metadata_schema_path(self) -> Path | None:
        """Where the schema of its plugin_metadata lies, if it has one."""
        return None if self.schema_path is None else self.schema_path.with_name(f"{self.name}.metadata.json")

    @property
    def consumer_schema_path(self) -> Path | None:
        """Where the schema of its configurations in consumers and credentials lies, if they have one of their own."""
        return None if self.schema_path is None else self.schema_path.with_name(f"{self.name}.consumer.json")

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute} of {self.distribution}"


def installed_plugins() -> tuple[InstalledPlugin, ...]:
    """All plugins that are installed here, by name; a name may come twice."""
    found = [_installed(entry) for entry in metadata.entry_points(group=GROUP)]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.module)))


def choose_plugins(enabled: Sequence[str], installed: Iterable[InstalledPlugin]) -> dict[str, InstalledPlugin]:
    """The installed ones of those that are enabled, in the order of `enabled`.

    Raises ConfigError for an enabled name that two distributions claim: which of them keeps whom out must not depend on
    the order in which they were installed.
    """
    installed = tuple(installed)
    for name, count in Counter(plugin.name for plugin in installed).items():
        if count > 1 and name in enabled:
            claims = " and ".join(str(plugin) for plugin in installed if plugin.name == name)
            raise ConfigError("plugins", f"two plugins are called {name}: {claims}; uninstall one of them")
    by_name = {plugin.name: plugin for plugin in installed}
    return {name: by_name[name] for name in dict.fromkeys(enabled) if name in by_name}


def _installed(entry: metadata.EntryPoint) -> InstalledPlugin:
    distribution = entry.dist.name if entry.dist is not None else "an unknown distribution"
    directory = _schema_directory(entry.module) if re.fullmatch(PLUGIN_NAME, entry.name) else None
    path = None if directory is None else directory / f"{entry.name}.json"
    return InstalledPlugin(entry.name, entry.module, entry.attr, distribution, path)


def _schema_directory(module: str) -> Path | None:
    """None for a module that lies in no package: `schemas` beside it would be everybody's."""
    if module.startswith(_OURS):
        return Path(str(resources.files("gw.schema"))) / "plugins"
    top, *below = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    for place in places:
        directory = _directory_of(Path(place), below)
        if directory is not None:
            return directory / "schemas"
    return None


def _directory_of(package: Path, below: Sequence[str]) -> Path | None:
    """The directory of the file of a module that lies `below` a package, None when it is not there."""
    path = package.joinpath(*below)
    if (path / "__init__.py").is_file():
        return path
    return path.parent if below and path.with_suffix(".py").is_file() else None
