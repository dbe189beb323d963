import pytest

from gw.upstream.errors import BadResponse
from gw.upstream.response import Headers, asks_to_close, end_to_end, ends_with_connection


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
    assert end_to_end(raw, is_http_1_0=False) == passed
    assert end_to_end(raw, is_http_1_0=False) == passed, "the same when the names are known"


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
        end_to_end(raw, is_http_1_0=is_http_1_0)


def test_framing_questions() -> None:
    assert ends_with_connection([(b"A", b"b")])
    assert not ends_with_connection([(b"content-LENGTH", b"1")])
    assert not ends_with_connection([(b"Transfer-Encoding", b"chunked")])
    assert asks_to_close([(b"Connection", b"x, Close")])
    assert not asks_to_close([(b"Connection", b"keep-alive")])
