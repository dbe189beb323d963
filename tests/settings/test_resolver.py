"""Settings of the resolver: APISIX's keys and forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gw.errors import ConfigError
from gw.settings.load import load_settings
from gw.settings.resolver import NameServer

Config = Callable[[str], Path]


def test_by_default_the_system_says_whom_to_ask(config: Config) -> None:
    apisix = load_settings(config("")).apisix
    assert apisix.dns_resolver == ()
    assert (apisix.dns_resolver_valid_s, apisix.resolver_timeout_s) == (None, 5)
    assert apisix.enable_resolv_search_opt
    assert apisix.enable_ipv6


@pytest.mark.parametrize(
    ("written", "server"),
    [
        ("1.1.1.1", NameServer("1.1.1.1", 53)),
        ("127.0.0.1:8600", NameServer("127.0.0.1", 8600)),
        ("::1", NameServer("::1", 53)),
        ("[::1]", NameServer("::1", 53)),
        ("[2001:DB8::1]:5353", NameServer("2001:db8::1", 5353)),
    ],
)
def test_forms_of_a_server(config: Config, written: str, server: NameServer) -> None:
    assert load_settings(config(f"apisix: {{dns_resolver: ['{written}']}}\n")).apisix.dns_resolver == (server,)


@pytest.mark.parametrize("written", ["dns.example", "1.1.1.1:0", "1.1.1.1:65536", "1.1.1", "''", "53", "[::1]:x"])
def test_what_is_no_server(config: Config, written: str) -> None:
    with pytest.raises(ConfigError, match=r"apisix.dns_resolver\[1\]"):
        load_settings(config(f"apisix: {{dns_resolver: ['1.1.1.1', \"{written}\"]}}\n"))


def test_apisix_example(config: Config) -> None:
    text = (
        "apisix:\n  dns_resolver: [1.1.1.1, 8.8.8.8]\n  dns_resolver_valid: 30\n  resolver_timeout: 2\n"
        "  enable_resolv_search_opt: false\n  enable_ipv6: false\n"
    )
    settings = load_settings(config(text))
    apisix = settings.apisix
    assert [server.ip for server in apisix.dns_resolver] == ["1.1.1.1", "8.8.8.8"]
    assert (apisix.dns_resolver_valid_s, apisix.resolver_timeout_s) == (30, 2)
    assert not apisix.enable_resolv_search_opt
    assert not apisix.enable_ipv6
    assert settings.warnings == ()
