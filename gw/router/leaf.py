"""The routes that share one place among the paths, in order, told apart by host where hosts are a filter.

A leaf keeps one sorted list per host pattern, so that a request meets only routes whose host fits, and merges those
lists when more than one fits. In radixtree_host_uri the host is part of the path's key, and all are in `entries`.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain
from typing import Final, Generic, TypeVar, cast

from gw.parted import DRAINED, drained
from gw.router.hosts import is_wildcard, reversed_suffix
from gw.router.match import Match
from gw.router.prefixes import Node, PrefixTable

T = TypeVar("T")

# Up to here, joining and sorting is cheaper than a lazy merge; beyond, one request must not pay for all of them.
SORT_ENTRIES: Final = 64
# Longer than this, a change must not copy them all.
TUPLE_ENTRIES: Final = 16


class Leaf(Node, Generic[T]):
    """What one key leads to."""

    __slots__ = ("by_host", "entries", "head")

    def __init__(self, key: str) -> None:
        super().__init__(key)
        # PERF: the first entry where entries are all there is and it asks for no more, so that most requests go no
        # further (bench/router.py).
        self.head: Match[T] | None = None
        # Of any host, sorted. A tuple while they are few, as they mostly are: half the memory of a list, and nearer.
        self.entries: Sequence[Match[T]] = ()
        self.by_host: HostLists[T] | None = None

    def __bool__(self) -> bool:
        return bool(self.entries) or self.by_host is not None

    def add(self, match: Match[T], hosts: Sequence[str]) -> None:
        """Put a match in its place, once per host; `hosts` empty: for any."""
        if not hosts:
            self.entries = added(self.entries, match)
        elif self.by_host is None:
            self.by_host = HostLists()
        for host in hosts:
            assert self.by_host is not None
            self.by_host.add(match, host)
        self.settle()

    def remove(self, match: Match[T], hosts: Sequence[str]) -> None:
        """Undo `add`; the match is the very object that was added."""
        if not hosts:
            self.entries = removed(self.entries, match)
        for host in hosts:
            assert self.by_host is not None
            self.by_host.remove(match, host)
        self.by_host = self.by_host or None
        self.settle()

    def settle(self) -> None:
        """Set what follows from the rest; after every change."""
        first = self.entries[0] if self.entries and self.by_host is None else None
        self.head = None if first is None or first.is_conditional else first

    def fitting(self, host: str) -> Iterable[Match[T]]:
        """The matches that let `host` in, in order, each once."""
        if self.by_host is None:
            return self.entries
        lists = self.by_host.fitting(host)
        if self.entries:
            lists.append(self.entries)
        if len(lists) < 2:
            return lists[0] if lists else ()
        if sum(map(len, lists)) <= SORT_ENTRIES:
            return _distinct(sorted(chain.from_iterable(lists)))
        return _distinct(merge(*lists))

    def drain(self) -> Iterator[None]:
        """Steps that let go of what may be many."""
        self.head = None
        if isinstance(self.entries, list):
            while self.entries:
                del self.entries[-DRAINED:]
                yield
        if self.by_host is not None:
            yield from self.by_host.drain()

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        assert self, "an empty leaf must go"
        check_sorted(self.entries)
        settled = self.head
        self.settle()
        assert self.head is settled
        if self.by_host is not None:
            self.by_host.check()


class HostLists(Generic[T]):
    """The matches of one leaf that are bound to hosts. A match with several hosts is in several lists."""

    __slots__ = ("_exact", "_suffixes")

    def __init__(self) -> None:
        self._exact: dict[str, Sequence[Match[T]]] = {}
        self._suffixes: PrefixTable[Leaf[T]] | None = None  # reversed ends of wildcards; most leaves have none

    def __bool__(self) -> bool:
        return bool(self._exact) or self._suffixes is not None

    def add(self, match: Match[T], host: str) -> None:
        """Put a match in place under one host or wildcard."""
        if not is_wildcard(host):
            self._exact[host] = added(self._exact.get(host, ()), match)
            return
        if self._suffixes is None:
            self._suffixes = PrefixTable(Leaf)
        key = reversed_suffix(host)
        suffix = self._suffixes.get(key)
        if suffix is None:
            suffix = Leaf(key)
            self._suffixes.insert(suffix)
        suffix.add(match, ())

    def remove(self, match: Match[T], host: str) -> None:
        """Undo `add`, and drop what is empty then."""
        if not is_wildcard(host):
            left = removed(self._exact[host], match)
            if left:
                self._exact[host] = left
            else:
                del self._exact[host]
            return
        assert self._suffixes is not None
        suffix = self._suffixes.get(reversed_suffix(host))
        assert suffix is not None
        suffix.remove(match, ())
        if not suffix:
            self._suffixes.remove(suffix.key)
            self._suffixes = self._suffixes if len(self._suffixes) else None

    def fitting(self, host: str) -> list[Sequence[Match[T]]]:
        """The lists of all patterns that let `host` in."""
        exact = self._exact.get(host)
        lists = [] if exact is None else [exact]
        if self._suffixes is not None:
            suffix = self._suffixes.longest(host[::-1])
            while suffix is not None:
                lists.append(suffix.entries)
                suffix = self._suffixes.parent(suffix)
        return lists

    def drain(self) -> Iterator[None]:
        """Steps that let go of everything."""
        yield from drained(self._exact)
        for number, suffix in enumerate(self._suffixes.drain() if self._suffixes is not None else ()):
            yield from suffix.drain()
            if number % DRAINED == 0:
                yield

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        assert self, "empty lists must go"
        for matches in self._exact.values():
            assert matches
            check_sorted(matches)
        if self._suffixes is not None:
            assert len(self._suffixes)
            self._suffixes.check()
            for suffix in self._suffixes:
                suffix.check()


def added(matches: Sequence[Match[T]], match: Match[T]) -> Sequence[Match[T]]:
    """A sorted sequence with a match in its place: a new tuple, or the list that was given."""
    if isinstance(matches, tuple):
        if not matches:
            return (match,)
        matches = [*matches, match]
        matches.sort()
        return tuple(matches) if len(matches) <= TUPLE_ENTRIES else matches
    insort(cast(list[Match[T]], matches), match)
    return matches


def removed(matches: Sequence[Match[T]], match: Match[T]) -> Sequence[Match[T]]:
    """A sorted sequence without a match that is in it: a new tuple, or the list that was given."""
    index = bisect_left(matches, match)
    assert matches[index] is match
    if isinstance(matches, tuple):
        return matches[:index] + matches[index + 1 :]
    del cast(list[Match[T]], matches)[index]
    return matches if len(matches) > TUPLE_ENTRIES // 2 else tuple(matches)


def check_sorted(matches: Sequence[Match[T]]) -> None:
    """Assert that a list is in order and holds each once."""
    keys = [match[:4] for match in matches]
    assert keys == sorted(set(keys))


def _distinct(matches: Iterable[Match[T]]) -> Iterator[Match[T]]:
    """Drop repetitions from a sorted run: the same route let in by two of its hosts."""
    last = None
    for match in matches:
        if match is not last:
            yield match
        last = match
