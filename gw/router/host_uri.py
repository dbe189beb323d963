"""radixtree_host_uri: the host leads, then the path; what no host has claimed is left to routes without hosts.

A host and a path make one key, so any number of hosts shares one table and a host costs nothing of its own. A request
asks for its own host's key, then for those of the wildcards it ends in, longest first, then for the bare path.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

from gw.parted import PART_MASK, PartedDict
from gw.router.hosts import is_wildcard, reversed_suffix
from gw.router.index import Place, RouterIndex
from gw.router.match import OTHER_METHOD, Fits, Match
from gw.router.paths import PathIndex
from gw.router.pattern import Pattern
from gw.router.prefixes import Node, PrefixTable

T = TypeVar("T")

# Between host and path in a key. No host name that was checked holds it, so a key has one reading.
SEPARATOR: Final = "\0"


class Wildcard(Node):
    """A host pattern with a star, under its reversed end."""

    __slots__ = ("before",)

    def __init__(self, host: str) -> None:
        super().__init__(reversed_suffix(host))
        self.before = host + SEPARATOR  # what stands before the path in its keys


class HostUriRouter(RouterIndex[T]):
    """See `RouterIndex`."""

    __slots__ = ("_bound", "_free", "_uses", "_uses_parts", "_wildcards")

    def __init__(self, fits: Fits[T]) -> None:
        super().__init__(with_parameters=False)
        self._bound: PathIndex[T] = PathIndex(False, self._open, fits)  # by host and path
        self._free: PathIndex[T] = PathIndex(False, self._open, fits)  # by path: routes without hosts
        self._uses: PartedDict[str, int] = PartedDict()  # how many uris name this host or wildcard
        self._uses_parts = self._uses.parts
        self._wildcards: PrefixTable[Wildcard] | None = None  # most configurations have none

    def match(self, path: str, host: str, method: str, request: Any = None) -> Match[T] | None:
        """See `RouterIndex.match`."""
        bit = self._method_bits.get(method, OTHER_METHOD)
        if host in self._uses_parts[hash(host) & PART_MASK]:
            match = self._bound.first(host + SEPARATOR + path, host, bit, request)
            if match is not None:
                return match
        if self._wildcards is not None:
            wildcard = self._wildcards.longest(host[::-1])
            while wildcard is not None:
                match = self._bound.first(wildcard.before + path, host, bit, request)
                if match is not None:
                    return match
                wildcard = self._wildcards.parent(wildcard)
        return self._free.first(path, host, bit, request)

    def candidates(self, path: str, host: str) -> Iterator[Match[T]]:
        """See `RouterIndex.candidates`. A route that two of its hosts let in comes twice."""
        if self._uses.get(host):
            yield from self._bound.candidates(host + SEPARATOR + path, host)
        if self._wildcards is not None:
            wildcard = self._wildcards.longest(host[::-1])
            while wildcard is not None:
                yield from self._bound.candidates(wildcard.before + path, host)
                wildcard = self._wildcards.parent(wildcard)
        yield from self._free.candidates(path, host)

    def check(self) -> None:
        """See `RouterIndex.check`."""
        self._bound.check()
        self._free.check()
        wildcards = list(self._wildcards or ())
        if self._wildcards is not None:
            self._wildcards.check()
            assert wildcards
        assert (bool(self._bound) or bool(self._free)) == bool(len(self))
        assert bool(self._bound) == bool(self._uses)
        assert {wildcard.before for wildcard in wildcards} == {
            host + SEPARATOR for part in self._uses.parts for host in part if is_wildcard(host)
        }

    def drain(self) -> Iterator[None]:
        """See `RouterIndex.drain`."""
        yield from super().drain()
        yield from self._bound.drain()
        yield from self._free.drain()
        yield from self._uses.drain()

    def _add(self, pattern: Pattern, match: Match[T]) -> None:
        self._claim(match.hosts)
        self._settle(pattern, match)

    def _settle(self, pattern: Pattern, match: Match[T]) -> None:
        if not match.hosts:
            self._free.add(pattern.head, pattern, match, ())
        for host in match.hosts:
            self._bound.add(host + SEPARATOR + pattern.head, pattern, match, ())

    def _places(self, head: str, is_prefix: bool, hosts: Sequence[str]) -> list[Place[T]]:
        if not hosts:
            return [(self._free, head, is_prefix)]
        return [(self._bound, host + SEPARATOR + head, is_prefix) for host in hosts]

    def _claim(self, hosts: Sequence[str]) -> None:
        for host in hosts:
            uses = self._uses.get(host) or 0
            self._uses[host] = uses + 1
            if not uses and is_wildcard(host):
                self._wildcards = self._wildcards or PrefixTable(Wildcard)
                self._wildcards.insert(Wildcard(host))

    def _remove(self, pattern: Pattern, match: Match[T]) -> None:
        if not match.hosts:
            self._free.remove(pattern.head, pattern, match, ())
        for host in match.hosts:
            self._bound.remove(host + SEPARATOR + pattern.head, pattern, match, ())
            uses = self._uses.get(host) or 0
            if uses > 1:
                self._uses[host] = uses - 1
                continue
            self._uses.pop(host)
            if is_wildcard(host):
                assert self._wildcards is not None
                self._wildcards.remove(reversed_suffix(host))
                self._wildcards = self._wildcards or None
