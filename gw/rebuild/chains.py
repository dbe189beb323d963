"""What plugins do of a request, made from the resources that configure them: for the global rules, and for a route.

The chain of the global rules is made once for all routes, when a global rule has changed. Where a plugin of a rule
cannot do its work, requests are answered 500 in the rule's place: the plugin may be there to keep somebody out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, NamedTuple

from gw.model.keys import ResourceKey
from gw.model.merge import PluginConf
from gw.pipeline.phases import (
    NO_PHASES,
    CompileFilter,
    Instance,
    Phases,
    Step,
    attaches_consumers,
    settle,
    settle_joined,
)
from gw.pipeline.reply import Reply, error_reply
from gw.rebuild.entry import Entry
from gw.rebuild.instances import Find, Instances, Unusable, instances_of, plugins_of
from gw.rebuild.unserved import unserved_meta


class GlobalChain(NamedTuple):
    """The global rules in one version of them. `problems`: for each rule what does not work in it, None if all does."""

    rules: tuple[Entry, ...]
    instances: tuple[Instance, ...]
    phases: Phases
    problems: tuple[tuple[ResourceKey, str | None], ...]


NO_GLOBAL_RULES: Final = GlobalChain((), (), NO_PHASES, ())


class _Refusal:
    """Stands where a plugin should be, and lets nobody pass."""

    priority: Final = sys.maxsize

    def __init__(self, name: str) -> None:
        self.name = name

    def rewrite(self, ctx: Any) -> Reply:
        return error_reply(500)

    def close(self) -> None: ...


class ChainMaker:
    """Makes chains out of instances. `compile_filter` None: no `_meta.filter` can be understood."""

    def __init__(self, instances: Instances, compile_filter: CompileFilter | None) -> None:
        self._instances = instances
        self._compile_filter = compile_filter

    def global_chain(self, rules: Sequence[Entry], find: Find) -> GlobalChain:
        """The chain of all global rules. Never raises."""
        instances: list[Instance] = []
        problems: list[tuple[ResourceKey, str | None]] = []
        for rule in rules:
            of_rule, problem = self._of_rule(rule, find)
            instances += of_rule
            problems.append((rule.key, problem))
        phases = settle(instances, (), self._compile_filter) if instances else NO_PHASES
        return GlobalChain(tuple(rules), tuple(instances), phases, tuple(problems))

    def route_chain(
        self, confs: Sequence[PluginConf], rules: GlobalChain, find: Find, join: Callable[[], Step]
    ) -> Phases:
        """What a request to a route walks, global rules included. Raises Unusable, or ValueError for a filter.

        `join` makes the step at which a consumer's plugins come in, for routes on which there may be one.
        """
        attaches = any(map(attaches_consumers, rules.instances))
        if not confs and not attaches:
            return rules.phases
        self._check_meta(confs)
        instances = instances_of(confs, self._instances, find)
        attaches = attaches or any(map(attaches_consumers, instances))
        return settle(rules.instances, instances, self._compile_filter, join() if attaches else None)

    def joined_chain(
        self, confs: Sequence[PluginConf], rules: GlobalChain, base: Phases, rewritten: Collection[str], find: Find
    ) -> Phases:
        """What a request goes on with when `confs` are merged with its consumer's; see settle_joined. Raises alike."""
        self._check_meta(confs)
        instances = instances_of(confs, self._instances, find)
        return settle_joined(base, rules.instances, instances, rewritten, self._compile_filter)

    def _of_rule(self, rule: Entry, find: Find) -> tuple[list[Instance], str | None]:
        """Its instances, or what stands for them; and what does not work of it."""
        try:
            confs = plugins_of(rule)
            self._check_meta(confs)
            instances = instances_of(confs, self._instances, find)
            settle(instances, (), self._compile_filter)
        except Exception as error:
            return [_refusal(rule.key)], str(error) or type(error).__name__
        return instances, None

    def _check_meta(self, confs: Sequence[PluginConf]) -> None:
        for conf in confs:
            if (reason := unserved_meta(conf.meta, has_filters=self._compile_filter is not None)) is not None:
                raise Unusable(conf, reason)


def _refusal(owner: ResourceKey) -> Instance:
    return Instance(_Refusal("refusal"), _Refusal.priority, str(owner), {})
