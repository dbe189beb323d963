"""The plugins' instances of one worker: each lives as long as the configuration that it was made from.

An instance is known by the resource in which its configuration stands, the plugin's name and the configuration's
content: a limit that counts, or a batch that waits, goes on through every change but its own. All routes of a service
share what the service configures. Made when a request first needs it; closed when the configuration is gone, whether or
not anybody asks for it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple, Protocol

from gw.errors import JitterwayError
from gw.model.digest import fingerprint
from gw.model.keys import ResourceKey
from gw.model.merge import Layer, PluginConf, merge_plugins
from gw.parted import PartedDict
from gw.pipeline.phases import Instance
from gw.rebuild.entry import Entry

log = logging.getLogger(__name__)

# Owners that one step looks at: two comparisons each, unless something changed.
STEP_OWNERS: Final = 64


class LivePlugin(Protocol):
    """What is asked of an instance here. Its phases are the pipeline's business."""

    @property
    def name(self) -> str: ...
    @property
    def priority(self) -> int: ...

    def close(self) -> None:
        """Give back what it took."""
        ...


# (plugin's name, configuration without _meta, owner such as `routes/1`) -> the instance. Whatever it raises says why
# there is none; the text of a JitterwayError is shown as it is.
MakePlugin = Callable[[str, Mapping[str, Any], str], LivePlugin]
Find = Callable[[ResourceKey], Entry | None]


class Unusable(JitterwayError):
    """A plugin that is configured cannot do what it is there for. Its text names plugin and owner, and says why."""

    def __init__(self, conf: PluginConf, reason: str) -> None:
        super().__init__(f"plugin {conf.name} of {conf.owner} cannot be used: {reason}")
        self.plugin = conf.name
        self.owner = conf.owner


class _Kept(NamedTuple):
    """`plugin` None: it could not be made, for this reason; trying again would fail again."""

    fingerprint: int
    plugin: LivePlugin | None
    problem: str


class _Owner:
    """What is alive of one resource. `hash` is that of the resource for which this was last looked through."""

    __slots__ = ("hash", "kept")

    def __init__(self, hash: int) -> None:
        self.hash = hash
        self.kept: dict[str, _Kept] = {}


class Instances:
    """All instances of a worker."""

    def __init__(self, make: MakePlugin) -> None:
        self._make = make
        self._owners: PartedDict[ResourceKey, _Owner] = PartedDict()

    def instance(self, conf: PluginConf, owner: Entry | None) -> Instance:
        """The instance for a configuration, the same one as long as that stays the same. Raises Unusable.

        `owner` is the entry of the resource in which the configuration stands; None where that has been replaced, and
        only a request that came before still asks: it gets an instance of its own.
        """
        mark = fingerprint(conf.conf)
        kept = _made(self._make, conf, mark) if owner is None else self._kept(conf, mark, owner)
        if kept.plugin is None:
            raise Unusable(conf, kept.problem)
        priority = conf.meta.get("priority")
        return Instance(
            kept.plugin, kept.plugin.priority if priority is None else priority, str(conf.owner), conf.meta
        )

    def _kept(self, conf: PluginConf, mark: int, owner: Entry) -> _Kept:
        of_owner = self._owners.setdefault(conf.owner, _Owner(owner.hash))
        before = of_owner.kept.get(conf.name)
        if before is not None and before.fingerprint == mark:
            return before
        made = of_owner.kept[conf.name] = _made(self._make, conf, mark)
        _close(before)
        return made

    def keep(self, key: ResourceKey, entry: Entry | None) -> None:
        """Close what a resource does not configure any more, now that it is this one (None: it is gone)."""
        of_owner = self._owners.get(key)
        if of_owner is None or (entry is not None and entry.hash == of_owner.hash):
            return
        configured = {} if entry is None else _configured(entry)
        for name, kept in list(of_owner.kept.items()):
            if configured.get(name) != kept.fingerprint:
                _close(of_owner.kept.pop(name))
        if entry is None or not of_owner.kept:
            self._owners.pop(key)
        else:
            of_owner.hash = entry.hash

    def release(self, key: ResourceKey) -> None:
        """Close all of a resource; who asks again gets new ones."""
        of_owner = self._owners.pop(key)
        if of_owner is not None:
            for kept in of_owner.kept.values():
                _close(kept)

    def keep_all(self, find: Find) -> Iterator[None]:
        """Steps that do so for every resource, after all of them may have changed."""
        for part in self._owners.parts:
            for number, key in enumerate(list(part)):
                self.keep(key, find(key))
                if number % STEP_OWNERS == 0:
                    yield

    def close(self) -> None:
        """Close all."""
        for part in self._owners.parts:
            for of_owner in part.values():
                for kept in of_owner.kept.values():
                    _close(kept)
            part.clear()

    def __len__(self) -> int:
        """How many are alive."""
        return sum(
            kept.plugin is not None
            for owners in self._owners.batches()
            for of_owner in owners
            for kept in of_owner.kept.values()
        )


def no_plugins(name: str, conf: Mapping[str, Any], owner: str) -> LivePlugin:
    """For a worker without any plugin. Raises for each."""
    raise LookupError("there are no plugins here")


def plugins_of(entry: Entry) -> tuple[PluginConf, ...]:
    """What a resource by itself configures, without what it switches off. Raises SegmentError."""
    plugins: Any = entry.decode().get("plugins", {})
    return merge_plugins([Layer(entry.key, plugins)])


def _configured(entry: Entry) -> dict[str, int]:
    try:
        return {conf.name: fingerprint(conf.conf) for conf in plugins_of(entry)}
    except Exception:
        log.debug("%s cannot be read, so it configures nothing", entry.key, exc_info=True)
        return {}


def _made(make: MakePlugin, conf: PluginConf, mark: int) -> _Kept:
    try:
        return _Kept(mark, make(conf.name, conf.conf, str(conf.owner)), "")
    except JitterwayError as error:
        return _Kept(mark, None, str(error))
    except Exception as error:
        log.exception("plugin %s of %s cannot be prepared", conf.name, conf.owner)
        return _Kept(mark, None, f"{type(error).__name__}: {error}")


def _close(kept: _Kept | None) -> None:
    if kept is None or kept.plugin is None:
        return
    try:
        kept.plugin.close()
    except Exception:
        log.exception("plugin %s cannot be closed", kept.plugin.name)


def instances_of(confs: Iterable[PluginConf], instances: Instances, find: Find) -> list[Instance]:
    """The instances for some configurations. Raises Unusable for the first that has none."""
    return [instances.instance(conf, find(conf.owner)) for conf in confs]
