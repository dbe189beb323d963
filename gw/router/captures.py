"""Uris with parameters or inner stars that share one literal head: which of them fit the rest of a path.

Those whose rest is a row of segments stand in a tree by segment, where a step is a literal, a parameter, or the end
`*rest`; a search follows all branches that fit and visits no more nodes than the routes made. Globs are tried one by
one: they are rare, and each costs a regular expression that cannot backtrack.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from gw.parted import DRAINED
from gw.router.leaf import Leaf
from gw.router.match import Match
from gw.router.pattern import OPTIONAL_SLASH, Pattern, Shape, compile_glob

T = TypeVar("T")

# Steps that are no literal. A segment never holds a slash, so these cannot be one.
PARAMETER: Final = "/:"
TAIL: Final = "/*"


class Step(Generic[T]):
    """A node of the tree: where each next segment leads, and the routes whose uri ends here."""

    __slots__ = ("leaf", "literals", "parameter", "tail")

    def __init__(self) -> None:
        self.literals: dict[str, Step[T]] | None = None
        self.parameter: Step[T] | None = None
        self.tail: Step[T] | None = None  # nothing below it but its leaf
        self.leaf: Leaf[T] | None = None

    def __bool__(self) -> bool:
        return not (self.leaf is None and self.literals is None and self.parameter is None and self.tail is None)

    def below(self, name: str) -> "Step[T] | None":
        """Where a step leads."""
        if name is PARAMETER:
            return self.parameter
        if name is TAIL:
            return self.tail
        return None if self.literals is None else self.literals.get(name)

    def put(self, name: str, step: "Step[T]") -> "Step[T]":
        """Let a step lead somewhere."""
        if name is PARAMETER:
            self.parameter = step
        elif name is TAIL:
            self.tail = step
        elif self.literals is None:
            self.literals = {name: step}
        else:
            self.literals[name] = step
        return step

    def drop(self, name: str) -> None:
        """Let a step lead nowhere again."""
        if name is PARAMETER:
            self.parameter = None
        elif name is TAIL:
            self.tail = None
        else:
            assert self.literals is not None
            del self.literals[name]
            self.literals = self.literals or None

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        assert self, "an empty step must go"
        if self.leaf is not None:
            self.leaf.check()
        assert self.literals is None or self.literals
        for step in (self.parameter, self.tail, *(self.literals or {}).values()):
            if step is not None:
                step.check()


class Glob(NamedTuple, Generic[T]):
    """All routes with one glob."""

    regex: re.Pattern[str]
    leaf: Leaf[T]


class Captures(Generic[T]):
    """The uris with parameters or inner stars below one head."""

    __slots__ = ("_globs", "_root", "_with_parameters")

    def __init__(self, with_parameters: bool) -> None:
        self._root: Step[T] = Step()
        self._globs: dict[str, Glob[T]] = {}
        self._with_parameters = with_parameters

    def __bool__(self) -> bool:
        return bool(self._root) or bool(self._globs)

    def add(self, pattern: Pattern, match: Match[T], hosts: Sequence[str]) -> None:
        """Put a match in place by what follows the head of its uri."""
        if pattern.shape is Shape.GLOB:
            glob = self._globs.get(pattern.rest)
            if glob is None:
                glob = self._globs[pattern.rest] = Glob(
                    compile_glob(pattern, self._with_parameters), Leaf(pattern.rest)
                )
            glob.leaf.add(match, hosts)
            return
        for row in _rows(pattern.rest):
            step = self._root
            for name in row:
                following = step.below(name)
                step = step.put(name, Step()) if following is None else following
            if step.leaf is None:
                step.leaf = Leaf(pattern.rest)
            step.leaf.add(match, hosts)

    def remove(self, pattern: Pattern, match: Match[T], hosts: Sequence[str]) -> None:
        """Undo `add`, and prune what is empty then."""
        if pattern.shape is Shape.GLOB:
            leaf = self._globs[pattern.rest].leaf
            leaf.remove(match, hosts)
            if not leaf:
                del self._globs[pattern.rest]
            return
        for row in _rows(pattern.rest):
            self._remove_row(row, match, hosts)

    def find(self, rest: str, host: str) -> list[Match[T]]:
        """The matches that fit the path behind the head, bound to what they capture, sorted."""
        found: list[Match[T]] = []
        if not self._walk_straight(rest, host, found):
            self._walk(rest, host, found)
        if self._globs:
            for glob in self._globs.values():
                fit = glob.regex.match(rest)
                if fit:
                    _collect(glob.leaf, host, fit.groups(), found)
        if len(found) > 1:
            found.sort()
        return found

    def drain(self) -> Iterator[None]:
        """Steps that let go of everything, a few nodes at a time."""
        waiting = [self._root]
        self._root = Step()
        count = 0
        while waiting:
            step = waiting.pop()
            if step.literals:
                waiting.append(step)
                waiting.append(step.literals.popitem()[1])
            else:
                waiting += [following for following in (step.parameter, step.tail) if following is not None]
            count += 1
            if count % DRAINED == 0:
                yield

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        assert self, "an empty table must go"
        if self._root:
            self._root.check()
        for glob in self._globs.values():
            glob.leaf.check()

    def _walk_straight(self, rest: str, host: str, found: list[Match[T]]) -> bool:
        """`_walk` where no more than one way is open at each segment; False, and nothing found, where more are."""
        # PERF: nearly all paths, at two thirds of the cost (bench/router.py). Held equal by
        # test_history_does_not_matter.
        step = self._root
        values: list[str] = []
        for segment in rest.split("/"):
            if step.tail is not None:
                return False
            literals, parameter = step.literals, step.parameter
            if parameter is None:
                following = None if literals is None else literals.get(segment)
            elif literals is not None and segment in literals:
                return False
            else:
                following = parameter if segment else None
                values.append(segment)
            if following is None:
                return True
            step = following
        leaf = step.leaf
        if leaf is not None:
            for match in leaf.entries if leaf.by_host is None else leaf.fitting(host):
                found.append(match.bind(values))
        return True

    def _walk(self, rest: str, host: str, found: list[Match[T]]) -> None:
        segments = rest.split("/")
        end = len(segments)
        step, index = self._root, 0
        values: tuple[str, ...] = ()
        others: list[tuple[Step[T], int, tuple[str, ...]]] = []  # ways not taken yet
        while True:
            following = None
            if index == end:
                if step.leaf is not None:
                    _collect(step.leaf, host, values, found)
            else:
                segment = segments[index]
                if step.tail is not None and step.tail.leaf is not None:
                    _collect(step.tail.leaf, host, (*values, "/".join(segments[index:])), found)
                index += 1
                if step.literals is not None:
                    following = step.literals.get(segment)
                if step.parameter is not None and segment:
                    if following is None:
                        following, values = step.parameter, (*values, segment)
                    else:
                        others.append((step.parameter, index, (*values, segment)))
            if following is not None:
                step = following
            elif others:
                step, index, values = others.pop()
            else:
                return

    def _remove_row(self, row: Sequence[str], match: Match[T], hosts: Sequence[str]) -> None:
        way = [self._root]
        for name in row:
            following = way[-1].below(name)
            assert following is not None
            way.append(following)
        leaf = way[-1].leaf
        assert leaf is not None
        leaf.remove(match, hosts)
        way[-1].leaf = leaf or None
        while len(way) > 1 and not way[-1]:
            way.pop()
            way[-1].drop(row[len(way) - 1])


def _collect(leaf: Leaf[T], host: str, values: Sequence[str], found: list[Match[T]]) -> None:
    for match in leaf.entries if leaf.by_host is None else leaf.fitting(host):
        found.append(match.bind(values))


def _rows(rest: str) -> list[list[str]]:
    """The rows of steps a uri stands for: one, or two when it ends in an optional slash."""
    segments = rest.split("/")
    optional = segments[-1] == OPTIONAL_SLASH
    if optional:
        segments.pop()
    row = [PARAMETER if segment.startswith(":") else segment for segment in segments]
    if row[-1].startswith("*"):
        row[-1] = TAIL
    return [row, [*row, ""]] if optional else [row]
