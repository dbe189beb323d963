"""Whom the Admin API lets in, and where it may listen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gw.errors import ConfigError
from gw.settings import admits, load_settings

Config = Callable[[str], Path]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("127.0.0.0/24", "127.0.0.0/24"),
        ("10.1.2.3", "10.1.2.3/32"),
        ("::1", "::1/128"),
        ("::/0", "::/0"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.1.2.3/32"),
    ],
)
def test_blocks_that_are_taken(config: Config, written: str, expected: str) -> None:
    settings = load_settings(config(f"deployment: {{admin: {{allow_admin: ['{written}']}}}}"))
    assert [str(block) for block in settings.deployment.admin.allow_admin] == [expected]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("10.0.0.1/8", "write 10.0.0.0/8, or 10.0.0.1 for one host"),
        ("2001:db8::1/32", "write 2001:db8::/32"),
        # CVE-2026-92395: trusted the whole IPv4 internet.
        ("::ffff:10.0.0.0/8", "would cover all IPv4 addresses; write the IPv4 block"),
        ("::ffff:10.0.0.1/104", "write 10.0.0.0/8"),
        ("localhost", "must be an address or CIDR block"),
        ("10.0.0.0/33", "must be an address or CIDR block"),
        ("", "must be an address or CIDR block"),
    ],
)
def test_blocks_that_are_refused(config: Config, written: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(config(f"deployment: {{admin: {{allow_admin: ['127.0.0.1', '{written}']}}}}"))
    assert caught.value.path == "deployment.admin.allow_admin[1]"
    assert reason in caught.value.reason


def test_an_emptied_list_lets_nobody_in(config: Config) -> None:
    settings = load_settings(config("deployment: {admin: {allow_admin: []}}"))
    assert settings.deployment.admin.allow_admin == ()
    assert not admits(settings.deployment.admin.allow_admin, "127.0.0.1")
    assert any("lets nobody" in warning for warning in settings.warnings)


@pytest.mark.parametrize(
    ("peer", "let_in"),
    [
        ("127.0.0.9", True),
        ("::ffff:127.0.0.9", True),
        ("127.0.1.1", False),
        ("::1", False),
        ("10.0.0.1", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_a_mapped_peer_counts_as_ipv4(config: Config, peer: str, let_in: bool) -> None:
    assert admits(load_settings(config("")).deployment.admin.allow_admin, peer) is let_in


@pytest.mark.parametrize(
    ("admin", "refused"),
    [
        ("admin_key_required: false", False),
        ("admin_key_required: false, admin_listen: {ip: 0.0.0.0}", False),
        ("admin_key_required: false, admin_listen: {ip: 0.0.0.0}, allow_admin: [0.0.0.0/0]", True),
        ("admin_key_required: false, admin_listen: {ip: '::'}, allow_admin: ['::/0']", True),
        ("admin_key_required: false, allow_admin: [0.0.0.0/0]", False),
        ("admin_listen: {ip: 0.0.0.0}, allow_admin: [0.0.0.0/0]", False),
    ],
)
def test_an_admin_api_without_keys_stays_on_loopback(config: Config, admin: str, refused: bool) -> None:
    path = config(f"deployment: {{admin: {{{admin}}}}}")
    if refused:
        with pytest.raises(ConfigError, match="only where loopback alone reaches"):
            load_settings(path)
    else:
        load_settings(path)
