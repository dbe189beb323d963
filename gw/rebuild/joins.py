"""What routes become for consumers that bring plugins: merged once per route and consumer, and kept within a bound.

consumer > consumer group > route > plugin config > service (gw.model.merge). A consumer's own configurations of auth
plugins are its credentials, and no plugins. What was merged holds as long as the consumer is the same entry, its group
too, and the route is the compiled one it was made from: whatever that was made from is looked at when it is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from gw.model.consumer import Consumer, ConsumerGroup
from gw.model.keys import ResourceKey
from gw.model.merge import Layer, Missing, PluginConf, consumer_layers, merge_plugins, missing_group
from gw.pipeline.caller import Caller
from gw.pipeline.phases import Phases, Step
from gw.pipeline.reply import error_reply
from gw.pipeline.route import CompiledRoute
from gw.rebuild.chains import ChainMaker, GlobalChain
from gw.rebuild.credentials import KNOWN_AUTH_PLUGINS
from gw.rebuild.entry import Entry
from gw.rebuild.instances import Find, Instances, Unusable

# Routes merged for consumers that a worker keeps; those of the consumer that came first go first. Some 10 MB.
MAX_JOINED: Final = 4096


class Served(Protocol):
    """The configuration as it is now; see gw.rebuild.state.ConfigState."""

    @property
    def generation(self) -> int: ...

    def entry(self, key: ResourceKey) -> Entry | None: ...

    def is_settled(self, route: CompiledRoute) -> bool:
        """Whether a route is what its resource, and all that it is made of, comes to now."""
        ...

    def note(self, key: ResourceKey, reason: str | None) -> None: ...


class _Joined(NamedTuple):
    base: CompiledRoute
    route: CompiledRoute


@dataclass(slots=True)
class _OfConsumer:
    """What was merged for a consumer and its group, in one version of each. `generation`: in which that last held."""

    entry: object
    group_key: ResourceKey | None
    group: Entry | None
    generation: int
    routes: dict[str, _Joined] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteParts:
    """What a route walks before a consumer is known: its merged plugins, and the global rules in their version."""

    confs: Sequence[PluginConf]
    rules: GlobalChain


class Joins:
    """`credential_plugins`: the auth plugins, whose configurations in consumers are credentials."""

    def __init__(
        self, served: Served, chains: ChainMaker, instances: Instances, credential_plugins: Collection[str]
    ) -> None:
        self._served = served
        self._chains = chains
        self._instances = instances
        self._credential_plugins = KNOWN_AUTH_PLUGINS.union(credential_plugins)
        self._kept: dict[str, _OfConsumer] = {}
        self._count = 0

    def __len__(self) -> int:
        """How many merged routes are kept."""
        return self._count

    def problem_holds(self, name: str) -> bool:
        """Whether what was found not to work for a consumer still stands: not where its group is another one now."""
        of_consumer = self._kept.get(name)
        return of_consumer is None or self._has_its_group(of_consumer)

    def joiner(self, parts: RouteParts) -> Callable[[CompiledRoute, Caller], CompiledRoute]:
        """What a route's join step asks, see gw.pipeline.joining. Never raises."""
        return lambda base, caller: self._join(parts, base, caller)

    def _join(self, parts: RouteParts, base: CompiledRoute, caller: Caller) -> CompiledRoute:
        of_consumer = self._kept.get(caller.name)
        if of_consumer is not None and of_consumer.entry is caller.entry and self._has_its_group(of_consumer):
            joined = of_consumer.routes.get(base.id)
            if joined is not None and joined.base is base:
                return joined.route
        return self._joined_anew(parts, base, caller)

    def _has_its_group(self, of_consumer: _OfConsumer) -> bool:
        generation = self._served.generation
        if of_consumer.generation != generation:
            if self._found(of_consumer.group_key) is not of_consumer.group:
                return False
            of_consumer.generation = generation
        return True

    def _joined_anew(self, parts: RouteParts, base: CompiledRoute, caller: Caller) -> CompiledRoute:
        served = self._served
        key = ResourceKey("consumers", caller.name)
        # A consumer or a route that was replaced since the request came: it goes on with what it began with.
        is_current = served.entry(key) is caller.entry and served.is_settled(base)
        find = served.entry if is_current else _nothing
        group = self._found(_group_key(caller))
        try:
            route, reason = self._made(parts, base, caller, group, find)
        except Exception as error:
            reason = str(error) if isinstance(error, Unusable) else f"cannot be joined with a route: {error!r}"
            route = _refusing(base, 500, reason)
        if is_current:
            served.note(key, reason)
            self._keep(caller, group, _Joined(base, route))
        return route

    def _made(
        self, parts: RouteParts, base: CompiledRoute, caller: Caller, group: Entry | None, find: Find
    ) -> tuple[CompiledRoute, str | None]:
        """The route, and what of it does not work. Raises Unusable, and whatever damage leads to."""
        if caller.group_id and group is None:
            missing = missing_group(caller.group_id)
            return _refusing(base, missing.status, missing.reason), missing.reason
        assert isinstance(caller.entry, Entry)
        consumer = Consumer.from_dict(caller.name, caller.entry.decode())
        consumer_group = None if group is None else ConsumerGroup.from_dict(group.id, group.decode())
        layers = consumer_layers(consumer, consumer_group, self._credential_plugins)
        of_route = [Layer(conf.owner, {conf.name: {**conf.conf, "_meta": conf.meta}}) for conf in parts.confs]
        confs = merge_plugins([*layers, *of_route])
        rewritten = {conf.name for conf in parts.confs}
        return base.walking(self._chains.joined_chain(confs, parts.rules, base.phases, rewritten, find)), None

    def _found(self, key: ResourceKey | None) -> Entry | None:
        return None if key is None else self._served.entry(key)

    def _keep(self, caller: Caller, group: Entry | None, joined: _Joined) -> None:
        of_consumer = self._kept.get(caller.name)
        if of_consumer is None or of_consumer.entry is not caller.entry or of_consumer.group is not group:
            self._forget(caller.name)
            of_consumer = _OfConsumer(caller.entry, _group_key(caller), group, self._served.generation)
            self._kept[caller.name] = of_consumer
        self._count += joined.base.id not in of_consumer.routes
        of_consumer.routes[joined.base.id] = joined
        if self._count > MAX_JOINED:
            oldest = next(iter(self._kept))
            self._forget(oldest)
            if oldest != caller.name:
                # Its instances are made anew when it comes again; what they count is not in them.
                self._instances.release(ResourceKey("consumers", oldest))

    def _forget(self, name: str) -> None:
        of_consumer = self._kept.pop(name, None)
        if of_consumer is not None:
            self._count -= len(of_consumer.routes)


def _group_key(caller: Caller) -> ResourceKey | None:
    return ResourceKey("consumer_groups", caller.group_id) if caller.group_id else None


def _nothing(key: ResourceKey) -> Entry | None:
    return None


def _refusing(base: CompiledRoute, status: int, reason: str) -> CompiledRoute:
    """The route, answering so in place of what should come."""
    refuse = Step(lambda ctx: error_reply(status), "consumer", f"routes/{base.id}", False)
    phases = base.phases
    refusing = Phases(
        request=phases.request,
        rest=(refuse,),
        header_filter=phases.header_filter,
        body_filter=phases.body_filter,
        log=phases.log,
        filters_await=phases.filters_await,
        changes_body=phases.changes_body,
    )
    return base.walking(refusing, Missing(status, reason))
