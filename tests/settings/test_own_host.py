"""Hosts that are this one, and texts that only look like it."""

from __future__ import annotations

import pytest

from gw.settings.own_host import OwnHosts, host_of_header, host_of_origin


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost", "localhost"),
        ("LocalHost:9090", "localhost"),
        ("127.0.0.1:9090", "127.0.0.1"),
        ("[::1]:9090", "::1"),
        ("", None),
        ("a@localhost", None),
        ("localhost/x", None),
        ("localhost?", None),
        ("localhost#", None),
        ("local\thost", None),
        (" localhost", " localhost"),
        ("localhost:x", None),
        ("localhost:99999", None),
        ("[::1", None),
        ("h/x//h", None),
    ],
)
def test_host_of_a_header(header: str, host: str | None) -> None:
    assert host_of_header(header) == host


@pytest.mark.parametrize(
    ("origin", "host"),
    [("http://Localhost:9000", "localhost"), ("null", None), ("http://a/", None), ("http://a@b", None), ("", None)],
)
def test_host_of_an_origin(origin: str, host: str | None) -> None:
    assert host_of_origin(origin) == host


def test_what_is_ours() -> None:
    ours = OwnHosts(["Gw-1.Example"])
    for host in ("localhost", "gw-1.example", "10.0.0.7", "::1"):
        assert host in ours
    for host in ("evil.example", "", " localhost", "localhost.", "127.0.0.1.evil.example", "127.1"):
        assert host not in ours
