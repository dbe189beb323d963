"""What `plugins/reload` of the Admin API and of the control API does: tells whether there is anything to reload.

APISIX reads the list of plugins anew and runs every plugin's `init` again, in place. Here agent and workers have to
agree on the list (what the agent has no schema for, nobody checked), and Python code is not replaced under requests
that run it: `gw reload --agent` starts new processes beside the old ones, and loses no request. So this looks at the
configuration file, says "done" when it enables what already runs, and otherwise what has to be done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from gw.errors import ConfigError
from gw.settings import Settings, load_settings

DONE: Final = "done"
_REMEDY: Final = "`gw reload --agent` brings that into effect without losing a request"


class PluginReload:
    """Asked once per request. `load` reads the configuration file as it is now; `running` is what this process read."""

    def __init__(self, running: Settings, load: Callable[[], Settings] | None = None) -> None:
        self._running = running
        self._load = load or (lambda: load_settings(running.source))

    async def obstacle(self) -> str | None:
        """Why the plugins that are configured now are not those that run; None when they are."""
        try:
            # Some milliseconds of YAML, which the requests beside it need not wait for.
            now = await asyncio.to_thread(self._load)
        except (ConfigError, OSError) as error:
            place = error.path if isinstance(error, ConfigError) else ""
            at = f" at {place}" if place else ""
            return f"{self._running.source.name} cannot be used{at}: `gw test` says why; nothing was changed"
        differences = "; ".join(_differences(self._running, now))
        return f"{self._running.source.name} {differences}: {_REMEDY}" if differences else None


def _differences(running: Settings, now: Settings) -> Iterator[str]:
    """What is configured otherwise. Names alone: a section of `plugin_attr` may hold a password."""
    before, after = set(running.plugins), set(now.plugins)
    if after - before:
        yield f"enables {_listed(after - before)}"
    if before - after:
        yield f"no longer enables {_listed(before - after)}"
    changed = {name for name in before & after if running.attr_of(name) != now.attr_of(name)}
    if changed or running.plugin_attr != now.plugin_attr:
        yield f"has another plugin_attr{'.' if changed else ''}{_listed(changed)}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
