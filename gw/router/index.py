"""What every router has in common: routes come and go by id, each with several uris, hosts and methods.

A route costs what its own keys cost, whatever the number of routes. The index holds no state but the routes in it:
any sequence of inserts and removes that leads to the same routes leads to the same answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

from gw.model.routing import RouteKey
from gw.router.hosts import normalise_pattern
from gw.router.match import ANY_METHOD, OTHER_METHOD, Match
from gw.router.pattern import Pattern, parse_uri

T = TypeVar("T")


class RouterIndex(ABC, Generic[T]):
    """Routes of one mode. Made by `build_router`; not safe to change while a `candidates` iterator is in use."""

    __slots__ = ("_method_bits", "_placed", "_with_parameters")

    def __init__(self, with_parameters: bool) -> None:
        self._with_parameters = with_parameters
        self._placed: dict[str, tuple[Match[T], ...]] = {}
        self._method_bits: dict[str, int] = {}  # a bit for each method that a route has ever named

    def __len__(self) -> int:
        """How many routes are in the index; those switched off are not."""
        return len(self._placed)

    def __contains__(self, id: str) -> bool:
        return id in self._placed

    def insert(self, id: str, key: RouteKey, hosts: Sequence[str], target: T) -> None:
        """Put a route in, in place of the one with that id if there is one.

        `hosts` are the effective ones, the route's or its service's, and `key.hosts` is not looked at; empty: any
        host. A route with status 0 is not in the index.
        """
        self.remove(id)
        if key.status == 0 or not key.uris:
            return
        names = tuple(dict.fromkeys(map(normalise_pattern, hosts))) if hosts else ()
        methods = self._bits_of(key.methods) if key.methods else ANY_METHOD
        matches = []
        for uri in dict.fromkeys(key.uris):
            pattern = parse_uri(uri, self._with_parameters)
            length = len(uri) if uri.isascii() else len(uri.encode("utf-8", "surrogatepass"))
            match = Match(-key.priority, -length, id, uri, names, methods, pattern.names, target)
            self._add(pattern, match)
            matches.append(match)
        self._placed[id] = tuple(matches)

    def remove(self, id: str) -> bool:
        """Take a route out. False when there is none with that id, which is no error."""
        matches = self._placed.pop(id, None)
        if matches is None:
            return False
        for match in matches:
            self._remove(parse_uri(match.uri, self._with_parameters), match)
        return True

    @abstractmethod
    def match(self, path: str, host: str, method: str) -> Match[T] | None:
        """The route for a request.

        `path` is the decoded, canonical path; `host` is in lower case without port, "" when there is none.
        """

    @abstractmethod
    def candidates(self, path: str, host: str) -> Iterator[Match[T]]:
        """All routes for a path and a host, of any method (`allows`), in the order in which they are to be tried.

        For conditions the index does not know (vars, remote_addr): the first that fits them all is the route.
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

    def _bits_of(self, methods: Sequence[str]) -> int:
        bits = 0
        for method in methods:
            bit = self._method_bits.get(method)
            if bit is None:
                bit = self._method_bits[method] = OTHER_METHOD << (len(self._method_bits) + 1)
            bits |= bit
        return bits
