"""What a worker serves: requests find their route in it, changes are applied to it between requests.

A change to a service or an upstream reaches the routes made from it by indirection: it raises the generation, and a
route that is asked for in a newer generation than it was settled in looks whether its parents are still the same
objects. So such a change costs the same whatever the number of its routes, and an unrelated one a few comparisons.

Applying comes as steps (generators): the caller decides when the next one may run. Nothing here reads a clock or waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from gw.model.keys import ResourceKey
from gw.model.merge import Missing, effective_upstream
from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import Upstream
from gw.pipeline.route import DEFAULT_KEEPALIVE, CompiledRoute, RouteHandle, UpstreamRuntime, compile_route
from gw.rebuild.entry import Blob, CopiedBlob, Entry, RouteEntry, ServiceEntry, UpstreamEntry
from gw.rebuild.tables import Tables, make_entry
from gw.rebuild.unserved import approximated, unserved
from gw.shm.log import Change
from gw.upstream.target import KeepAlive, Timeouts

# Of a route that only answers that it is broken.
_UNUSED_TIMEOUTS: Final = Timeouts(0, 0, 0)


class Loaded(Protocol):
    """One resource of a full load."""

    hash: int
    routing: object

    def blob(self) -> bytes: ...


class Handle(NamedTuple):
    """A match. `params` are what the route's uri captured from the path."""

    state: ConfigState
    route: RouteEntry
    params: Mapping[str, str] | None

    def resolve(self) -> CompiledRoute:
        """The route as it is to be walked now. Costs a comparison unless something was applied since its last use."""
        route = self.route
        if route.compiled is not None and route.settled_at == self.state.generation:
            return route.compiled
        return self.state.settle(route)


class ConfigState:
    """One worker's configuration. Empty until the first `rebuild`.

    `keepalive` is for upstreams without a keepalive_pool of their own.
    """

    def __init__(self, router_mode: str, keepalive: KeepAlive = DEFAULT_KEEPALIVE) -> None:
        self._router_mode = router_mode
        self._keepalive = keepalive
        self._tables = Tables(router_mode)
        self.generation = 0  # counts what was applied

    @property
    def digest(self) -> int:
        """Taken over the entries that are held, to be compared with the published one."""
        return self._tables.digest

    @property
    def problems(self) -> Mapping[ResourceKey, str]:
        """The resources of which something does not work, as far as they were used, and as far as that still holds."""
        return {key: reason for key, reason in self._tables.problems.items() if self._is_current(key)}

    def __len__(self) -> int:
        """How many resources are held."""
        return len(self._tables.entries)

    def find(self, path: str, host: str, method: str) -> RouteHandle | None:
        """The route for a request: canonical path, host in lower case without port."""
        match = self._tables.index.match(path, host, method)
        return None if match is None else Handle(self, match.target, match.params)

    def update(self, changes: Iterable[Change]) -> Iterator[None]:
        """Steps that bring the state up to date in place. Of several changes to one resource the last one counts."""
        newest = {change.key: change for change in changes}
        for change in newest.values():
            self.generation += 1
            if change.blob is None:
                yield from self._tables.delete(change.key)
            else:
                yield from self._put(change.key, change.hash, CopiedBlob(change.blob), change.routing)
            yield

    def rebuild(self, resources: Mapping[ResourceKey, Loaded]) -> Iterator[None]:
        """Steps that build everything anew aside; the last one puts it in place.

        An entry whose content is unchanged goes on, with all that hangs on it: only what is built over entries is new.
        """
        tables, held = Tables(self._router_mode), self._tables.entries
        # Routes last: where one without hosts of its own stands is said by its service.
        for routes in (False, True):
            for key, loaded in resources.items():
                if (key.kind == "routes") is routes:
                    yield from tables.put(_carry_over(held.get(key), key, loaded))
                    yield
        self._tables = tables
        self.generation += 1

    def settle(self, route: RouteEntry) -> CompiledRoute:
        """The route as it is to be walked, compiled anew if it never was or a parent is another one."""
        compiled = route.compiled
        if compiled is None or not self._has_its_parents(route):
            compiled = route.compiled = self._compile(route)
        route.settled_at = self.generation
        return compiled

    def _has_its_parents(self, route: RouteEntry) -> bool:
        entries = self._tables.entries
        return all(entries.get(key) is entry for key, entry in route.parents)

    def _is_current(self, key: ResourceKey) -> bool:
        """A route that found a parent missing or broken is no problem any more when the parent is another one."""
        entry = self._tables.entries.get(key)
        return not isinstance(entry, RouteEntry) or self._has_its_parents(entry)

    def _put(self, key: ResourceKey, hash: int, source: Blob, routing: object) -> Iterator[None]:
        held = self._tables.entries.get(key)
        if held is None or held.hash != hash:
            yield from self._tables.put(make_entry(key, hash, source, routing))

    def _compile(self, route: RouteEntry) -> CompiledRoute:
        """Never raises: a route that cannot be compiled answers 500, for itself alone."""
        parents = _Parents(self._tables.entries)
        try:
            decoded = Route.from_dict(route.key.id, route.decode())
            service = None if decoded.service_id is None else parents.service(decoded.service_id)
            found = effective_upstream(decoded, service, parents.upstream)
            if (reason := unserved(decoded, service)) is not None:
                found = Missing(500, reason)
            if isinstance(found, Missing):
                self._tables.report(route.key, found.reason)
                compiled = compile_route(decoded, found)
            else:
                runtime = _runtime(found, route, decoded, parents, self._keepalive)
                compiled = compile_route(decoded, runtime)
                if (reason := runtime.unsupported or approximated(decoded, found)) is None:
                    self._tables.problems.pop(route.key, None)
                else:
                    self._tables.report(route.key, reason)
        except Exception as error:
            reason = f"cannot be compiled: {error!r}"
            self._tables.report(route.key, reason)
            compiled = CompiledRoute(route.key.id, Missing(500, reason), _UNUSED_TIMEOUTS)
        route.parents = tuple(parents.met.items())
        return compiled


class _Parents:
    """Looks parents up, and remembers what was found: also that there was nothing."""

    def __init__(self, entries: Mapping[ResourceKey, Entry]) -> None:
        self._entries = entries
        self.met: dict[ResourceKey, Entry | None] = {}

    def service(self, id: str) -> Service | None:
        entry = self.find("services", id)
        return entry.value if isinstance(entry, ServiceEntry) else None

    def upstream(self, id: str) -> Upstream | None:
        entry = self.find("upstreams", id)
        return entry.value if isinstance(entry, UpstreamEntry) else None

    def find(self, kind: str, id: str) -> Entry | None:
        key = ResourceKey(kind, id)
        entry = self.met[key] = self._entries.get(key)
        return entry


def _runtime(
    upstream: Upstream, route: RouteEntry, decoded: Route, parents: _Parents, keepalive: KeepAlive
) -> UpstreamRuntime:
    """What requests to an upstream share, from the entry in which the upstream is written."""
    holder: Entry | None = route
    if upstream.id is not None:
        holder = parents.find("upstreams", upstream.id)
    elif upstream is not decoded.upstream and decoded.service_id is not None:
        holder = parents.find("services", decoded.service_id)
    assert holder is not None, "the upstream was read from it a moment ago"
    return holder.runtime_of(upstream, keepalive)


def _carry_over(held: Entry | None, key: ResourceKey, loaded: Loaded) -> Entry:
    if held is None or held.hash != loaded.hash:
        entry = make_entry(key, loaded.hash, loaded, loaded.routing)
        if held is not None:
            entry.replaces(held)
        return entry
    # The base it was in before is let go of.
    held.source = loaded
    return held
