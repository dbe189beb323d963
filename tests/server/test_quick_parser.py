"""The quick parser finds in every stream what the strict one finds, and refuses what that refuses, by the same name."""

from __future__ import annotations

from typing import Any

import pytest
from gunicorn.asgi.parser import ParseError
from hypothesis import example, given
from hypothesis import strategies as st

from gw.server.h1.request_head import RequestHead
from gw.server.parser import RequestParser
from gw.server.quick_parser import QuickParser

LINES = [
    *(b"GET / HTTP/1.1", b"GET /a%20b?c=d&e#f HTTP/1.1", b"POST /\xff HTTP/1.1", b"GET  / HTTP/1.1", b"GET /", b""),
    *(b"OPTIONS * HTTP/1.1", b"GET http://a/b HTTP/1.0", b"CONNECT a:1 HTTP/1.1", b"GET /a b HTTP/1.1"),
    *(b"PURGE / HTTP/1.0", b"GET / HTTP/2.0", b"GET / HTTP/1.1 ", b"PRI / HTTP/1.1", b"BREW /pot HTTP/1.1"),
    *(b"get / HTTP/1.1", b"GO /x HTTP/1.1"),
    *(b"LINK /" + b"l" * 200 + b" HTTP/1.1", b"GET /" + b"l" * 80 + b" HTTP/1.1"),
]
FIELDS = [
    *(b"Host: a", b"host:b", b"X: \t y \t", b"X-Empty:", b"X y: z", b" X: folded", b"X : z", b"X: a\x00b"),
    *(b"X: a\x7fb", b"X: a\rb", b"X: a\nY: b", b"X: \x80\xff", b"no colon", b": no name", b"X\xff: y", b"x_y: z"),
    *(b"Content-Length: 3", b"Content-Length: 03", b"Content-Length: +3", b"Content-Length: 0"),
    *(b"content-length: 3, 3", b"Content-Length: " + b"1" * 19, b"Transfer-Encoding:", b"Transfer-Encoding: chunked"),
    *(b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
    *(b"transfer-encoding: xchunked", b"Connection: close", b"Connection: keep-alive, X", b"Connection: Upgrade"),
    *(b"Upgrade: websocket", b"Upgrade: h2c", b"Proxy-Connection: close", b"Content-Type: a/b", b"Expect: cake"),
    *(b"Expect: 100-continue", b"X: " + b"l" * 95, b"X: " + b"l" * 96),
]
BEHIND = [b"", b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabcd", b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"]
STREAMS = st.builds(
    lambda before, line, fields, behind: before + b"\r\n".join([line, *fields]) + b"\r\n\r\n" + behind,
    st.sampled_from([b"", b"", b"", b"\r\n", b"\n"]),
    st.sampled_from(LINES[:2] * 5 + LINES),
    st.lists(st.sampled_from(FIELDS[:4] * 3 + FIELDS), max_size=7),
    st.sampled_from(BEHIND),
)


def open_parser(
    parser_class: type[RequestParser], heads: list[tuple[Any, ...]], body: list[bytes], **limits: int
) -> RequestParser:
    """One that says what it finds in the same words as the other."""
    bare: dict[str, Any] = {}

    def on_head() -> bool:
        heads.append(
            (parser.method, parser.path, parser.http_version, list(parser.headers), parser.should_keep_alive)
        )
        return False

    def on_bare_head(head: RequestHead) -> None:
        version = (1, int(head.version[-1]))
        heads.append((head.method.encode(), head.target, version, head.headers, head.keeps_alive))

    if parser_class is QuickParser:
        bare["on_bare_head"] = on_bare_head
    set_ = {"limit_request_line": 100, "limit_request_fields": 6, "limit_request_field_size": 100, **limits}
    parser = parser_class(**bare, on_headers_complete=on_head, on_body=body.append, **set_)
    return parser


def read(parser_class: type[RequestParser], pieces: list[bytes]) -> tuple[Any, ...]:
    """What a parser makes of a stream: the head, the body, what stands behind it, or how it was refused."""
    body: list[bytes] = []
    heads: list[tuple[Any, ...]] = []
    parser = open_parser(parser_class, heads, body)
    refusal = None
    try:
        for piece in pieces:
            parser.feed(piece)
    except Exception as error:
        refusal = (type(error), str(error))
    framing = (parser.content_length or 0, parser.is_chunked, parser.is_complete)
    behind = parser.release() if isinstance(parser, QuickParser) and parser.is_complete else bytes(parser._buffer)
    if refusal is not None:
        return refusal, heads, b"".join(body)
    return heads, framing, b"".join(body), behind


@given(STREAMS, st.integers(0, 400))
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400)
def test_it_finds_what_the_strict_one_finds(stream: bytes, cut: int) -> None:
    pieces = [piece for piece in (stream[:cut], stream[cut:]) if piece]
    assert read(QuickParser, pieces) == read(RequestParser, pieces)


@pytest.mark.parametrize("line", LINES)
def test_a_head_in_one_read(line: bytes) -> None:
    for field in FIELDS:
        for fields in ([b"Host: a", field], [b"Host: a", field, field], [b"Content-Length: 3", field]):
            pieces = [b"\r\n".join([line, *fields]) + b"\r\n\r\nabc"]
            assert read(QuickParser, pieces) == read(RequestParser, pieces), fields


USUAL = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# Refused by llhttp's reader alone, which counts the line, too.
LARGE_FIELDS = b"Connection: keep-alive\r\n" + b"X: %b\r\n" % (b"x" * 7900) * 4
LARGE = b"POST /" + b"l" * 3000 + b" HTTP/1.1\r\nContent-Length: %d\r\n" + LARGE_FIELDS + b"\r\n"
# Taken for the body that a head like that announces.
TAKEN = b"GET /a?: HTTP/1.1\r\nX: y\r\n"


@pytest.mark.parametrize(
    "requests",
    [
        [[LARGE % 0], [b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"]],
        [[LARGE % len(TAKEN) + b"x" * len(TAKEN)], [TAKEN + b"GET /b?: HTTP/1.1\r\nHost: a\r\n\r\n"]],
        [[b"\r\n", USUAL], [b"\r\n", USUAL], [b"\r\n" + USUAL]],
    ],
)
def test_no_request_leaves_anything_to_the_next(requests: list[list[bytes]]) -> None:
    assert read_all(QuickParser, requests) == read_all(RequestParser, requests)


def read_all(parser_class: type[RequestParser], requests: list[list[bytes]]) -> list[Any]:
    """What one parser makes of all requests of a connection, to the first that it refuses."""
    found: list[Any] = []
    parser = open_parser(parser_class, found, found, limit_request_line=8190, limit_request_field_size=8190)
    try:
        for pieces in requests:
            for piece in pieces:
                parser.feed(piece)
            assert parser.is_complete
            if isinstance(parser, QuickParser):
                assert parser.release() == b""
            else:
                parser.reset()
    except ParseError as error:
        found.append(str(error))
    return found


def test_one_request_after_the_other() -> None:
    parser = QuickParser(
        on_bare_head=lambda head: seen.append((head.target, parser.head)),
        on_headers_complete=lambda: seen.append((parser.path, parser.head)),
        limit_request_line=100,
        limit_request_fields=6,
        limit_request_field_size=100,
    )
    seen: list[tuple[bytes, bytes]] = []
    pieces = [b"POST /1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nab", b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"] * 2
    parser.feed(b"".join(pieces))
    while parser.is_complete:
        behind = parser.release()
        if behind:
            parser.feed(behind)
    assert seen == [(b"/1", b""), (b"/2", b""), (b"/1", b""), (b"/2", pieces[1])]
    parser.hold()
    parser.feed(b"GET /3")
    assert (parser.release(), parser.has_partial_head) == (b"GET /3", False)
    parser.close()
