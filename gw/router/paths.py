"""Paths to routes: exact ones first, then level by level from the longest literal head to the shortest.

A key is a path, or in radixtree_host_uri a host and a path; this file does not tell the two apart. `first` answers a
request, `candidates` yields all that could, in the order that `match.py` defines.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from itertools import chain
from typing import Any, Generic, TypeVar, cast

from gw.parted import DRAINED, PART_MASK, PartedDict
from gw.router.captures import Captures
from gw.router.leaf import Leaf
from gw.router.match import Fits, Match
from gw.router.pattern import Pattern, Shape
from gw.router.prefixes import PrefixTable

T = TypeVar("T")


class Level(Leaf[T]):
    """All uris with one literal head: prefixes in the leaf itself, the others in `captures`."""

    __slots__ = ("captures",)

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.captures: Captures[T] | None = None

    def __bool__(self) -> bool:
        return bool(self.entries) or self.by_host is not None or self.captures is not None

    def settle(self) -> None:
        """See `Leaf.settle`."""
        super().settle()
        if self.captures is not None:
            self.head = None

    def matches(self, rest: str, host: str) -> Iterable[Match[T]]:
        """The matches that let `host` in and fit what follows the head, in order. Prefixes are not yet bound."""
        captured = self.captures.find(rest, host) if self.captures is not None else None
        if not captured:
            return self.fitting(host)
        if not self.entries and self.by_host is None:
            return captured
        return merge(captured, self.fitting(host))

    def first(self, text: str, host: str, method: int, fits: Fits[T], request: Any) -> Match[T] | None:
        """The first of `matches` for a method's bit that fits; `text` is the whole key of the request."""
        rest, captures = text[len(self.key) :], self.captures
        # PERF: `matches` in place for levels of nothing but captures, as most are that come here (bench/router.py).
        if captures is not None and not self.entries and self.by_host is None:
            matches: Iterable[Match[T]] = captures.find(rest, host)
        else:
            matches = self.matches(rest, host)
        for match in matches:
            if match.methods & method and (not match.is_conditional or fits(match.target, request)):
                return match
        return None

    def drain(self) -> Iterator[None]:
        """See `Leaf.drain`."""
        yield from super().drain()
        if self.captures is not None:
            yield from self.captures.drain()

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        super().check()
        if self.captures is not None:
            self.captures.check()


class PathIndex(Generic[T]):
    """Routes by key. `hosts` given with a match are a filter inside its place; `()` where the key holds the host.

    A route that is alone under each of its keys can be put there unopened, as it is: `open` is called when a search
    first meets it, and adds its matches, which takes the place of the route.
    """

    __slots__ = ("_exact", "_exact_parts", "_fits", "_levels", "_open", "_with_parameters")

    def __init__(self, with_parameters: bool, open: Callable[[T], None], fits: Fits[T]) -> None:
        self._exact: PartedDict[str, Any] = PartedDict()  # Leaf, or a route unopened
        self._exact_parts = self._exact.parts
        self._levels: PrefixTable[Level[T]] = PrefixTable(Level, open)
        self._open = open
        self._fits = fits
        self._with_parameters = with_parameters

    def __bool__(self) -> bool:
        return bool(self._exact) or len(self._levels) > 0

    def add(self, key: str, pattern: Pattern, match: Match[T], hosts: Sequence[str]) -> None:
        """Put a match in place. `key` is the pattern's head, with whatever stands before it."""
        if pattern.shape is Shape.EXACT:
            self._leaf(key, match.target).add(match, hosts)
            return
        level = self._level(key, match.target)
        if pattern.shape is Shape.PREFIX:
            level.add(match, hosts)
            return
        if level.captures is None:
            level.captures = Captures(self._with_parameters)
        level.captures.add(pattern, match, hosts)
        level.settle()

    def holds(self, key: str, is_prefix: bool) -> Any:
        """What stands under a key: an unopened route, or something else that is not None; None: nothing."""
        return self._levels.get(key) if is_prefix else self._exact.get(key)

    def add_unopened(self, key: str, is_prefix: bool, target: T) -> bool:
        """Put a route under a key; False when something stands there already."""
        if is_prefix:
            return self._levels.insert_unopened(key, target)
        return self._exact.setdefault(key, target) is target

    def drop_unopened(self, key: str, is_prefix: bool) -> None:
        """Undo `add_unopened`."""
        if is_prefix:
            self._levels.remove(key)
        else:
            self._exact.pop(key)

    def _opened(self, key: str, unopened: T) -> Leaf[T]:
        self._open(unopened)
        return cast(Leaf[T], self._exact.get(key))

    def _leaf(self, key: str, target: T) -> Leaf[T]:
        """The leaf at a key, for a match of `target`; what stands there unopened is opened first."""
        leaf = self._exact.get(key)
        if leaf.__class__ is not Leaf:
            if leaf is not None and leaf is not target:
                return self._opened(key, leaf)
            leaf = Leaf(key)
            self._exact[key] = leaf
        return cast(Leaf[T], leaf)

    def _level(self, key: str, target: T) -> Level[T]:
        """As `_leaf`, among the levels."""
        level = self._levels.get(key)
        if level.__class__ is Level:
            return cast(Level[T], level)
        if level is not None and level is not target:
            self._open(level)
            return cast(Level[T], self._levels.get(key))
        made: Level[T] = Level(key)
        if level is None:
            self._levels.insert(made)
        else:
            self._levels.replace(made)
        return made

    def remove(self, key: str, pattern: Pattern, match: Match[T], hosts: Sequence[str]) -> None:
        """Undo `add`, and drop what is empty then."""
        if pattern.shape is Shape.EXACT:
            leaf = cast(Leaf[T], self._exact.get(key))
            leaf.remove(match, hosts)
            if not leaf:
                self._exact.pop(key)
            return
        level = self._levels.get(key)
        assert level is not None
        if pattern.shape is Shape.PREFIX:
            level.remove(match, hosts)
        else:
            assert level.captures is not None
            level.captures.remove(pattern, match, hosts)
            level.captures = level.captures or None
            level.settle()
        if not level:
            self._levels.remove(key)

    def first(self, text: str, host: str, method: int, request: Any) -> Match[T] | None:
        """The first match for a key, a host (where hosts are a filter) and a method's bit that `request` fits."""
        # PERF: candidates() with the method asked, unrolled, PartedDict.get in place; bench/router.py has the gain, and
        # test_match_is_the_first_candidate holds the two equal.
        leaf = self._exact_parts[hash(text) & PART_MASK].get(text)
        if leaf is not None:
            if leaf.__class__ is not Leaf:
                leaf = self._opened(text, leaf)
            match = leaf.head
            if match is not None and match.methods & method:
                return match
            for match in leaf.fitting(host):
                if match.methods & method and (not match.is_conditional or self._fits(match.target, request)):
                    return match
        level = self._levels.longest(text)
        while level is not None:
            match = level.head
            if match is None or not match.methods & method:
                match = level.first(text, host, method, self._fits, request)
            if match is not None:
                if match.names is None or match.params is not None:
                    return match
                return match.bind((text[len(level.key) :],))
            level = self._levels.parent(level)
        return None

    def candidates(self, text: str, host: str) -> Iterator[Match[T]]:
        """All matches for a key and a host, of any method, in order, bound to what they capture."""
        leaf = self._exact.get(text)
        if leaf is not None:
            if leaf.__class__ is not Leaf:
                leaf = self._opened(text, leaf)
            yield from leaf.fitting(host)
        level = self._levels.longest(text)
        while level is not None:
            rest = text[len(level.key) :]
            for match in level.matches(rest, host):
                yield match if match.names is None or match.params is not None else match.bind((rest,))
            level = self._levels.parent(level)

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        for leaves in self._exact.batches():
            for leaf in leaves:
                if leaf.__class__ is Leaf:
                    leaf.check()
        self._levels.check()
        for level in self._levels:
            level.check()

    def drain(self) -> Iterator[None]:
        """Steps that let go of everything: what would be freed at once otherwise, while a loop waits."""
        for count, leaf in enumerate(chain(*map(_popped, self._exact_parts), self._levels.drain())):
            if isinstance(leaf, Leaf):
                yield from leaf.drain()
            if count % DRAINED == 0:
                yield


def _popped(items: dict[str, Any]) -> Iterator[Any]:
    while items:
        yield items.popitem()[1]
