"""Whose X-Forwarded-* count: the cases of APISIX's t/core/trusted-addresses.t, and aliases of the names."""

from __future__ import annotations

import ipaddress
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from gw.pipeline.forwarded import (
    Observed,
    Trust,
    TrustedAddresses,
    claimed,
    has_forgeries,
    observed,
    without_forgeries,
)
from gw.pipeline.origin import Origin
from gw.pipeline.path import host_name
from gw.settings import load_settings
from tests.support.finished import request

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
    assert has_forgeries(trust, CLAIMS) is (trust is not Trust.TRUSTED)
    if trust is not Trust.TRUSTED:
        assert without_forgeries(trust, CLAIMS, SEEN) == expected


@pytest.mark.parametrize("trust", Trust)
def test_headers_without_claims_are_left_as_they_are(trust: Trust) -> None:
    headers = [HOST, (b"x-forwarded", b"1"), (b"accept", b"*/*")]
    assert not has_forgeries(trust, headers)


def test_a_chain_alone_counts_where_there_is_no_list() -> None:
    headers = [HOST, (b"x-forwarded-for", b"1.2.3.4")]
    assert not has_forgeries(Trust.UNDECLARED, headers)
    assert has_forgeries(Trust.OTHER, headers)
    assert without_forgeries(Trust.OTHER, headers, SEEN) == [HOST, *OURS]


# CVE-2026-54763: names that a WSGI or PHP backend folds onto the trusted ones.
@pytest.mark.parametrize("trust", [Trust.UNDECLARED, Trust.OTHER])
@pytest.mark.parametrize(
    "alias",
    [b"x_forwarded_proto", b"x.forwarded.host", b"x-forwarded_port", b"x_forwarded_for", b"x.forwarded-for"],
)
def test_aliases_go(trust: Trust, alias: bytes) -> None:
    assert has_forgeries(trust, [HOST, (alias, b"https")])
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


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([HOST], SEEN),
        (CLAIMS, (b"https", b"evil.com", b"8443")),
        ([HOST, (b"x-forwarded-proto", b"https")], (b"https", SEEN.host, SEEN.port)),
        ([HOST, (b"x-forwarded-proto", b""), (b"x-forwarded-host", b"a")], (SEEN.proto, b"a", SEEN.port)),
        ([(b"x-forwarded-proto", b""), (b"x-forwarded-proto", b"https")], (b"https", SEEN.host, SEEN.port)),
    ],
)
def test_what_an_upstream_is_told(headers: Pairs, expected: tuple[bytes, ...]) -> None:
    assert claimed(headers, SEEN) == expected


PROXY: Pairs = [HOST, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2"), (b"x-forwarded-proto", b"https")]


@pytest.mark.parametrize(
    ("settings", "peer", "address", "headers"),
    [
        # APISIX's defaults: X-Real-IP of loopback, X-Forwarded-For appended to, the rest as we see it.
        ("", "198.51.100.1", "198.51.100.1", [HOST, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2"), *OURS]),
        ("", "127.0.0.1", "127.0.0.1", [HOST, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2"), *OURS]),
        ("apisix: {trusted_addresses: [10.0.0.0/8]}", "10.0.0.1", "10.0.0.1", PROXY),
        ("apisix: {trusted_addresses: [10.0.0.0/8]}", "198.51.100.1", "198.51.100.1", [HOST, *OURS]),
        (
            "nginx_config: {http: {real_ip_header: X-Forwarded-For, real_ip_recursive: on,\n"
            "  real_ip_from: [10.0.0.0/8]}}",
            "10.0.0.1",
            "192.0.2.7",
            [HOST, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2"), *OURS],
        ),
        # CVE-2026-110724: by another peer, the same header says nothing.
        (
            "nginx_config: {http: {real_ip_header: X-Forwarded-For, real_ip_from: [10.0.0.0/8]}}",
            "198.51.100.1",
            "198.51.100.1",
            [HOST, (b"x-forwarded-for", b"192.0.2.7, 10.0.0.2"), *OURS],
        ),
        # The two lists are apart: who may say where a client is need not be believed in the rest.
        (
            "apisix: {trusted_addresses: []}\n"
            "nginx_config: {http: {real_ip_header: X-Forwarded-For, real_ip_from: [10.0.0.0/8]}}",
            "10.0.0.1",
            "10.0.0.2",
            [HOST, *OURS],
        ),
    ],
)
def test_settled_for_a_request(tmp_path: Path, settings: str, peer: str, address: str, headers: Pairs) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(settings)
    settled = request(PROXY, peer=peer, admitted=False)
    Origin.from_settings(load_settings(path))(settled)
    assert (settled.remote_addr, settled.link.peer) == (address, peer)
    assert settled.headers == headers


def test_a_client_behind_loopback(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("")
    settled = request([HOST, (b"x-real-ip", b"192.0.2.7")], peer="127.0.0.1", admitted=False)
    Origin.from_settings(load_settings(path))(settled)
    assert (settled.remote_addr, settled.remote_port, settled.link.peer_port) == ("192.0.2.7", None, 51000)


@pytest.mark.parametrize("remember", [host_name, lambda host: observed("http", host, 80)])
def test_long_hosts_are_not_remembered(remember: Callable[[bytes], object]) -> None:
    tracemalloc.start()
    try:
        for number in range(1024):
            remember(b"%d." % number + b"a" * 8000)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 1_000_000
