"""Host names: what a Host header becomes, and which pattern let a host in."""

import pytest

from gw.router import normalise_host
from gw.router.hosts import matched_host


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        ("foo.com", "foo.com"),
        ("FOO.com:9080", "foo.com"),
        ("foo.com.", "foo.com"),
        ("foo.com.:80", "foo.com"),
        ("foo.com..", "foo.com."),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("[FE80::1]:443", "[fe80::1]"),
        ("::1", "::1"),
        ("[::1", "[::1"),
        (":80", ""),
        ("", ""),
    ],
)
def test_normalise_host(raw: str, host: str) -> None:
    assert normalise_host(raw) == host
    assert normalise_host(host) == normalise_host(normalise_host(host))


@pytest.mark.parametrize(
    ("hosts", "host", "matched"),
    [
        ((), "foo.com", None),
        (("*.com", "foo.com"), "foo.com", "foo.com"),
        (("*.com", "*.foo.com"), "a.foo.com", "*.foo.com"),
    ],
)
def test_matched_host(hosts: tuple[str, ...], host: str, matched: str | None) -> None:
    assert matched_host(hosts, host) == matched
