"""Whatever a request brings in, what leaves is one target below what the configuration wrote, or nothing does."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from hypothesis import example, given
from hypothesis import strategies as st

from gw.pipeline.path import BadTarget, canonical_path
from gw.plugins.rewriting.target import RegexUri, UriTemplate, with_query
from tests.support.finished import finished, request

SAFE = re.compile(rb"[\x21\x24-\x7e]*").fullmatch  # no space, no quote, no #, nothing that is not ASCII
# What means something to somebody on the way, often; and anything else.
TEXT = st.text(st.one_of(st.sampled_from("./\\%?#&=;+ \r\n\0aZ2eEfF5c:@$"), st.characters()), max_size=20)
TEMPLATE = UriTemplate("/files/$arg_f/end?a=1&f=$arg_f&b=2")
BY_EXPRESSION = RegexUri(["^/in/(.*)$", "/files/$1/end?a=1&f=$1&b=2"], is_raw=False)


def assert_below(uri: bytes) -> None:
    path, _, query = uri.partition(b"?")
    assert SAFE(path)
    assert SAFE(query)
    assert canonical_path(path).wire == path
    assert path.startswith(b"/files/")
    assert path.endswith(b"/end")
    assert [pair.partition(b"=")[0] for pair in query.split(b"&")] == [b"a", b"f", b"b"]


@given(TEXT)
@example("../..")
@example("..%2f..")
@example("..;a=b/x")
@example("%2e%2e/")
@example("a?b#c&d=e")
@example("a HTTP/1.1\r\nHost: b")
def test_of_a_variable(value: str):
    encoded = quote(value.encode("utf-8", "replace"), safe="").encode()
    ctx = finished(request(query=b"f=" + encoded))
    try:
        uri = TEMPLATE(ctx)
    except (BadTarget, UnicodeError):
        return
    assert_below(uri)
    value_out = uri.partition(b"?")[2].split(b"&")[1].removeprefix(b"f=")
    assert unquote_to_bytes(value_out) == unquote_to_bytes(encoded)


@given(TEXT)
@example("a%2F..%2Fb")
@example("a%3Fb%23c%26d")
@example("%25%32%65")
def test_of_a_capture(rest: str):
    raw = b"/in/" + quote(rest.encode("utf-8", "replace"), safe="/%;=&+$:@").encode()
    try:
        path = canonical_path(raw)
        found = BY_EXPRESSION.find(path.text)
    except BadTarget:
        return
    if found is not None:
        assert_below(found[1])


def test_queries_are_joined():
    for uri, query, expected in (
        (b"/a", b"", b"/a"),
        (b"/a", b"b=c", b"/a?b=c"),
        (b"/a?d", b"b=c", b"/a?d&b=c"),
        (b"/a?d&", b"b=c", b"/a?d&b=c"),
        (b"/a?d", b"", b"/a?d"),
    ):
        assert with_query(uri, query) == expected
