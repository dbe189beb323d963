"""One whole configuration as a worker holds it: entries by key, the index over the routes, the digest of both.

Each step leaves it whole: a resource is in, or out, or replaced. So it can be changed in place between two events, and
can as well be built aside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from gw.model.digest import DIGEST_MASK
from gw.model.keys import ResourceKey
from gw.model.routing import RouteKey
from gw.rebuild.entry import Blob, Entry, RouteEntry, ServiceEntry, UpstreamEntry
from gw.router import RouterIndex, build_router

log = logging.getLogger(__name__)

_NONE: Final[dict[str, RouteEntry]] = {}


def make_entry(key: ResourceKey, hash: int, source: Blob, routing: object) -> Entry:
    """An entry of the class that its kind has. Raises TypeError when `routing` is not what a route has there."""
    if key.kind == "routes":
        return RouteEntry(key, hash, source, RouteKey(*routing))  # type: ignore[misc]
    if key.kind == "services":
        return ServiceEntry(key, hash, source)
    if key.kind == "upstreams":
        return UpstreamEntry(key, hash, source)
    return Entry(key, hash, source)


class Tables:
    """`problems` names the resources of which something does not work, with the reason."""

    __slots__ = ("_lodgers", "digest", "entries", "index", "problems")

    def __init__(self, router_mode: str) -> None:
        self.entries: dict[ResourceKey, Entry] = {}
        self.index: RouterIndex[RouteEntry] = build_router(router_mode)
        self.digest = 0
        self.problems: dict[ResourceKey, str] = {}
        # By service: the routes without hosts of their own, which stand in the index under the service's.
        self._lodgers: dict[str, dict[str, RouteEntry]] = {}

    def put(self, entry: Entry) -> Iterator[None]:
        """Take an entry in, in place of the one of that key. What moves with it moves in the steps that follow."""
        old = self.entries.get(entry.key)
        if old is not None:
            entry.replaces(old)
            self.digest -= old.mark
        self.entries[entry.key] = entry
        self.digest = (self.digest + entry.mark) & DIGEST_MASK
        self.problems.pop(entry.key, None)
        if isinstance(entry, RouteEntry):
            self._leave_service(old)
            self._place(entry)
        elif isinstance(entry, ServiceEntry):
            yield from self._move_lodgers(entry.key.id, old, entry)

    def delete(self, key: ResourceKey) -> Iterator[None]:
        """Take a resource out; nothing happens when it is not there."""
        old = self.entries.pop(key, None)
        if old is None:
            return
        self.digest = (self.digest - old.mark) & DIGEST_MASK
        self.problems.pop(key, None)
        if isinstance(old, RouteEntry):
            self._leave_service(old)
            self.index.remove(key.id)
        elif isinstance(old, ServiceEntry):
            yield from self._move_lodgers(key.id, old, None)

    def report(self, key: ResourceKey, reason: str) -> None:
        """Remember that something of a resource does not work, and say so once."""
        if key not in self.problems:
            log.error("%s: %s", key, reason)
        self.problems[key] = reason

    def _place(self, route: RouteEntry) -> None:
        """Put a route where its uris and hosts say."""
        hosts, service_id = route.routing.hosts, route.routing.service_id
        if not hosts and service_id is not None:
            self._lodgers.setdefault(service_id, {})[route.key.id] = route
            hosts = self._hosts_of(self.entries.get(ResourceKey("services", service_id)))
        try:
            self.index.insert(route.key.id, route.routing, hosts, route)
        except Exception as error:
            # Whatever the index cannot take: the others must be served.
            self.index.remove(route.key.id)
            self.report(route.key, f"cannot be routed to: {error}")

    def _leave_service(self, route: Entry | None) -> None:
        if not isinstance(route, RouteEntry) or route.routing.service_id is None:
            return
        lodgers = self._lodgers.get(route.routing.service_id)
        if lodgers is not None:
            lodgers.pop(route.key.id, None)
            if not lodgers:
                del self._lodgers[route.routing.service_id]

    def _move_lodgers(self, service_id: str, old: Entry | None, new: Entry | None) -> Iterator[None]:
        """Put the routes that stand under a service's hosts where its new ones say, one in each step."""
        lodgers = self._lodgers.get(service_id, _NONE)
        if not lodgers or self._hosts_of(old) == self._hosts_of(new):
            return
        for route in list(lodgers.values()):
            self._place(route)
            yield

    def _hosts_of(self, service: Entry | None) -> tuple[str, ...]:
        if not isinstance(service, ServiceEntry):
            return ()
        try:
            return service.value.hosts
        except Exception as error:
            self.report(service.key, f"cannot be read: {error}")
            return ()
