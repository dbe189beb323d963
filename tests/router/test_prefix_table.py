"""The table of prefixes against a scan of all of them, over sizes at which its short lists split and go."""

import random

import pytest

from gw.router.prefixes import CHUNK_KEYS, Node, PrefixTable


def scan(keys: set[str], text: str) -> list[str]:
    return sorted((key for key in keys if text.startswith(key)), key=len, reverse=True)


def chain(table: PrefixTable[Node], text: str) -> list[str]:
    node, found = table.longest(text), []
    while node is not None:
        found.append(node.key)
        node = table.parent(node)
    return found


@pytest.mark.parametrize(("alphabet", "length"), [("ab", 9), ("abc/", 12), ("é\0z", 7)])
def test_longest_prefix(alphabet: str, length: int) -> None:
    chance = random.Random(11)
    table: PrefixTable[Node] = PrefixTable(Node)
    keys: set[str] = set()

    def text(longest: int) -> str:
        return "".join(chance.choices(alphabet, k=chance.randint(0, longest)))

    for turn in range(4000):
        key = text(length)
        if key in keys and chance.random() < 0.6:
            table.remove(key)
            keys.remove(key)
        elif key not in keys:
            table.insert(Node(key))
            keys.add(key)
        if turn % 10 == 0:
            asked = text(length + 3)
            assert chain(table, asked) == scan(keys, asked)
    table.check()
    assert [node.key for node in table] == sorted(keys)
    for key in chance.sample(sorted(keys), len(keys)):
        table.remove(key)
    table.check()
    assert len(table) == 0
    assert table.longest("a") is None


def test_many_keys_in_any_order_of_insertion() -> None:
    keys = [f"/{number}/" for number in range(CHUNK_KEYS * 5)]
    for order in (keys, sorted(keys), sorted(keys, reverse=True)):
        table: PrefixTable[Node] = PrefixTable(Node)
        for key in order:
            table.insert(Node(key))
        table.check()
        assert all(chain(table, key + "x") == [key] for key in keys)


def test_a_key_is_there_once() -> None:
    table: PrefixTable[Node] = PrefixTable(Node)
    table.insert(Node("a"))
    with pytest.raises(KeyError):
        table.insert(Node("a"))
    for absent in ("", "b", "aa"):
        with pytest.raises(KeyError):
            table.remove(absent)
        assert table.get(absent) is None


def test_a_new_parent_is_seen_by_those_below() -> None:
    table: PrefixTable[Node] = PrefixTable(Node)
    for key in ("/", "/a/b/c", "/a/b/d"):
        table.insert(Node(key))
    assert chain(table, "/a/b/cx") == ["/a/b/c", "/"]
    table.insert(Node("/a/"))
    assert chain(table, "/a/b/cx") == ["/a/b/c", "/a/", "/"]
    assert chain(table, "/a/b/zz") == ["/a/", "/"]
    table.remove("/a/")
    assert chain(table, "/a/b/cx") == ["/a/b/c", "/"]
