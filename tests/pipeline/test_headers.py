import pytest
from hypothesis import given
from hypothesis import strategies as st

from gw.pipeline.context import Link, Request
from gw.pipeline.headers import UnsafeRequest, _forwarding, admit, may_trail, request_head
from gw.pipeline.path import BadTarget

Pairs = list[tuple[bytes, bytes]]
LINK = Link("http", "::1", 40000, "::1", None)


def admitted(
    headers: Pairs, *, method: str = "GET", target: bytes = b"/", query: bytes = b"", **more: object
) -> Request:
    request = Request(
        method,
        target,
        query,
        [(b"host", b"Example.com:8080"), *headers],
        Link("http", str(more.get("peer", "192.0.2.1")), 40000, "127.0.0.1", 9080),
        unframed_body=bool(more.get("unframed_body", False)),
    )
    request.is_settled = bool(more.get("is_settled", False))
    admit(request)
    return request


def written(headers: Pairs, **more: object) -> bytes:
    return request_head(admitted(headers, **more), b"node")  # type: ignore[arg-type]


def lines(head: bytes) -> list[bytes]:
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


OURS = [
    b"x-forwarded-for: 192.0.2.1",
    b"x-real-ip: 192.0.2.1",
    b"x-forwarded-proto: http",
    # As the client wrote it, and its port (APISIX since 3.14).
    b"x-forwarded-host: Example.com:8080",
    b"x-forwarded-port: 8080",
]


def test_whole_head() -> None:
    head = written([(b"accept", b"*/*"), (b"x-a", b"1"), (b"x-a", b"2")], target=b"//a/../b%20c", query=b"x=1&y=%zz")
    assert lines(head) == [
        b"GET /b%20c?x=1&y=%zz HTTP/1.1",
        b"host: node",
        b"accept: */*",
        b"x-a: 1",
        b"x-a: 2",
        *OURS,
    ]


@pytest.mark.parametrize(
    "name",
    [
        *(
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"trailer",
            b"upgrade",
            b"http2-settings",
            b"expect",
            b"forwarded",
        ),
        *(b"proxy-authorization", b"proxy-authenticate", b"proxy-anything", b"connection"),
        *(b"x-real-ip", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"),
        *(b"x_real_ip", b"x.real.ip", b"x_forwarded-for", b"x_forwarded_host", b"x-forwarded_port", b"content_length"),
        *(b"transfer_encoding", b"proxy_authorization", b"for_warded"[:3] + b"warded"),
    ],
)
def test_never_forwarded(name: bytes) -> None:
    assert lines(written([(name, b"203.0.113.9"), (name, b"again")])) == [b"GET / HTTP/1.1", b"host: node", *OURS]


def test_ordinary_names_with_underscore_pass() -> None:
    assert b"x_trace_id: 1" in lines(written([(b"x_trace_id", b"1")]))


def test_what_is_remembered_of_names_does_not_grow_with_their_length() -> None:
    def remembered_for(name: bytes) -> int:
        before = _forwarding.cache_info().currsize
        request = admitted([])
        request.host_header = name
        assert b"x-forwarded-host: " + name in lines(request_head(request, b"node"))
        return _forwarding.cache_info().currsize - before

    assert remembered_for(b"n" * 253 + b":65535") == 1
    assert remembered_for(b"n" * 260) == 0


def test_connection_removes_the_clients_headers_and_never_ours() -> None:
    connection = b"close, X-Real-IP, x-forwarded-host ,X-Secret,Host, content-type"
    head = written([(b"x-secret", b"1"), (b"connection", connection), (b"x-real-ip", b"6.6.6.6"), (b"x-other", b"2")])
    assert lines(head) == [b"GET / HTTP/1.1", b"host: node", b"x-other: 2", *OURS]


def test_forwarded_for_is_appended_to() -> None:
    head = written([(b"x-forwarded-for", b"1.1.1.1, 2.2.2.2"), (b"x-forwarded-for", b"3.3.3.3")])
    assert b"x-forwarded-for: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1" in lines(head)


def test_claims_that_count_are_passed_on() -> None:
    claims = [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"a"), (b"forwarded", b"for=1.2.3.4")]
    told = lines(written([*claims, (b"x-forwarded-port", b"")], is_settled=True))
    assert told[2:] == [
        *OURS[:2],
        b"x-forwarded-proto: https",
        b"x-forwarded-host: a",
        b"x-forwarded-port: 8080",
        b"forwarded: for=1.2.3.4",
    ]


# CVE-2024-45410: what somebody who may do so says stands as if we had said it.
def test_connection_removes_no_claim_that_counts() -> None:
    told = lines(
        written([(b"x-forwarded-proto", b"https"), (b"connection", b"x-forwarded-proto, forwarded")], is_settled=True)
    )
    assert b"x-forwarded-proto: https" in told


@pytest.mark.parametrize("value", [b"a\rb", b"a\nx: 1", b"a\0"])
def test_a_claim_cannot_break_the_head(value: bytes) -> None:
    with pytest.raises(UnsafeRequest):
        written([(b"x-forwarded-host", value)], is_settled=True)


def test_mapped_address_is_an_ipv4_address() -> None:
    assert b"x-real-ip: 192.0.2.7" in lines(written([], peer="::ffff:192.0.2.7"))
    assert b"x-real-ip: 2001:db8::1" in lines(written([], peer="2001:db8::1"))


@pytest.mark.parametrize(
    ("headers", "framing", "has_body", "is_chunked"),
    [
        ([], None, False, False),
        ([(b"content-length", b"0")], b"content-length: 0", False, False),
        ([(b"content-length", b"00")], b"content-length: 0", False, False),
        ([(b"content-length", b"0010")], b"content-length: 10", True, False),
        ([(b"content-length", b"5")], b"content-length: 5", True, False),
        ([(b"transfer-encoding", b"Chunked")], b"transfer-encoding: chunked", True, True),
        ([(b"transfer-encoding", b"chunked"), (b"expect", b"100-continue")], b"transfer-encoding: chunked", True, True),
    ],
)
def test_framing_is_ours(headers: Pairs, framing: bytes | None, has_body: bool, is_chunked: bool) -> None:
    request = admitted(headers, method="POST")
    head = request_head(request, b"node")
    found = [line for line in lines(head) if line.startswith((b"content-length", b"transfer-encoding"))]
    assert found == ([framing] if framing else [])
    assert (request.has_body, request.is_chunked) == (has_body, is_chunked)


def test_unframed_body_is_sent_chunked() -> None:
    assert admitted([], method="POST", unframed_body=True).is_chunked
    assert not admitted([(b"content-length", b"3")], method="POST", unframed_body=True).is_chunked


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"content-length", b"")],
        [(b"content-length", b"+5")],
        [(b"content-length", b"5, 5")],
        [(b"content-length", b"0x5")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"x", b"a\r\nX-Injected: 1")],
        [(b"x", b"a\nb")],
        [(b"x", b"a\rb")],
        [(b"x", b"a\0b")],
        [(b"x-forwarded-for", b"a\r\nb: c")],
        [(b"x: y", b"a")],
        [(b"x y", b"a")],
        [(b"", b"a")],
        [(b"x\r\n", b"a")],
    ],
)
def test_refused(headers: Pairs) -> None:
    with pytest.raises(UnsafeRequest):
        written(headers, method="POST")


@pytest.mark.parametrize("method", ["", "GET /x HTTP/1.1\r\nX: y\r\n\r\nGET", "G T", "GÉT", "GET\n"])
def test_malformed_method(method: str) -> None:
    with pytest.raises(UnsafeRequest):
        written([], method=method)


def test_obs_text_passes() -> None:
    assert b"x: caf\xe9" in lines(written([(b"x", b"caf\xe9")]))


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=8)), max_size=6),
    st.text(max_size=5),
)
def test_whatever_comes_leaves_as_one_head_or_not_at_all(headers: Pairs, method: str) -> None:
    request = admitted([])
    request.method = method
    request.headers = [(name.lower(), value) for name, value in headers]
    try:
        admit(request)
        head = request_head(request, b"node")
    except (UnsafeRequest, BadTarget):
        return
    assert head.count(b"\r\n\r\n") == 1
    assert head.count(b"\n") == head.count(b"\r\n") == head.count(b"\r")
    assert all(b":" in line for line in lines(head)[1:])


@pytest.mark.parametrize(
    ("target", "headers", "host"),
    [
        (b"http://Example.com/a", [(b"host", b"example.com")], "example.com"),
        (b"/a", [(b"host", b"EXAMPLE.com.:80")], "example.com"),
    ],
)
def test_admit(target: bytes, headers: Pairs, host: str) -> None:
    request = Request("GET", target, b"", headers, LINK)
    admit(request)
    assert (request.host, request.path) == (host, "/a")


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        (b"/", []),
        (b"/", [(b"host", b"a"), (b"host", b"a")]),
        (b"http://a/", [(b"host", b"b")]),
        (b"http://a@b/", [(b"host", b"a@b")]),
        (b"*", [(b"host", b"a")]),
        (b"a:80", [(b"host", b"a")]),
        (b"/", [(b"host", b"a b")]),
    ],
)
def test_not_admitted(target: bytes, headers: Pairs) -> None:
    request = Request("GET", target, b"", headers, LINK)
    with pytest.raises(BadTarget):
        admit(request)


def test_http_1_0_may_name_no_host() -> None:
    request = Request("GET", b"/", b"", [], LINK, "1.0")
    admit(request)
    assert (request.host, request.host_header) == ("", None)


def test_a_trailer_does_not_change_what_becomes_of_the_header_of_its_name() -> None:
    """Names are judged once for all requests of a worker: this let clients choose X-Real-IP from then on."""
    assert not may_trail(b"x-real-ip")
    assert not may_trail(b"keep-alive")
    assert may_trail(b"x-checksum")
    head = written([(b"x-real-ip", b"6.6.6.6"), (b"keep-alive", b"5")])
    assert b"6.6.6.6" not in head
    assert b"keep-alive" not in head
