import pytest

from gw.pipeline.path import BadTarget, canonical_path, check_query, host_name, split_absolute_form
from gw.pipeline.path_view import compile_path_view


@pytest.mark.parametrize(
    ("raw", "text", "wire"),
    [
        (b"/", "/", b"/"),
        (b"/a/b", "/a/b", b"/a/b"),
        (b"/a/b/", "/a/b/", b"/a/b/"),
        # slashes and dots
        (b"//internal/", "/internal/", b"/internal/"),
        (b"/a//b///c", "/a/b/c", b"/a/b/c"),
        (b"/./internal/", "/internal/", b"/internal/"),
        (b"/x/../internal/", "/internal/", b"/internal/"),
        (b"/a/b/..", "/a/", b"/a/"),
        (b"/a/b/.", "/a/b/", b"/a/b/"),
        (b"/a/..", "/", b"/"),
        (b"/a/%2e%2e/b", "/b", b"/b"),
        (b"/a/.%2E/b", "/b", b"/b"),
        (b"/a/...", "/a/...", b"/a/..."),
        (b"/.well-known/x", "/.well-known/x", b"/.well-known/x"),
        (b"/api../admin", "/api../admin", b"/api../admin"),
        # normalised once, never twice
        (b"/a/%252e%252e/b", "/a/%252e%252e/b", b"/a/%252e%252e/b"),
        (b"/100%25", "/100%25", b"/100%25"),
        # unreserved characters are decoded, others keep their encoding on the wire
        (b"/%69nternal/%7Euser", "/internal/~user", b"/internal/~user"),
        (b"/a%20b", "/a b", b"/a%20b"),
        (b"/caf%c3%a9", "/café", b"/caf%C3%A9"),
        (b"/a%3Bb;c", "/a;b;c", b"/a%3Bb;c"),
        (b"/a%3Fb%23c", "/a?b#c", b"/a%3Fb%23c"),
        (b"/a%FFb", "/a\udcffb", b"/a%FFb"),
        # an encoded slash is data
        (b"/a%2fb", "/a%2Fb", b"/a%2Fb"),
        (b"/internal%2F", "/internal%2F", b"/internal%2F"),
        # what no URI may hold is encoded on the way out
        (b'/a{b}|"<>^`\\', '/a{b}|"<>^`\\', b"/a%7Bb%7D%7C%22%3C%3E%5E%60%5C"),
        (b"/a[1]!$&'()*+,=:@", "/a[1]!$&'()*+,=:@", b"/a[1]!$&'()*+,=:@"),
        (b"/a;x=1/b", "/a;x=1/b", b"/a;x=1/b"),
    ],
)
def test_one_canonical_form(raw: bytes, text: str, wire: bytes) -> None:
    assert canonical_path(raw) == (text, wire)
    assert canonical_path(wire) == (text, wire), "normalising twice changes nothing"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a/b",
        b"*",
        b"/..",
        b"/../x",
        b"/a/../../x",
        b"/a b",
        b"/a\tb",
        b"/a\x80b",
        b"/a\x00b",
        b"/a\r\nb",
        b"/app#foo",
        b"/#/../admin",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%4/x",
        b"/a%00b",
        b"/a%0ab",
        b"/a%0d%0aX-Injected:%201",
        b"/a%1F",
        b"/a%7f",
        # dot segments that only somebody else sees
        b"/open/..%2Fadmin",
        b"/open/..%2fadmin",
        b"/open%2F..%2Fadmin",
        b"/open/x%2F..",
        b"/open/..%5Cadmin",
        b"/open\\..\\admin",
        b"/public/..;/admin",
        b"/public/..;x=1/admin",
        b"/public/%2e%2e;a=b/admin",
        b"/public/..%3Bx/admin",
        b"/public/.;/admin",
    ],
)
def test_refused(raw: bytes) -> None:
    with pytest.raises(BadTarget):
        canonical_path(raw)


def test_query_is_let_through_or_refused() -> None:
    check_query(b"a=%zz&b=//../&c={x}")
    for raw in (b"a#b", b"a b", b"a\r\nb", b"\x80"):
        with pytest.raises(BadTarget):
            check_query(raw)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"example.com", "example.com"),
        (b"AdMin.Example.COM", "admin.example.com"),
        (b"example.com:8080", "example.com"),
        (b"example.com.", "example.com"),
        (b"example.com.:80", "example.com"),
        (b"[::1]:80", "[::1]"),
        (b"[2001:DB8::1]", "[2001:db8::1]"),
        (b"127.0.0.1:1", "127.0.0.1"),
        (b"under_score", "under_score"),
    ],
)
def test_host_name(value: bytes, name: str) -> None:
    assert host_name(value) == name


@pytest.mark.parametrize(
    "value",
    [
        *(b"", b".", b":80", b"a b", b"a@b", b"a/../admin?x=", b"a\\b", b"a:b", b"a:80:80", b"::1", b"[::1", b"a#"),
        *(b"\xff", b"a..b", b"..a", b"a..", b"a..:80"),
    ],
)
def test_malformed_host(value: bytes) -> None:
    with pytest.raises(BadTarget):
        host_name(value)


def test_absolute_form() -> None:
    assert split_absolute_form(b"http://example.com:80/a/b") == (b"example.com:80", b"/a/b")
    assert split_absolute_form(b"HTTPS://example.com") == (b"example.com", b"/")
    for raw in (b"ftp://a/b", b"a://b", b"*", b"canary:80", b"@canary/", b"http:/a", b"x?http://a/b"):
        with pytest.raises(BadTarget):
            split_absolute_form(raw)


@pytest.mark.parametrize(
    ("raw", "without_slash", "like_servlet", "both"),
    [
        (b"/", "/", "/", "/"),
        (b"/a", "/a", "/a", "/a"),
        (b"/a/", "/a", "/a/", "/a"),
        (b"/a//", "/a", "/a/", "/a"),
        (b"/a;x=1/b;y", "/a;x=1/b;y", "/a/b", "/a/b"),
        (b"/a%3Bx/b", "/a;x/b", "/a/b", "/a/b"),
        (b"/a/;x=1", "/a/;x=1", "/a/", "/a"),
        (b"/a%3Fb;x", "/a?b;x", "/a?b", "/a?b"),
        (b"/a%2Fb;x", "/a%2Fb;x", "/a%2Fb", "/a%2Fb"),
        (b"/a/;x/b", "/a/;x/b", None, None),
        (b"/a/%252e%252E;x/b", "/a/%252e%252E;x/b", None, None),
        (b"/a/.%252e;x/b", "/a/.%252e;x/b", None, None),
    ],
)
def test_what_counts_of_a_path(raw: bytes, without_slash: str, like_servlet: str | None, both: str | None) -> None:
    text = canonical_path(raw).text
    assert compile_path_view(without_final_slash=False, like_servlet=False) is None
    for settings, expected in (((True, False), without_slash), ((False, True), like_servlet), ((True, True), both)):
        view = compile_path_view(without_final_slash=settings[0], like_servlet=settings[1])
        assert view is not None
        if expected is None:
            with pytest.raises(BadTarget):
                view(text)
        else:
            assert view(text) == expected
