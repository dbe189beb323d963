"""Whose X-Forwarded-* count: the cases of APISIX's t/core/trusted-addresses.t, and aliases of the names."""

from __future__ import annotations

import ipaddress

import pytest

from gw.pipeline.forwarded import Observed, Trust, TrustedAddresses, observed, without_forgeries

Pairs = list[tuple[bytes, bytes]]
SEEN = Observed(b"http", b"gateway:9080", b"9080")
OURS = [(b"x-forwarded-proto", b"http"), (b"x-forwarded-host", b"gateway:9080"), (b"x-forwarded-port", b"9080")]
HOST = (b"host", b"gateway:9080")
CLAIMS: Pairs = [
    HOST,
    (b"x-forwarded-for", b"1.2.3.4"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.com"),
    (b"x-forwarded-port", b"8443"),
    (b"forwarded", b"for=1.2.3.4;host=evil.com"),
]


@pytest.mark.parametrize(
    ("listed", "peer", "expected"),
    [
        (None, "127.0.0.1", Trust.UNDECLARED),
        ((), "127.0.0.1", Trust.OTHER),
        (("127.0.0.1",), "127.0.0.1", Trust.TRUSTED),
        (("127.0.0.0/24", "1.1.1.1"), "127.0.0.9", Trust.TRUSTED),
        (("1.0.0.1", "10.0.0.0/8"), "127.0.0.1", Trust.OTHER),
        (("0.0.0.0/0",), "127.0.0.1", Trust.TRUSTED),
        (("0.0.0.0/0",), "::1", Trust.OTHER),
        (("10.0.0.0/8",), "::ffff:10.1.1.1", Trust.TRUSTED),
        (("0.0.0.0/0", "::/0"), "unix", Trust.OTHER),
    ],
)
def test_who_is_trusted(listed: tuple[str, ...] | None, peer: str, expected: Trust) -> None:
    networks = None if listed is None else tuple(map(ipaddress.ip_network, listed))
    assert TrustedAddresses(networks).judge(peer) is expected


@pytest.mark.parametrize(
    ("trust", "expected"),
    [
        (Trust.UNDECLARED, [HOST, (b"x-forwarded-for", b"1.2.3.4"), *OURS]),
        (Trust.OTHER, [HOST, *OURS]),
        (Trust.TRUSTED, CLAIMS),
    ],
)
def test_claims_count_by_trust(trust: Trust, expected: Pairs) -> None:
    assert without_forgeries(trust, CLAIMS, SEEN) == expected


@pytest.mark.parametrize("trust", Trust)
def test_headers_without_claims_are_left_as_they_are(trust: Trust) -> None:
    headers = [HOST, (b"x-forwarded", b"1"), (b"accept", b"*/*")]
    assert without_forgeries(trust, headers, SEEN) is headers


def test_a_chain_alone_counts_where_there_is_no_list() -> None:
    headers = [HOST, (b"x-forwarded-for", b"1.2.3.4")]
    assert without_forgeries(Trust.UNDECLARED, headers, SEEN) is headers
    assert without_forgeries(Trust.OTHER, headers, SEEN) == [HOST, *OURS]


# CVE-2026-54763: names that a WSGI or PHP backend folds onto the trusted ones.
@pytest.mark.parametrize("trust", [Trust.UNDECLARED, Trust.OTHER])
@pytest.mark.parametrize(
    "alias",
    [b"x_forwarded_proto", b"x.forwarded.host", b"x-forwarded_port", b"x_forwarded_for", b"x.forwarded-for"],
)
def test_aliases_go(trust: Trust, alias: bytes) -> None:
    assert without_forgeries(trust, [HOST, (alias, b"https")], SEEN) == [HOST, *OURS]


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        (b"example.com:8443", 9080, (b"example.com:8443", b"8443")),
        (b"Example.COM", 9080, (b"Example.COM", b"9080")),
        (b"Example.COM:", 9080, (b"Example.COM:", b"9080")),
        (b"[2001:db8::1]", 9080, (b"[2001:db8::1]", b"9080")),
        (b"[2001:db8::1]:81", 9080, (b"[2001:db8::1]:81", b"81")),
        (None, 9080, (b"", b"9080")),
        (None, None, (b"", b"")),
    ],
)
def test_what_the_gateway_sees(host: bytes | None, port: int | None, expected: tuple[bytes, bytes]) -> None:
    assert observed("http", host, port) == (b"http", *expected)
