import pytest

from gw.upstream.errors import BadResponse
from gw.upstream.response import Headers, HeadReader


def read(raw: Headers) -> HeadReader:
    reader = HeadReader()
    for name, value in raw:
        reader.add(name, value)
    return reader


@pytest.mark.parametrize(
    ("raw", "passed"),
    [
        (
            [(b"Content-Type", b"a"), (b"X-A", b"1"), (b"x-a", b"2")],
            [(b"content-type", b"a"), (b"x-a", b"1"), (b"x-a", b"2")],
        ),
        ([(b"Server", b"nginx"), (b"Keep-Alive", b"1"), (b"Upgrade", b"h2c"), (b"Trailer", b"X"), (b"TE", b"x")], []),
        ([(b"Proxy-Authenticate", b"x"), (b"Proxy-Connection", b"x"), (b"Transfer-Encoding", b"Chunked")], []),
        ([(b"Connection", b"close, X-Hop"), (b"x-hop", b"1"), (b"X-Stay", b"2")], [(b"x-stay", b"2")]),
        ([(b"X-Hop", b"1"), (b"Connection", b"a"), (b"Connection", b"x-HOP")], []),
        ([(b"Content-Length", b"3"), (b"Connection", b"keep-alive")], [(b"content-length", b"3")]),
    ],
)
def test_end_to_end(raw: Headers, passed: Headers) -> None:
    assert read(raw).end_to_end(is_http_1_0=False) == passed
    assert read(raw).end_to_end(is_http_1_0=False) == passed, "the same when the names are known"


@pytest.mark.parametrize(
    ("raw", "is_http_1_0"),
    [
        ([(b"Transfer-Encoding", b"gzip, chunked")], False),
        ([(b"Transfer-Encoding", b"identity")], False),
        ([(b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")], False),
        ([(b"Transfer-Encoding", b"chunked")], True),
    ],
)
def test_coding_that_cannot_be_passed_on(raw: Headers, is_http_1_0: bool) -> None:
    with pytest.raises(BadResponse):
        read(raw).end_to_end(is_http_1_0=is_http_1_0)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ([(b"A", b"b")], True),
        ([(b"content-LENGTH", b"1")], False),
        ([(b"Transfer-Encoding", b"chunked")], False),
    ],
)
def test_what_ends_the_body(raw: Headers, expected: bool) -> None:
    reader = read(raw)
    assert reader.ends_with_connection(reader.end_to_end(is_http_1_0=False)) is expected


def test_close_is_an_option_of_its_own() -> None:
    assert read([(b"Connection", b"x"), (b"connection", b"y, Close")]).asks_to_close
    assert not read([(b"Connection", b"keep-alive, not-close")]).asks_to_close


def test_one_response_after_the_other() -> None:
    reader = read([(b"A", b"1"), (b"Connection", b"close")])
    first = reader.end_to_end(is_http_1_0=False)
    reader.add(b"Trailer-Field", b"x")
    reader.reset()
    reader.add(b"B", b"2")
    assert (first, reader.end_to_end(is_http_1_0=False)) == ([(b"a", b"1")], [(b"b", b"2")])
    assert not reader.asks_to_close
