"""Canonical bytes, content hash and digest: pinned, because two processes of two versions must agree on them."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.model.digest import content_hash, decode_resource, digest_of, encode_resource, fingerprint
from gw.model.keys import ResourceKey

RESOURCE = {"uri": "/hello", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}, "priority": 0}
BLOB = (
    "83a87072696f7269747900a8757073747265616d82a56e6f64657381ae3132372e302e302e313a3139383001"
    "a474797065aa726f756e64726f62696ea3757269a62f68656c6c6f"
)
CONTENT_HASH = 0x07C5A8D9C3A11A7F

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
resources = st.dictionaries(st.text(), json_values, max_size=5)


def reordered(value: object) -> object:
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(list(value))}
    if isinstance(value, list):
        return [reordered(item) for item in value]
    return value


def test_canonical_bytes_are_pinned():
    assert encode_resource(RESOURCE).hex() == BLOB


def test_hashes_are_pinned():
    assert content_hash(ResourceKey("routes", "1"), encode_resource(RESOURCE)) == CONTENT_HASH
    assert digest_of([]) == 0
    assert digest_of([CONTENT_HASH]) == CONTENT_HASH


@given(resource=resources)
def test_the_order_of_names_does_not_matter(resource: dict[str, object]):
    blob = encode_resource(resource)
    assert encode_resource(reordered(resource)) == blob  # type: ignore[arg-type]
    resource.pop("update_time", None)
    assert decode_resource(blob) == resource


def test_update_time_is_ignored_at_the_top_and_nowhere_else():
    assert encode_resource(RESOURCE | {"update_time": 1}) == encode_resource(RESOURCE)
    assert encode_resource(RESOURCE | {"create_time": 1}) != encode_resource(RESOURCE)
    assert encode_resource({"plugins": {"update_time": 1}}) != encode_resource({"plugins": {}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.5}),
        ({"a": 1}, {"a": True}),
        ({"a": None}, {}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": []}, {"a": {}}),
    ],
)
def test_different_resources_differ(one: dict[str, object], other: dict[str, object]):
    assert encode_resource(one) != encode_resource(other)


hashes = st.lists(st.integers(0, 2**64 - 1), max_size=20)


@given(hashes=hashes, seed=st.randoms())
def test_the_digest_does_not_depend_on_order(hashes, seed):
    shuffled = list(hashes)
    seed.shuffle(shuffled)
    assert digest_of(shuffled) == digest_of(hashes)


@given(hashes=hashes)
def test_one_change_is_one_addition_or_subtraction(hashes):
    whole = digest_of(hashes)
    for number, hash in enumerate(hashes):
        assert (digest_of(hashes[:number] + hashes[number + 1 :]) + hash) % 2**64 == whole


def test_kind_id_and_content_are_told_apart():
    names = [("routes", "1"), ("services", "1"), ("a", "b/c"), ("a/b", "c")]
    hashes = {content_hash(ResourceKey(*name), b"7") for name in names}
    hashes.add(content_hash(ResourceKey("routes", "17"), b""))
    assert len(hashes) == len(names) + 1


def test_equal_content_of_two_resources_exchanged_is_another_digest():
    one, other = ResourceKey("routes", "1"), ResourceKey("routes", "2")
    before = digest_of([content_hash(one, b"a"), content_hash(other, b"b")])
    assert digest_of([content_hash(one, b"b"), content_hash(other, b"a")]) != before


def test_a_fingerprint_is_that_of_the_content():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"a": 1, "b": [2]})
    assert fingerprint({"a": 1, "b": [2]}) != fingerprint({"a": 1, "b": [3]})


@pytest.mark.parametrize("value", [2**64, "\ud800"])
def test_what_msgpack_cannot_carry_is_refused(value: object):
    with pytest.raises((ValueError, OverflowError, UnicodeEncodeError)):
        encode_resource({"a": value})


def test_nesting_that_msgpack_cannot_carry_is_refused():
    value: object = 1
    for _ in range(sys.getrecursionlimit()):
        value = [value]
    with pytest.raises((ValueError, RecursionError)):
        encode_resource({"a": value})
