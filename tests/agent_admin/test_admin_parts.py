"""The parts of the agent's admin side that need neither socket nor store."""

from __future__ import annotations

import json
import re
import tracemalloc
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.model.keys import ResourceKey
from gw.model.operations import (
    FRAME_HEADER,
    Answer,
    Authorize,
    Create,
    Delete,
    Get,
    Head,
    Item,
    List,
    Operation,
    Outcome,
    Patch,
    Put,
    Request,
    Status,
    decode_reply,
    decode_request,
    encode_answer,
    encode_part,
    encode_request,
)
from gw.settings import AdminKey
from sync_agent.admin import listing
from sync_agent.admin.keys import AdminKeys
from sync_agent.admin.listing import KEPT_ITEMS, Candidate, Filter, InvalidFilter, PageOf, Shown
from sync_agent.admin.operations import AdminLimits
from sync_agent.admin.patch import InvalidSubPath, merge, place
from sync_agent.stores.base import KeyValue

OPERATIONS: list[Operation] = [
    Authorize(write=True),
    Get("routes", "1"),
    List("routes", page=2, page_size=10, name="a", uri="/b", label=None),
    Create("routes", {"uri": "/ä", "vars": [["a", 1, 2.5, None, True]]}, 5),
    Put("routes", None, None),
    Put("routes", "1", {}),
    Patch("routes", "1", 7, ("a", "b")),
    Delete("routes", "1", True),
    Status(),
    Head(),
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_survives_the_wire(operation: Operation) -> None:
    request = Request(2**40, operation, "key")
    assert decode_request(encode_request(request)[FRAME_HEADER.size :]) == request
    assert "key" not in repr(request)


def test_an_answer_survives_the_wire() -> None:
    items = (Item("/apisix/routes/1", b'{"uri":"/"}', 3, 4),)
    answer = Answer(Outcome.OK, "why", items, 7, 2**40, {"state": "x"})
    reply = decode_reply(encode_answer(9, answer)[FRAME_HEADER.size :])
    assert (reply.id, reply.answer) == (9, answer)
    part = decode_reply(encode_part(9, items)[FRAME_HEADER.size :])
    assert (part.id, part.items, part.answer) == (9, items, None)


def test_the_frame_limit_holds_the_longest_body() -> None:
    limits = AdminLimits(body_bytes=100_000)
    body = "[" + "1e1," * 24_999 + "1]"
    assert len(body) <= limits.body_bytes
    assert len(encode_request(Request(1, Put("routes", "1", json.loads(body))))) <= limits.frame_bytes


KEYS = AdminKeys(
    [AdminKey("a", "key-of-admin", "admin"), AdminKey("v", "key-of-viewer", "viewer"), AdminKey("o", "other", "ops")]
)


@pytest.mark.parametrize(
    ("key", "reads", "writes"),
    [
        ("key-of-admin", None, None),
        ("key-of-viewer", None, "invalid method for role viewer"),
        ("other", "wrong apikey", "wrong apikey"),  # a role there is not
        ("key-of-admi", "wrong apikey", "wrong apikey"),
        ("key-of-admin ", "wrong apikey", "wrong apikey"),
        ("key-of-admin,key-of-admin", "wrong apikey", "wrong apikey"),
        ("ключ\ud800", "wrong apikey", "wrong apikey"),
        ("", "missing apikey", "missing apikey"),
        (None, "missing apikey", "missing apikey"),
    ],
)
def test_keys(key: str | None, reads: str | None, writes: str | None) -> None:
    for operation in (Get("routes", "1"), List("routes"), Authorize(write=False)):
        assert KEYS.refusal(key, operation) == reads
    for operation in OPERATIONS:
        if not isinstance(operation, Get | List | Status | Head):
            assert KEYS.refusal(key, operation) == writes


def test_an_empty_key_is_nobody_s() -> None:
    assert AdminKeys([AdminKey("a", "", "admin")]).refusal("", Get("routes", "1")) == "missing apikey"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=10,
)


def _has_null(value: Any) -> bool:
    return isinstance(value, dict) and any(each is None or _has_null(each) for each in value.values())


@given(st.dictionaries(st.text("ab", max_size=2), json_values), st.dictionaries(st.text("ab", max_size=2), json_values))
def test_merge_is_rfc_7396(target: dict[str, Any], patch: dict[str, Any]) -> None:
    before = json.dumps([target, patch])
    merged = merge(target, patch)
    assert json.dumps([target, patch]) == before, "the input stays as it is"
    for name, value in patch.items():
        if value is None:
            assert name not in merged
        elif not isinstance(value, dict):
            assert merged[name] == value
        elif not isinstance(target.get(name), dict):
            assert not _has_null(merged[name])
    assert {name: value for name, value in merged.items() if name not in patch} == {
        name: value for name, value in target.items() if name not in patch
    }
    assert merge(merged, patch) == merged


def test_place() -> None:
    target = {"a": {"b": {"c": 1}, "d": 2}, "e": [1]}
    before = json.dumps(target)
    assert place(target, ("a", "b", "c"), 5) == {"a": {"b": {"c": 5}, "d": 2}, "e": [1]}
    assert place(target, ("a", "b"), None) == {"a": {"d": 2}, "e": [1]}
    assert place(target, ("x", "y"), 1)["x"] == {"y": 1}
    for path, reason in ((("e", "0"), "/e"), (("a", "d", "x"), "/a/d"), (("a", "d", "x", "y"), "/a/d")):
        with pytest.raises(InvalidSubPath, match=re.escape(f"invalid sub-path: {reason}")):
            place(target, path, 1)
    assert json.dumps(target) == before


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(1, 5), st.integers(1, 12))
def test_a_page_is_a_slice_of_all(revisions: list[int], page: int, page_size: int) -> None:
    items = [Item(str(number), b"{}", revision, revision) for number, revision in enumerate(revisions)]
    expected = sorted(items, key=lambda item: item.create_revision)[(page - 1) * page_size : page * page_size]
    for kept_items in (KEPT_ITEMS, 0):
        with mock.patch.object(listing, "KEPT_ITEMS", kept_items):
            page_of = PageOf(page, page_size)
        for item in items:
            page_of.add(Candidate(f"services/{item.key}", item))
        assert page_of.items() == (tuple(expected) if kept_items else ())
        assert page_of.keys_to_read() == (() if kept_items else tuple(f"services/{item.key}" for item in expected))


def test_a_late_page_holds_no_more_than_keys() -> None:
    def stored(number: int) -> KeyValue:
        value = json.dumps({"name": f"s{number}", "desc": "x" * 10_000}).encode()
        return KeyValue(f"services/s{number:04}", value, number + 1, number + 1)

    def item(key: ResourceKey, kv: KeyValue, _: dict[str, Any]) -> Item:
        return Item(str(key), kv.value, kv.create_revision, kv.mod_revision)

    shown = Shown(List("services", page=100, page_size=50), item)
    tracemalloc.start()
    try:
        for number in range(5000):
            assert shown.take([stored(number)]) == []
        assert shown.finish() == ((), 5000)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 5_000_000, "a tenth of what was given"
    assert shown.keys_to_read() == tuple(f"services/s{number:04}" for number in range(4950, 5000))
    again = shown.take_again(stored(4950))
    assert again is not None
    assert again.key == "services/s4950"
    assert shown.take_again(KeyValue("services/s4951", b"gone bad", 1, 1)) is None


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?<!a)b", r"(a)\1", "(?>a)", "*a", "(a", "[a", "\\", "a" * 257, ".{1000}" * 30, r"\p{Nonsense}"],
)
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidFilter, match="invalid argument name"):
        Filter(List("routes", name=pattern))


@pytest.mark.parametrize(
    ("pattern", "passes"),
    [
        (r"a\.b\*", True),
        ("^a.b", True),
        ("b$", False),
        (r"[.]b\*$", True),
        ("A", False),
        ("(?i)A", True),
        ("x|^a", True),
        (r"^[a-z]+\.(b|c)[*]?$", True),
        ("^(a+)+$", False),
        ("", True),
    ],
)
def test_patterns(pattern: str, passes: bool) -> None:
    assert Filter(List("routes", uri=pattern)).passes({"uri": "a.b*"}) is passes


def test_a_pattern_that_explodes_elsewhere_takes_its_time_by_the_text() -> None:
    """A backtracking engine would not come back from this in a lifetime."""
    assert not Filter(List("routes", name="^(a+)+$")).passes({"name": "a" * 255 + "!"})
    assert Filter(List("routes", name="Straße|\u4e16")).passes({"name": "\u4e16\u754c"})


@pytest.mark.parametrize("resource", [{}, {"name": 1, "uri": 2, "uris": 3, "labels": 4}, {"uris": [None]}])
def test_filters_bear_what_a_store_may_hold(resource: dict[str, Any]) -> None:
    for wanted in (List("routes", name="x"), List("routes", uri="x"), List("routes", label="x")):
        assert not Filter(wanted).passes(resource)
