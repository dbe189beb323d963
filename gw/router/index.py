"""What every router has in common: routes come and go by id, each with several uris, hosts and methods.

A route costs what its own keys cost, whatever the number of routes. The index holds no state but the routes in it:
any sequence of inserts and removes that leads to the same routes leads to the same answers.

A whole configuration is put in unopened: a route that is alone under its keys stands there as it is, and becomes
matches when a request first comes to one of them. So an index of 100,000 routes is there before its routes are.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Generic, Protocol, TypeAlias, TypeVar, cast

from gw.model.routing import RouteKey
from gw.parted import PartedDict
from gw.router.hosts import normalise_pattern
from gw.router.match import ANY_METHOD, OTHER_METHOD, Match
from gw.router.paths import PathIndex
from gw.router.pattern import Pattern, parse_uri, plain_head

T = TypeVar("T")

# One key of a route: in which table, the key itself, and whether as a prefix.
Place: TypeAlias = tuple[PathIndex[T], str, bool]


class Unopened(Protocol):
    """What a target must tell of itself to be put in unopened. Both stay as they are for as long as it is in."""

    @property
    def id(self) -> str: ...
    @property
    def routing(self) -> RouteKey: ...


class RouterIndex(ABC, Generic[T]):
    """Routes of one mode. Made by `build_router`; not safe to change while a `candidates` iterator is in use."""

    __slots__ = ("_method_bits", "_placed", "_unopened", "_with_parameters")

    def __init__(self, with_parameters: bool) -> None:
        self._with_parameters = with_parameters
        self._placed: PartedDict[str, tuple[Match[T], ...]] = PartedDict()
        self._unopened = 0  # how many routes stand under their keys as they are
        self._method_bits: dict[str, int] = {}  # a bit for each method that a route has ever named

    def __len__(self) -> int:
        """How many routes are in the index; those switched off are not."""
        return len(self._placed) + self._unopened

    def insert(self, id: str, key: RouteKey, hosts: Sequence[str], target: T) -> None:
        """Put a route in, in place of the one with that id if there is one.

        `hosts` are the effective ones, the route's or its service's, and `key.hosts` is not looked at; empty: any
        host. A route with status 0 is not in the index.
        """
        self.remove(id)
        if key.status == 0 or not key.uris:
            return
        matches = self._matches(id, key, hosts, target)
        for pattern, match in matches:
            self._add(pattern, match)
        self._placed[id] = tuple(match for _, match in matches)

    def insert_unopened(self, target: T) -> bool:
        """Put in a route that is not there yet, as it is, under its own hosts. See `Unopened`.

        False, and nothing is done, when it must be opened at once: a uri is more than a path or a prefix, or it shares
        a key with another route.
        """
        key = cast(Unopened, target).routing
        if key.status == 0 or not key.uris:
            return True
        hosts = _names(key.hosts) if key.hosts else ()
        uris = key.uris if len(key.uris) == 1 else tuple(dict.fromkeys(key.uris))
        places: list[Place[T]] = []
        for uri in uris:
            head = plain_head(uri, self._with_parameters)
            if head is None:
                return False
            places += self._places(*head, hosts)
        for number, (index, text, is_prefix) in enumerate(places):
            if not index.add_unopened(text, is_prefix, target):
                for taken, text, is_prefix in places[:number]:
                    taken.drop_unopened(text, is_prefix)
                return False
        for _ in uris:
            self._claim(hosts)
        if key.methods:
            # Before a request asks for its method: the bits of those nobody names are one.
            self._bits_of(key.methods)
        self._unopened += 1
        return True

    def remove(self, id: str, unopened: T | None = None) -> bool:
        """Take a route out. False when there is none with that id, which is no error.

        `unopened`: the target by which it may stand in the index without having been opened.
        """
        matches = self._placed.pop(id)
        if matches is None and unopened is not None and self._is_unopened(unopened):
            self._open(unopened)
            matches = self._placed.pop(id)
        if matches is None:
            return False
        for match in matches:
            self._remove(parse_uri(match.uri, self._with_parameters), match)
        return True

    def drain(self) -> Iterator[None]:
        """Steps that let go of everything. For an index that nobody uses any more: freed at once, it stops a loop."""
        return self._placed.drain()

    @abstractmethod
    def match(self, path: str, host: str, method: str, request: Any = None) -> Match[T] | None:
        """The route for a request.

        `path` is the decoded, canonical path; `host` is in lower case without port, "" when there is none. `request` is
        passed on as it is to `fits`, when a conditional route is next in the order; what that raises is passed on, too.
        """

    @abstractmethod
    def candidates(self, path: str, host: str) -> Iterator[Match[T]]:
        """All routes for a path and a host, of any method (`allows`), in the order in which they are to be tried.

        For conditions the index does not know (vars, remote_addr): the first that fits them all is the route, which is
        what `match` answers.
        """

    @abstractmethod
    def check(self) -> None:
        """Assert what must always hold, among it that an index without routes is empty. For tests: walks everything."""

    def allows(self, match: Match[T], method: str) -> bool:
        """Whether a candidate of this index is for a method."""
        return bool(match.methods & self._method_bits.get(method, OTHER_METHOD))

    @abstractmethod
    def _add(self, pattern: Pattern, match: Match[T]) -> None:
        """Put one uri of a route in place."""

    @abstractmethod
    def _remove(self, pattern: Pattern, match: Match[T]) -> None:
        """Undo `_add`."""

    @abstractmethod
    def _settle(self, pattern: Pattern, match: Match[T]) -> None:
        """Put one uri of a route in the place that the route holds unopened."""

    @abstractmethod
    def _places(self, head: str, is_prefix: bool, hosts: Sequence[str]) -> list[Place[T]]:
        """The keys of a uri for normalised hosts."""

    @abstractmethod
    def _claim(self, hosts: Sequence[str]) -> None:
        """Take note that a uri is bound to these hosts; part of `_add`, and not of `_settle`."""

    def _matches(self, id: str, key: RouteKey, hosts: Sequence[str], target: T) -> list[tuple[Pattern, Match[T]]]:
        names = _names(hosts)
        methods = self._bits_of(key.methods) if key.methods else ANY_METHOD
        matches = []
        for uri in dict.fromkeys(key.uris):
            pattern = parse_uri(uri, self._with_parameters)
            length = len(uri) if uri.isascii() else len(uri.encode("utf-8", "surrogatepass"))
            match = Match(
                -key.priority, -length, id, uri, names, methods, pattern.names, key.is_conditional, target
            )
            matches.append((pattern, match))
        return matches

    def _open(self, target: T) -> None:
        """Put the matches of a route where it stands unopened."""
        unopened = cast(Unopened, target)
        matches = self._matches(unopened.id, unopened.routing, unopened.routing.hosts, target)
        for pattern, match in matches:
            self._settle(pattern, match)
        self._placed[unopened.id] = tuple(match for _, match in matches)
        self._unopened -= 1

    def _is_unopened(self, target: T) -> bool:
        key = cast(Unopened, target).routing
        head = plain_head(key.uris[0], self._with_parameters) if key.status and key.uris else None
        if head is None:
            return False
        index, text, is_prefix = self._places(*head, _names(key.hosts))[0]
        return index.holds(text, is_prefix) is target

    def _bits_of(self, methods: Sequence[str]) -> int:
        bits = 0
        for method in methods:
            bit = self._method_bits.get(method)
            if bit is None:
                bit = self._method_bits[method] = OTHER_METHOD << (len(self._method_bits) + 1)
            bits |= bit
        return bits


def _names(hosts: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(normalise_pattern, hosts))) if hosts else ()
