"""The longest of many prefixes of a text, whatever their lengths: a sorted list, cut into short ones, and bisect.

All prefixes of a text sort at or before it, and any of them is also a prefix of every key between itself and the text.
So the greatest key that is not greater than the text is either the answer, or lies below the answer: then the answer
is the first among the keys that enclose it which fits. A node remembers its parent (the next shorter key that encloses
it); that memory is void once a key that encloses others comes or goes, and is then found again when needed.

Why this one: 100,000 prefixes, every one hit, this machine, microseconds a lookup in three sets (60 lengths spread
over API-like paths; 60 lengths on one chain of letters; up to 60 nested segments), and private memory:

    dict, every distinct length tried    2.4  2.4  3.7     4-7 MB   grows with the number of lengths
    dict, binary search on lengths       2.9  2.3  2.7   23-41 MB   Waldvogel's markers, kept apart from the keys
    compressed radix tree                2.6  5.4  5.4      23 MB   a step of Python per branch
    sorted list and bisect               1.2  1.1  1.2     1-2 MB   C compares the strings

It knows strings, not routes: heads of uris use it, and reversed host names.

A place may hold, instead of a node, something that is made into one when a search first comes there: `open` puts a node
in its place by `replace`. So 100,000 prefixes that nobody has asked for yet cost a string and two pointers each.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar, cast

# Keys in one short list at most: an insert moves 2 KB of pointers, and 100,000 keys make some 600 lists. From 96 to
# 1,024 lookups measure the same (their cost is cold strings, whose number is the same), above inserts get dearer.
CHUNK_KEYS: Final = 256


class Node:
    """A key; what it stands for is added by a subclass. `parent` is true while `seen` is the table's generation."""

    __slots__ = ("key", "parent", "seen")

    def __init__(self, key: str) -> None:
        self.key = key
        self.parent: Node | None = None
        self.seen = -1


N = TypeVar("N", bound=Node)


class PrefixTable(Generic[N]):
    """Nodes by prefix. Insert and remove cost a search and a short move, lookups a search."""

    __slots__ = ("_firsts", "_generation", "_keys", "_node_class", "_nodes", "_open", "_size")

    def __init__(self, node_class: type[N], open: Callable[[Any], None] | None = None) -> None:
        """All nodes are of `node_class` itself; `open` is for a table in which `insert_unopened` is used."""
        self._node_class = node_class
        self._open = open
        self._firsts: list[str] = []  # the least key of each short list
        self._keys: list[list[str]] = []
        self._nodes: list[list[Any]] = []  # side by side with the keys, so that C compares plain strings
        self._generation = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[N]:
        """The nodes; what is not opened is left out."""
        for nodes in self._nodes:
            yield from (node for node in nodes if node.__class__ is self._node_class)

    def get(self, key: str) -> Any:
        """What stands at exactly this key: a node, or something unopened as it is; None when there is nothing."""
        at, index = self._place_of(key)
        return None if at < 0 or self._keys[at][index] != key else self._nodes[at][index]

    def longest(self, text: str) -> N | None:
        """The node with the longest key that `text` begins with."""
        # PERF: _at_or_before in place; bench/router.py has the gain, test_longest_prefix the meaning.
        at = bisect_right(self._firsts, text) - 1
        if at < 0:
            return None
        keys = self._keys[at]
        index = bisect_right(keys, text) - 1
        node: N | None = self._nodes[at][index]
        if node.__class__ is not self._node_class:
            node = self._node(at, index)
        if text.startswith(keys[index]):
            return node
        while node is not None and not text.startswith(node.key):
            node = self.parent(node)
        return node

    def parent(self, node: N) -> N | None:
        """The node with the next shorter key that `node`'s begins with."""
        if node.seen != self._generation:
            node.parent = self._enclosing(node.key)
            node.seen = self._generation
        return cast(N | None, node.parent)

    def insert(self, node: N) -> None:
        """Add a node, in no table yet. Raises KeyError when its key is there."""
        if not self.insert_unopened(node.key, node):
            raise KeyError(node.key)

    def insert_unopened(self, key: str, unopened: Any) -> bool:
        """Put something in place that `open` will replace by a node. False when the key is there."""
        if not self._keys:
            self._firsts.append(key)
            self._keys.append([])
            self._nodes.append([])
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            at, index = 0, 0
            self._firsts[0] = key
        else:
            index = bisect_left(self._keys[at], key)
        keys = self._keys[at]
        if index < len(keys) and keys[index] == key:
            return False
        keys.insert(index, key)
        self._nodes[at].insert(index, unopened)
        self._size += 1
        self._forget_parents_below(key, at, index)
        if len(keys) > CHUNK_KEYS:
            self._split(at)
        return True

    def replace(self, node: N) -> None:
        """Put a node where its key stands already, with something unopened behind it."""
        at, index = self._place_of(node.key)
        self._nodes[at][index] = node

    def drain(self) -> Iterator[Any]:
        """Steps that let go of everything a little at a time, handing out what each place held."""
        self._firsts.clear()
        while self._nodes:
            self._keys.pop()
            yield from self._nodes.pop()
        self._size = 0

    def remove(self, key: str) -> None:
        """Take a key out. Raises KeyError when it is not there."""
        at = bisect_right(self._firsts, key) - 1
        index = bisect_left(self._keys[at], key) if at >= 0 else 0
        if at < 0 or index == len(self._keys[at]) or self._keys[at][index] != key:
            raise KeyError(key)
        self._forget_parents_below(key, at, index)
        node = self._nodes[at].pop(index)
        if node.__class__ is self._node_class:
            node.parent = None
        del self._keys[at][index]
        self._size -= 1
        if self._keys[at]:
            self._firsts[at] = self._keys[at][0]
        else:
            del self._firsts[at], self._keys[at], self._nodes[at]

    def check(self) -> None:
        """Assert what must always hold. For tests: walks everything."""
        flat = [key for keys in self._keys for key in keys]
        assert flat == sorted(set(flat))
        assert len(flat) == self._size
        assert self._firsts == [keys[0] for keys in self._keys]
        assert all(0 < len(keys) <= CHUNK_KEYS for keys in self._keys)
        for keys, nodes in zip(self._keys, self._nodes, strict=True):
            for key, node in zip(keys, nodes, strict=True):
                assert node.__class__ is not self._node_class or node.key == key
        for node in self:
            if node.seen == self._generation:
                assert node.parent is self._enclosing(node.key)

    def _place_of(self, text: str) -> tuple[int, int]:
        """Where the greatest key stands that is not greater than `text`: the list (-1: nowhere), and where in it."""
        at = bisect_right(self._firsts, text) - 1
        return at, bisect_right(self._keys[at], text) - 1 if at >= 0 else -1

    def _at_or_before(self, text: str) -> N | None:
        at, index = self._place_of(text)
        return self._node(at, index) if at >= 0 else None

    def _node(self, at: int, index: int) -> N:
        """The node at a place, opened if it is not yet. Opening moves no place."""
        node = self._nodes[at][index]
        if node.__class__ is not self._node_class:
            assert self._open is not None
            self._open(node)
            node = self._nodes[at][index]
        return cast(N, node)

    def _enclosing(self, key: str) -> N | None:
        """The node with the longest key that is a shorter prefix of `key`, without asking any memory."""
        if not key:
            return None
        text = key[:-1]
        node = self._at_or_before(text)
        while node is not None and not text.startswith(node.key):
            text = text[: _common_length(text, node.key)]
            node = self._at_or_before(text)
        return node

    def _forget_parents_below(self, key: str, at: int, index: int) -> None:
        """A key that encloses none is nobody's parent, so most changes forget nothing."""
        if index + 1 < len(self._keys[at]):
            following = self._keys[at][index + 1]
        elif at + 1 < len(self._keys):
            following = self._firsts[at + 1]
        else:
            return
        if following.startswith(key):
            self._generation += 1

    def _split(self, at: int) -> None:
        half = len(self._keys[at]) // 2
        self._keys[at : at + 1] = self._keys[at][:half], self._keys[at][half:]
        self._nodes[at : at + 1] = self._nodes[at][:half], self._nodes[at][half:]
        self._firsts.insert(at + 1, self._keys[at + 1][0])


def _common_length(one: str, other: str) -> int:
    """How many characters two strings begin with in common, by halving: slices are compared in C."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.startswith(other[low:middle], low):
            low = middle
        else:
            high = middle - 1
    return low
