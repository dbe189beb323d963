"""What a worker serves: requests find their route in it, changes are applied to it between requests.

A change to a service, an upstream, a plugin config or a global rule reaches the routes made from it by indirection: it
raises the generation, and a route that is asked for in a newer generation than it was settled in looks whether its
parents are still the same objects. So such a change costs the same whatever the number of its routes, and an unrelated
one a few comparisons. Consumers come in later, request by request (gw.rebuild.joins).

Applying comes as steps (generators): the caller decides when the next one may run. Nothing here reads a clock or waits.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from gw.errors import SegmentError
from gw.model.keys import ResourceKey
from gw.model.merge import Missing, effective_upstream, merge_plugins, missing_parent, plugin_layers
from gw.model.plugin_config import PluginConfig
from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import Upstream
from gw.pipeline.body_variables import forget_body
from gw.pipeline.caller import Caller
from gw.pipeline.context import Context
from gw.pipeline.joining import join_step
from gw.pipeline.phases import CompileFilter, Phases
from gw.pipeline.route import CompiledRoute, RouteHandle, compile_route
from gw.pipeline.route_condition import FilterFuncFailed, RouteCondition, compile_route_condition
from gw.pipeline.upstream import UpstreamRuntime, compile_upstream
from gw.rebuild.callers import Callers
from gw.rebuild.certificates import with_client_certificate
from gw.rebuild.chains import NO_GLOBAL_RULES, ChainMaker, GlobalChain
from gw.rebuild.credentials import Reading
from gw.rebuild.entry import (
    COPIED,
    CredentialEntry,
    Entry,
    MakeRuntime,
    PluginConfigEntry,
    PluginMetadataEntry,
    RouteEntry,
    ServiceEntry,
    Settled,
    UpstreamEntry,
    entry_of,
)
from gw.rebuild.instances import Instances, MakePlugin, Unusable, no_plugins
from gw.rebuild.joins import Joins, RouteParts
from gw.rebuild.tables import Tables
from gw.rebuild.unserved import unserved
from gw.shm.base import Base
from gw.shm.log import Change
from gw.shm.reader import Loaded
from gw.upstream.target import Timeouts


def plain_runtime(key: ResourceKey, upstream: Upstream, before: UpstreamRuntime | None) -> UpstreamRuntime:
    """Without health checks, and with APISIX's pool of connections."""
    return compile_upstream(upstream, before=before)


_NO_AUTH_PLUGINS: Final[Mapping[str, str]] = {}
# Of a route that only answers that it is broken.
_UNUSED_TIMEOUTS: Final = Timeouts(0, 0, 0)
# Up to so many problems are looked at one by one each time they are counted: 1 ms.
COUNTED_PROBLEMS: Final = 1000
# Conditions that are settled ahead of requests after a full rebuild: some 6 MB. What is beyond waits for its request.
CONDITIONS_AHEAD: Final = 2000
# Problems that one step of a rebuild looks at.
STEP_PROBLEMS: Final = 64
_HASH_KEY_BYTES: Final = 32


class Handle(NamedTuple):
    """A match. `params` are what the route's uri captured from the path."""

    state: ConfigState
    route: RouteEntry
    params: Mapping[str, str] | None

    def resolve(self) -> CompiledRoute:
        """The route as it is to be walked now. Costs a comparison unless something was applied since its last use."""
        settled = self.route.settled
        if settled is not None and settled.generation == self.state.generation:
            return settled.compiled
        return self.state.settle(self.route)


class ConfigState:
    """One worker's configuration. Empty until the first `rebuild`, and without plugins until `use_plugins`.

    `make_runtime` settles upstreams. `allow_code`: whether code in the configuration (`filter_func`) may run.
    """

    def __init__(
        self, router_mode: str, make_runtime: MakeRuntime = plain_runtime, *, allow_code: bool = False
    ) -> None:
        self._router_mode = router_mode
        self._make_runtime = make_runtime
        self._allow_code = allow_code
        self._base: Base | None = None  # where what was not asked for yet has its bytes
        self.generation = 0  # counts what was applied
        self._global_chain = NO_GLOBAL_RULES
        self._rules_seen: tuple[Entry, ...] = ()  # those that the chain was last found to be made of
        self.use_plugins(no_plugins)

    def use_plugins(
        self,
        make: MakePlugin,
        compile_filter: CompileFilter | None = None,
        credential_fields: Mapping[str, str] = _NO_AUTH_PLUGINS,
    ) -> None:
        """Make plugins this way from now on. To be called before the first `rebuild`.

        `credential_fields`: by auth plugin, the field by which it finds a credential. It is apart from the constructor
        because plugins ask for metadata and consumers.
        """
        self._reading = Reading(credential_fields, os.urandom(_HASH_KEY_BYTES))
        self._tables = Tables(self._router_mode, self._fits, self._reading)
        self._instances = Instances(make)
        self._chains = ChainMaker(self._instances, compile_filter)
        self._joins = Joins(self, self._chains, self._instances, credential_fields)
        self._callers = Callers(lambda: self._tables, credential_fields)

    def close(self) -> None:
        """Close the plugins' instances. Nothing is to be asked for afterwards."""
        self._instances.close()

    @property
    def digest(self) -> int:
        """Taken over the entries that are held, to be compared with the published one."""
        return self._tables.digest

    @property
    def problems(self) -> Mapping[ResourceKey, str]:
        """The resources of which something does not work, as far as they were used, and as far as that still holds."""
        current = {key: reason for key, reason in self._tables.problems.items() if self._is_current(key)}
        for key, reason in self._tables.credentials.duplicates.items():
            current[key] = f"{reason}; {current[key]}" if key in current else reason
        return current

    @property
    def problem_count(self) -> int:
        """How many `problems` there are; where they are many, those that hold no more are still counted."""
        count = len(self._tables.problems) + self._tables.credentials.duplicate_count
        return count if count > COUNTED_PROBLEMS else len(self.problems)

    @property
    def snapshot(self) -> int:
        """The number of the base that resources are read from when first asked for, 0 for none."""
        return 0 if self._base is None else self._base.number

    def __len__(self) -> int:
        """How many resources are held."""
        return len(self._tables)

    def find(self, path: str, host: str, method: str, ctx: Context) -> RouteHandle | None:
        """See `gw.pipeline.route.Routes`."""
        match = self._tables.index.match(path, host, method, ctx)
        if ctx is not None:
            forget_body(ctx)
        return None if match is None else Handle(self, match.target, match.params)

    def unmatched(self) -> Phases:
        """What requests without a route walk: the global rules."""
        return self._current_rules().phases

    def metadata(self, plugin: str) -> Mapping[str, Any]:
        """What a plugin is told once for all of its configurations, as it is now; `{}` when it is told nothing."""
        entry = self._tables.find(ResourceKey("plugin_metadata", plugin))
        if not isinstance(entry, PluginMetadataEntry):
            return {}
        try:
            return entry.value.values
        except Exception as error:
            self._tables.report(entry.key, f"cannot be read: {error}")
            return {}

    def by_credential(self, plugin: str, value: str) -> Caller | None:
        """See gw.plugins.api.Consumers."""
        return self._callers.by_credential(plugin, value)

    def by_name(self, name: str) -> Caller | None:
        """See gw.plugins.api.Consumers."""
        return self._callers.by_name(name)

    def resource(self, key: ResourceKey) -> Mapping[str, Any] | None:
        """A resource as it is now, None when there is none, or it cannot be read."""
        entry = self._tables.find(key)
        try:
            return None if entry is None else entry.decode()
        except SegmentError:
            return None

    def ids(self, kind: str) -> Sequence[list[str]]:
        """The ids of all resources of a kind as it is now, in parts of no order, which are the caller's."""
        of_kind = self._tables.kinds.get(kind)
        return [] if of_kind is None else [list(part) for part in of_kind.parts]

    def update(self, changes: Sequence[Change]) -> Iterator[None]:
        """Steps that bring the state up to date in place: a resource at a time, in the order of the changes."""
        for change in changes:
            self.generation += 1
            yield from self._apply(change, self._tables)
            entry = self._tables.find(change.key)
            self._instances.keep(change.key, entry)
            yield
            if isinstance(entry, RouteEntry) and entry.routing.is_conditional:
                self._condition_of(entry)
                yield

    def rebuild(self, loaded: Loaded) -> Generator[None, None, Iterator[None]]:
        """Steps that build everything anew aside; the last one puts it in place.

        An entry whose content is unchanged goes on, with all that hangs on it: only what is built over entries is new.
        Ends with steps that let go of what was there before, and close the plugins that nothing configures any more;
        take them when there is time. Raises SegmentError, and what is served stays.
        """
        tables, held = Tables(self._router_mode, self._fits, self._reading), self._tables
        for chunk in loaded.base.chunks():
            yield from tables.take(chunk, loaded.base, held)
            yield
        for change in loaded.changes:
            yield from self._apply(change, tables)
            yield
        for number, (key, reason) in enumerate(list(held.problems.items())):
            if tables.find(key) is held.find(key):
                tables.problems.setdefault(key, reason)
            if number % STEP_PROBLEMS == 0:
                yield
        self._tables, self._base = tables, loaded.base
        self.generation += 1
        return self._clean_up(held)

    def move_to(self, base: Base) -> Iterator[None]:
        """Steps after which nothing is read from any other base: for one no newer than what is served.

        What is the same there is read from there from now on, and what was copied from the log is let go of. What is
        served does not change. Raises SegmentError for a damaged base; calling it again with another one mends that.
        """
        for chunk in base.chunks():
            held = self._tables.kinds.get(chunk.kind)
            for id, hash, place in zip(chunk.ids, chunk.hashes, chunk.places, strict=True):
                entry = None if held is None else held.get(id)
                if entry is not None and entry.hash == hash:
                    entry.source, entry.place = base, place
            yield
        # Changed and changed back while the log was not looked at: the same content, from a base before that.
        for of_kind in list(self._tables.kinds.values()):
            for entries in of_kind.batches():
                for entry in entries:
                    if entry.source is not base and entry.source is not COPIED:
                        entry.copy()
                        yield
                yield
        self._base = base

    def _clean_up(self, held: Tables) -> Iterator[None]:
        yield from self._instances.keep_all(lambda key: self._tables.find(key))
        yield from held.drain()
        yield from self._settle_conditions()

    def _settle_conditions(self) -> Iterator[None]:
        """Ahead of requests, a route in one step: where many stand in one place, one request would pay for them all."""
        routes, left = self._tables.kinds.get("routes"), CONDITIONS_AHEAD
        for entries in () if routes is None else routes.batches():
            for entry in entries:
                if isinstance(entry, RouteEntry) and entry.routing.is_conditional and left > 0:
                    self._condition_of(entry)
                    left -= 1
                    yield
            yield

    def _fits(self, route: RouteEntry, ctx: Context) -> bool:
        """Whether a request meets a conditional route's conditions."""
        try:
            return self._condition_of(route)(ctx)
        except FilterFuncFailed as error:
            self._tables.note(route.key, str(error))
            return False

    def _condition_of(self, route: RouteEntry) -> RouteCondition:
        """Raises nothing: a route that cannot be read is found by every request, and answers 500."""
        if route.condition is None:
            try:
                decoded = Route.from_dict(route.id, route.decode())
            except Exception as error:
                return RouteCondition((), f"cannot be read: {error!r}")
            route.condition = compile_route_condition(decoded, allow_code=self._allow_code)
        return route.condition

    def settle(self, route: RouteEntry) -> CompiledRoute:
        """The route as it is to be walked, compiled anew if it never was or a parent is another one."""
        settled = route.settled
        if settled is None or settled.rules is not self._current_rules() or not self._has_its_parents(settled):
            if settled is not None and self._tables.find(route.key) is not route:
                return settled.compiled  # replaced meanwhile: a request goes on with what it began with
            settled = route.settled = self._compile(route)
        settled.generation = self.generation
        return settled.compiled

    # What joins ask; see gw.rebuild.joins.Served.

    def entry(self, key: ResourceKey) -> Entry | None:
        """A resource as it is held now."""
        return self._tables.find(key)

    def is_settled(self, route: CompiledRoute) -> bool:
        """Whether a route is what its resource, and all that it is made of, comes to now."""
        entry = self._tables.find(ResourceKey("routes", route.id))
        settled = entry.settled if isinstance(entry, RouteEntry) else None
        return settled is not None and settled.compiled is route and self._has_its_parents(settled)

    def note(self, key: ResourceKey, reason: str | None) -> None:
        """Remember what does not work of a resource, or (None) that all of it does."""
        self._tables.note(key, reason)

    def _has_its_parents(self, settled: Settled) -> bool:
        find = self._tables.find
        return all(find(key) is entry for key, entry in settled.parents)

    def _current_rules(self) -> GlobalChain:
        """The chain of the global rules: the same object until one of them changes."""
        rules = self._tables.global_rules
        if rules is not self._rules_seen:
            self._rules_seen = rules
            if rules != self._global_chain.rules:
                self._global_chain = self._chains.global_chain(rules, self._tables.find)
                for key, reason in self._global_chain.problems:
                    self._tables.note(key, reason)
        return self._global_chain

    def _is_current(self, key: ResourceKey) -> bool:
        """What found a parent missing or broken is no problem any more when the parent is another one."""
        entry = self._tables.find(key)
        if isinstance(entry, CredentialEntry):
            return self._joins.problem_holds(key.id)
        return not isinstance(entry, RouteEntry) or entry.settled is None or self._has_its_parents(entry.settled)

    def _apply(self, change: Change, tables: Tables) -> Iterator[None]:
        if change.blob is None:
            yield from tables.delete(change.key)
            return
        there = tables.find(change.key)
        if there is not None and there.hash == change.hash:
            return
        held = self._tables.find(change.key)
        if held is not None and held.hash == change.hash:
            # Into tables built aside, an entry goes on; what is in its place there was made from an older base.
            yield from tables.put(held)
        else:
            yield from tables.put(entry_of(change))

    def _compile(self, route: RouteEntry) -> Settled:
        """Never raises: a route that cannot be compiled answers 500, for itself alone."""
        parents, rules = _Parents(self._tables), self._current_rules()
        try:
            compiled, reason = self._compiled(route, Route.from_dict(route.id, route.decode()), parents, rules)
        except Exception as error:
            reason = str(error) if isinstance(error, Unusable) else f"cannot be compiled: {error!r}"
            compiled = CompiledRoute(route.id, Missing(500, reason), _UNUSED_TIMEOUTS, phases=rules.phases)
        if self._tables.find(route.key) is route:  # else a request still holds what was replaced meanwhile
            self._tables.note(route.key, reason)
        return Settled(compiled, tuple(parents.met.items()), rules)

    def _compiled(
        self, route: RouteEntry, decoded: Route, parents: _Parents, rules: GlobalChain
    ) -> tuple[CompiledRoute, str | None]:
        """A route over its parents, and what of it does not work. Raises Unusable, and whatever damage leads to."""
        service = None if decoded.service_id is None else parents.service(decoded.service_id)
        config_id = decoded.plugin_config_id
        plugin_config = None if config_id is None else parents.plugin_config(config_id)
        stop = missing_parent(decoded, plugin_config, service)
        reason = self._condition_of(route).broken if route.routing.is_conditional else None
        if stop is None and (reason := reason or unserved(decoded, service)) is not None:
            stop = Missing(500, reason)
        if stop is not None:
            return compile_route(decoded, stop, rules.phases, service), stop.reason

        def find_owner(key: ResourceKey) -> Entry | None:
            entry = self._tables.find(key)
            return None if key == route.key and entry is not route else entry

        confs = merge_plugins(plugin_layers(decoded, plugin_config, service))
        join = partial(join_step, self._joins.joiner(RouteParts(confs, rules)), str(route.key))
        phases = self._chains.route_chain(confs, rules, find_owner, join)
        found = effective_upstream(decoded, service, parents.upstream)
        if isinstance(found, Missing):
            return compile_route(decoded, found, phases, service), found.reason
        ready = with_client_certificate(found, parents.find)
        if isinstance(ready, Missing):
            return compile_route(decoded, ready, phases, service), ready.reason
        runtime = _holder(found, route, decoded, parents).runtime_of(ready, self._make_runtime)
        return compile_route(decoded, runtime, phases, service), runtime.unsupported


class _Parents:
    """Looks parents up, and remembers what was found: also that there was nothing."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.met: dict[ResourceKey, Entry | None] = {}

    def service(self, id: str) -> Service | None:
        entry = self.find("services", id)
        return entry.value if isinstance(entry, ServiceEntry) else None

    def upstream(self, id: str) -> Upstream | None:
        entry = self.find("upstreams", id)
        return entry.value if isinstance(entry, UpstreamEntry) else None

    def plugin_config(self, id: str) -> PluginConfig | None:
        entry = self.find("plugin_configs", id)
        return entry.value if isinstance(entry, PluginConfigEntry) else None

    def find(self, kind: str, id: str) -> Entry | None:
        key = ResourceKey(kind, id)
        entry = self.met[key] = self._tables.find(key)
        return entry


def _holder(upstream: Upstream, route: RouteEntry, decoded: Route, parents: _Parents) -> Entry:
    """The entry in which an upstream is written: what requests to it share hangs there."""
    holder: Entry | None = route
    if upstream.id is not None:
        holder = parents.find("upstreams", upstream.id)
    elif upstream is not decoded.upstream and decoded.service_id is not None:
        holder = parents.find("services", decoded.service_id)
    assert holder is not None, "the upstream was read from it a moment ago"
    return holder
