"""The settings of the access log and of the client's address."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gw.errors import ConfigError
from gw.settings import load_settings
from gw.settings.access_log import DEFAULT_FORMAT

Config = Callable[[str], Path]


def test_the_defaults_are_those_of_apisix(config: Config, tmp_path: Path) -> None:
    settings = load_settings(config(""))
    http = settings.nginx_config.http
    assert (http.enable_access_log, http.access_log_format, http.access_log_format_escape) == (
        True,
        DEFAULT_FORMAT,
        "default",
    )
    assert http.access_log_buffer_bytes == 16384
    assert settings.access_log_path == tmp_path / "var/logs/access.log"
    assert (http.real_ip_header, http.real_ip_recursive) == ("X-Real-IP", False)
    assert [str(peer) for peer in http.real_ip_from] == ["127.0.0.1/32", "unix:"]
    assert settings.apisix.trusted_addresses is None
    assert settings.warnings == ()


def test_a_log_elsewhere(config: Config) -> None:
    settings = load_settings(config("nginx_config: {http: {access_log: /var/log/jitterway/access.log}}"))
    assert settings.access_log_path == Path("/var/log/jitterway/access.log")


def test_a_format_may_be_a_block(config: Config) -> None:
    text = "nginx_config:\n  http:\n    access_log_format: |\n      $status \"$uri\"\n"
    assert load_settings(config(text)).nginx_config.http.access_log_format == '$status "$uri"'


def test_an_empty_list_of_trusted_addresses_is_not_none(config: Config) -> None:
    assert load_settings(config("apisix: {trusted_addresses: []}")).apisix.trusted_addresses == ()


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("access_log_format_escape: none", "access_log_format_escape", "must be one of default, json"),
        ('access_log_format: "$status\\n$uri"', "access_log_format", "one line of text"),
        ("access_log_format: ''", "access_log_format", "one line of text"),
        ("real_ip_header: proxy_protocol", "real_ip_header", "must be the name of a request header"),
        ("real_ip_header: 'x y'", "real_ip_header", "must be the name of a request header"),
        ("real_ip_from: [127.0.0.1, localhost]", "real_ip_from[1]", "address or CIDR block"),
        ("real_ip_from: ['unix']", "real_ip_from[0]", "(or unix:)"),
        # CVE-2026-92395: would trust all of IPv4.
        ("real_ip_from: ['::ffff:10.0.0.0/8']", "real_ip_from[0]", "would cover all IPv4 addresses"),
    ],
)
def test_what_is_refused(config: Config, text: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(config(f"nginx_config: {{http: {{{text}}}}}"))
    assert caught.value.path == f"nginx_config.http.{path}"
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("apisix: {trusted_addresses: [10.0.0.0/8, 0.0.0.0/0]}", "apisix.trusted_addresses"),
        ("nginx_config: {http: {real_ip_from: ['::/0']}}", "nginx_config.http.real_ip_from"),
    ],
)
def test_trust_in_everybody_is_told(config: Config, text: str, path: str) -> None:
    (warning,) = load_settings(config(text)).warnings
    assert warning.startswith(f"{path} holds everybody")
