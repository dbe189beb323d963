"""Heads and bodies against a naive reference: valid streams, cut anywhere, and mutations of them."""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gw.server.h1.refusal import Refused
from gw.server.h1.request_body import ChunkedBody, LengthBody
from gw.server.h1.request_head import HeadLimits, RequestHead

LIMITS = HeadLimits(line_bytes=200, fields=20, field_bytes=200, head_bytes=2000)

# What the reference takes: RFC 9112's grammar, and nothing optional in it (obs-fold, bare LF). What a target may
# hold is for gw.pipeline.path to say.
_LINE = re.compile(rb"([A-Z][A-Z0-9_-]*) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")


class Head(NamedTuple):
    method: bytes
    target: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    length: int | None
    is_chunked: bool
    keeps_alive: bool


class Unfit(Exception):
    pass


def naive_head(data: bytes) -> Head:
    """A head that ends with its first empty line, read without a thought for speed."""
    lines = data[:-4].split(b"\r\n")
    first = _LINE.fullmatch(lines[0])
    if first is None:
        raise Unfit("line")
    headers = []
    for line in lines[1:]:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise Unfit("field")
        headers.append((field[1].lower(), field[2].strip(b" \t")))
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) > 1 or any(not re.fullmatch(rb"[0-9]{1,18}", value) for value in lengths):
        raise Unfit("length")
    if codings and (lengths or first[3] == b"0" or [value.lower() for value in codings] != [b"chunked"]):
        raise Unfit("coding")
    connection = b",".join(value.lower() for name, value in headers if name == b"connection")
    options = [option.strip(b" \t") for option in connection.split(b",")]
    keeps_alive = b"close" not in options and (first[3] == b"1" or b"keep-alive" in options)
    length = int(lengths[0]) if lengths else None
    return Head(first[1], first[2], "1." + first[3].decode(), headers, length, bool(codings), keeps_alive)


def naive_chunked(data: bytes) -> tuple[bytes, int]:
    """The body, and where it ends. Raises Unfit; IndexError when there is too little."""
    body, at = b"", 0
    while True:
        line, at = _line(data, at)
        size = _CHUNK.fullmatch(line)
        if size is None:
            raise Unfit("size")
        if not int(size[1], 16):
            break
        count = int(size[1], 16)
        if len(data) < at + count:
            raise IndexError
        body += data[at : at + count]
        line, at = _line(data, at + count)
        if line:
            raise Unfit("chunk")
    while True:
        line, at = _line(data, at)
        if not line:
            return body, at
        if not _FIELD.fullmatch(line):
            raise Unfit("trailer")


def _line(data: bytes, at: int) -> tuple[bytes, int]:
    end = data.find(b"\n", at)
    if end < 0:
        raise IndexError
    if data[end - 1 : end] != b"\r" or end == at:
        raise Unfit("LF")
    return data[at : end - 1], end + 1


TOKENS = st.text("abcXYZ09-_.!~", min_size=1, max_size=8).map(str.encode)
VALUES = st.text("ab ,;=\t\x80\xff0159:/", max_size=12).map(lambda text: text.encode("latin-1"))
NAMED = st.sampled_from(
    [
        *(b"Host: a", b"Connection: close", b"connection: keep-alive, x", b"Proxy-Connection: close", b"Connection:"),
        *(b"Content-Length: 3", b"content-length: 0", b"Content-Length: 03", b"Transfer-Encoding: chunked"),
        *(b"transfer-encoding: CHUNKED", b"Expect: 100-continue", b"Upgrade: websocket", b"Connection: Upgrade"),
        *(b"Content-Type: a/b", b"X-Empty:", b"X: \t y \t"),
    ]
)
FIELDS = st.one_of(NAMED, st.builds(lambda name, value: name + b": " + value, TOKENS, VALUES))
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"X_1-Y"])
HEADS = st.builds(
    lambda method, target, minor, fields: b"%b /%b HTTP/1.%d\r\n%b\r\n"
    % (method, target, minor, b"".join(field + b"\r\n" for field in fields)),
    METHODS,
    st.text("ab/?%=&.;\"'", max_size=10).map(str.encode),
    st.integers(0, 1),
    st.lists(FIELDS, max_size=6),
)
CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=5)
SPELLINGS = st.sampled_from([b"%x", b"%X", b"0%x", b"%x;a=b", b'%x ; a="b"'])


@st.composite
def chunked_bodies(draw: st.DrawFn) -> bytes:
    parts = [draw(SPELLINGS) % len(chunk) + b"\r\n" + chunk + b"\r\n" for chunk in draw(CHUNKS)]
    trailers = draw(st.lists(st.builds(lambda name, value: name + b":" + value + b"\r\n", TOKENS, VALUES), max_size=2))
    return b"".join([*parts, b"0\r\n", *trailers, b"\r\n"])


@st.composite
def mutated(draw: st.DrawFn, streams: st.SearchStrategy[bytes]) -> bytes:
    """A stream with a few bytes changed, put in, or taken out; mostly such as have a meaning somewhere."""
    data = bytearray(draw(streams))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        meaning = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"#", b",", b";", b"0", b"\x80"])
        put = draw(st.one_of(meaning, st.binary(min_size=1, max_size=2)))
        taken = draw(st.integers(0, 2))
        data[at : at + taken] = put if draw(st.booleans()) else b""
    return bytes(data)


def read(head: bytes) -> Head:
    reader = RequestHead(LIMITS)
    try:
        reader.read(head)
    finally:
        reader.close()
    length, is_chunked = (None, False) if reader.is_plain else (reader.length, reader.is_chunked)
    method, version = reader.method.encode(), reader.version
    return Head(method, reader.target, version, reader.headers, length, is_chunked, reader.keeps_alive)


def upto_empty_line(data: bytes) -> bytes:
    """What H1Connection hands to RequestHead: to the first empty line."""
    return data[: (data + b"\r\n\r\n").find(b"\r\n\r\n")] + b"\r\n\r\n"


def within_our_rules(head: Head) -> bool:
    """What RFC 9112 lets pass and we do not: gunicorn's and our own limits, and what we do not know."""
    names = [name for name, _ in head.headers]
    return names.count(b"content-type") < 2 and all(
        value.lower() == b"100-continue" for name, value in head.headers if name == b"expect"
    )


@settings(max_examples=600, deadline=None)
@given(HEADS)
def test_a_valid_head_has_the_meaning_of_the_reference_or_is_refused_by_both(head: bytes) -> None:
    try:
        wanted = naive_head(head)
    except Unfit:
        wanted = None
    try:
        found = read(head)
    except Refused:
        assert wanted is None or not within_our_rules(wanted)
        return
    assert found == wanted


@settings(max_examples=1500, deadline=None)
@given(mutated(HEADS).map(upto_empty_line))
@example(b"GET / HTTP/1.1\r\nA: b\n\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n\nA: b\r\n\r\n")
@example(b"GET / HTTP/1.1\n\r\n\r\n")
@example(b"GET / HTTP/1.1\r\n\n\r\n\r\n")
@example(b"GET / HTTP/1.1\rA: b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nA: b\r\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n")
def test_a_mutated_head_has_the_meaning_of_the_reference_or_is_refused(head: bytes) -> None:
    try:
        found = read(head)
    except Refused:
        return
    assert found == naive_head(head)


@settings(max_examples=300, deadline=None)
@given(st.lists(HEADS, min_size=2, max_size=4))
def test_one_reader_reads_head_after_head_as_if_each_were_the_first(heads: list[bytes]) -> None:
    reader = RequestHead(LIMITS)
    for head in heads:
        try:
            wanted: Head | None = read(head)
        except Refused:
            wanted = None
        try:
            reader.read(head)
        except Refused:
            assert wanted is None
            return
        assert wanted is not None
        assert (reader.method.encode(), reader.target, reader.headers) == (wanted.method, wanted.target, wanted.headers)
        if not reader.keeps_alive:
            return  # the connection ends with it


def taken(body: ChunkedBody | LengthBody, data: bytes, cuts: list[int]) -> tuple[bytes, int]:
    """Feed a body in pieces. What came of it, and where it ended. Raises Refused; IndexError when it did not end."""
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces, used = b"", 0
    for start, stop in itertools.pairwise(edges):
        given_ = body.take(data[start:stop])
        pieces += b"".join(given_.pieces)
        used += given_.used_bytes
        if given_.is_complete:
            return pieces, used
        assert given_.used_bytes == stop - start
    raise IndexError


@settings(max_examples=500, deadline=None)
@given(chunked_bodies(), st.binary(max_size=10), st.lists(st.integers(0, 200), max_size=6))
def test_a_chunked_body_is_the_same_however_it_comes(body: bytes, behind: bytes, cuts: list[int]) -> None:
    assert taken(ChunkedBody(), body + behind, cuts) == naive_chunked(body + behind)


@settings(max_examples=1500, deadline=None)
@given(mutated(chunked_bodies()), st.lists(st.integers(0, 200), max_size=6))
@example(b"0;a\nb\r\n\r\n", [])
@example(b"1\r\nab\r\n0\r\n\r\n", [4])
@example(b"\r\n0\r\n\r\n", [])
@example(b"1\r\na\r\n0\r\n\n\r\n", [])
def test_a_mutated_chunked_body_has_the_meaning_of_the_reference_or_is_refused(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for where in (cuts, []):
        try:
            outcomes.append(taken(ChunkedBody(), data, where))
        except Refused:
            outcomes.append("refused")  # type: ignore[arg-type]
        except IndexError:
            outcomes.append("more is to come")  # type: ignore[arg-type]
    assert outcomes[0] == outcomes[1]
    if isinstance(outcomes[0], tuple):
        assert outcomes[0] == naive_chunked(data)


@given(st.binary(max_size=50), st.integers(1, 60), st.lists(st.integers(0, 50), max_size=4))
def test_a_body_of_so_many_bytes(data: bytes, length: int, cuts: list[int]) -> None:
    try:
        assert taken(LengthBody(length), data, cuts) == (data[:length], length)
    except IndexError:
        assert len(data) < length
