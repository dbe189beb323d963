"""One whole configuration as a worker holds it: entries by kind and id, the indexes over routes and credentials, and
the digest of all.

Each step leaves it whole: a resource is in, or out, or replaced. So it can be changed in place between two events, and
can as well be built aside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from gw.model.digest import DIGEST_MASK
from gw.model.keys import ResourceKey
from gw.parted import PartedDict, drained
from gw.rebuild.credentials import CredentialIndex, Reading
from gw.rebuild.entry import CredentialEntry, Entry, RouteEntry, ServiceEntry, entries_of
from gw.router import RouterIndex, build_router
from gw.shm.base import Base, Chunk

log = logging.getLogger(__name__)

_NO_ROUTES: Final[dict[str, RouteEntry]] = {}
_NO_ENTRIES: Final[PartedDict[str, Entry]] = PartedDict()
GLOBAL_RULES: Final = "global_rules"
# Entries that one step puts in: about 0.1 ms.
STEP_ENTRIES: Final = 32

_hash_of: Final = attrgetter("hash")


class Tables:
    """`problems` names the resources of which something does not work, with the reason."""

    __slots__ = ("_global_rules", "_lodgers", "credentials", "digest", "index", "kinds", "problems")

    def __init__(self, router_mode: str, reading: Reading) -> None:
        """`reading`: what the index of credentials takes of them."""
        self.credentials = CredentialIndex(reading)
        self.kinds: dict[str, PartedDict[str, Entry]] = {}
        self.index: RouterIndex[RouteEntry] = build_router(router_mode)
        self.digest = 0
        self.problems: dict[ResourceKey, str] = {}
        # By service: the routes without hosts of their own, which stand in the index under the service's.
        self._lodgers: dict[str, dict[str, RouteEntry]] = {}
        self._global_rules: tuple[Entry, ...] | None = ()  # None: to be gathered anew

    def __len__(self) -> int:
        """How many resources there are."""
        return sum(map(len, self.kinds.values()))

    def find(self, key: ResourceKey) -> Entry | None:
        """The entry of a resource, None when there is none."""
        return self.kinds.get(key.kind, _NO_ENTRIES).get(key.id)

    @property
    def global_rules(self) -> tuple[Entry, ...]:
        """All global rules by id: the same object until one of them changes."""
        if self._global_rules is None:
            rules = (rule for batch in self._of_kind(GLOBAL_RULES).batches() for rule in batch)
            self._global_rules = tuple(sorted(rules, key=attrgetter("id")))
        return self._global_rules

    def take(self, chunk: Chunk, base: Base, held: Tables) -> Iterator[None]:
        """Steps that take in a chunk of a base, none of which is here yet.

        What `held` has with the same content goes on as it is, with all that hangs on it. It reads its bytes from the
        new base from now on: those of its old one are let go of.
        """
        before = held.kinds.get(chunk.kind, _NO_ENTRIES)
        entries = entries_of(chunk, base)
        if before:
            entries = [_carried_on(before.get(new.id), new) for new in entries]
        self._forget_gathered(chunk.kind)
        of_kind = self._of_kind(chunk.kind)
        for entry in entries:
            of_kind[entry.id] = entry
        self.digest = (self.digest + sum(map(_hash_of, entries))) & DIGEST_MASK
        for number, entry in enumerate(entries):
            if number % STEP_ENTRIES == 0:
                yield
            if isinstance(entry, RouteEntry):
                if not self._place_unopened(entry):
                    self._place(entry)
                    yield
            elif isinstance(entry, ServiceEntry):
                yield from self._move_lodgers(entry.id, None, entry)
            elif isinstance(entry, CredentialEntry):
                self._show(entry)

    def put(self, entry: Entry) -> Iterator[None]:
        """Take an entry in, in place of the one of that key. What moves with it moves in the steps that follow."""
        self._forget_gathered(entry.kind)
        of_kind = self._of_kind(entry.kind)
        old = of_kind.get(entry.id)
        if old is not None:
            entry.replaces(old)
            self.digest -= old.hash
        of_kind[entry.id] = entry
        self.digest = (self.digest + entry.hash) & DIGEST_MASK
        self.problems.pop(entry.key, None)
        if isinstance(entry, RouteEntry):
            self._displace(old)
            self._place(entry)
        elif isinstance(entry, ServiceEntry):
            yield from self._move_lodgers(entry.id, old, entry)
        elif isinstance(entry, CredentialEntry):
            if isinstance(old, CredentialEntry):
                self.credentials.remove(old)
            self._show(entry)

    def delete(self, key: ResourceKey) -> Iterator[None]:
        """Take a resource out; nothing happens when it is not there."""
        old = self.kinds.get(key.kind, _NO_ENTRIES).pop(key.id)
        if old is None:
            return
        self._forget_gathered(key.kind)
        self.digest = (self.digest - old.hash) & DIGEST_MASK
        self.problems.pop(key, None)
        if isinstance(old, RouteEntry):
            self._displace(old)
        elif isinstance(old, ServiceEntry):
            yield from self._move_lodgers(key.id, old, None)
        elif isinstance(old, CredentialEntry):
            self.credentials.remove(old)

    def report(self, key: ResourceKey, reason: str) -> None:
        """Remember that something of a resource does not work, and say so once."""
        if key not in self.problems:
            log.error("%s: %s", key, reason)
        self.problems[key] = reason

    def note(self, key: ResourceKey, reason: str | None) -> None:
        """Remember what does not work of a resource, or (None) that all of it does."""
        if reason is None:
            self.problems.pop(key, None)
        else:
            self.report(key, reason)

    def drain(self) -> Iterator[None]:
        """Steps that let go of everything, for tables nobody uses any more: freed at once, they would stop the loop."""
        yield from self.index.drain()
        yield from self.credentials.drain()
        for of_kind in self.kinds.values():
            yield from of_kind.drain()
        for lodgers in self._lodgers.values():
            yield from drained(lodgers)
        yield from drained(self._lodgers)
        yield from drained(self.problems)

    def _forget_gathered(self, kind: str) -> None:
        if kind == GLOBAL_RULES:
            self._global_rules = None

    def _of_kind(self, kind: str) -> PartedDict[str, Entry]:
        found = self.kinds.get(kind)
        if found is None:
            found = self.kinds[kind] = PartedDict()
        return found

    def _place_unopened(self, route: RouteEntry) -> bool:
        """Put a route in the index as it is; False when it has to be placed at once."""
        if route.routing.service_id is not None and not route.routing.hosts:
            return False
        try:
            return self.index.insert_unopened(route)
        except Exception:
            log.debug("%s cannot be put in unopened", route.key, exc_info=True)
            return False

    def _place(self, route: RouteEntry) -> None:
        """Put a route where its uris and hosts say."""
        hosts, service_id = route.routing.hosts, route.routing.service_id
        if not hosts and service_id is not None:
            self._lodgers.setdefault(service_id, {})[route.id] = route
            hosts = self._hosts_of(self.find(ResourceKey("services", service_id)))
        try:
            self.index.insert(route.id, route.routing, hosts, route)
        except Exception as error:
            # Whatever the index cannot take: the others must be served.
            self.index.remove(route.id)
            self.report(route.key, f"cannot be routed to: {error}")

    def _show(self, entry: CredentialEntry) -> None:
        """Let those in who show what this resource says; nobody, where it cannot be read."""
        try:
            self.credentials.put(entry)
        except Exception as error:
            entry.shows = ()
            self.report(entry.key, f"cannot be read: {error}")

    def _displace(self, route: Entry | None) -> None:
        """Take a route out of the index, and from under its service."""
        if not isinstance(route, RouteEntry):
            return
        self.index.remove(route.id, route)
        service_id = route.routing.service_id
        lodgers = None if service_id is None else self._lodgers.get(service_id)
        if service_id is not None and lodgers is not None:
            lodgers.pop(route.id, None)
            if not lodgers:
                del self._lodgers[service_id]

    def _move_lodgers(self, service_id: str, old: Entry | None, new: Entry | None) -> Iterator[None]:
        """Put the routes that stand under a service's hosts where its new ones say, one in each step."""
        lodgers = self._lodgers.get(service_id, _NO_ROUTES)
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


def _carried_on(held: Entry | None, new: Entry) -> Entry:
    if held is None:
        return new
    if held.hash != new.hash:
        new.replaces(held)
        return new
    held.source, held.place = new.source, new.place
    return held
