"""Where the keys come from, and which are refused."""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gw.errors import ConfigError
from gw.model.keys import ResourceKey
from gw.schema.plugin_schemas import PluginSchema, PluginSchemas
from gw.settings import AgentSettings, load_agent_settings
from sync_agent.encryption import Keyring
from sync_agent.encryption.provision import ensure_keyring, load_protection

ROUTE = ResourceKey("routes", "1")
PLUGINS = PluginSchemas({"x": PluginSchema({"encrypt_fields": ["secret"]}, "a test")})
RESOURCE = {"plugins": {"x": {"secret": "planted"}}}
KEY, OLD_KEY = "a-key-of-our-own", "an-older-key-of-ours-of-32-bytes"
PUBLISHED = "edd1c9f0985e76a2"


def settings(directory: Path, text: str = "") -> AgentSettings:
    path = directory / "config.yaml"
    path.write_text(text or "{}")
    path.chmod(0o600)
    return load_agent_settings(path, environ={})


def stored_by(of: AgentSettings) -> dict[str, Any]:
    return load_protection(of, PLUGINS).sealed(ROUTE, RESOURCE)


def by(key: str) -> dict[str, Any]:
    return {"plugins": {"x": {"secret": Keyring([key]).encrypt("planted")}}}


def test_for_an_embedded_store_a_keyring_is_made_once_for_us_alone(tmp_path: Path) -> None:
    of = settings(tmp_path)
    before = os.umask(0)
    try:
        stored = stored_by(of)
    finally:
        os.umask(before)
    path = tmp_path / "var" / "keyring"
    assert of.keyring_file == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stored == by(path.read_text().strip())
    assert stored_by(of) == stored
    assert load_protection(of, PLUGINS).opened(ROUTE, stored) == RESOURCE


def test_the_first_line_of_the_file_encrypts_and_all_decrypt(tmp_path: Path) -> None:
    of = settings(tmp_path)
    stored_by(of)
    path = tmp_path / "var" / "keyring"
    first = path.read_text().strip()
    path.write_text(f"{KEY}\n{first}\n")
    assert stored_by(of) == by(KEY)
    assert load_protection(of, PLUGINS).opened(ROUTE, by(first)) == RESOURCE


def test_a_configured_key_goes_before_the_made_one_which_is_still_read(tmp_path: Path) -> None:
    made = stored_by(settings(tmp_path))
    of = settings(tmp_path, f"apisix: {{data_encryption: {{keyring: ['{KEY}']}}}}")
    assert stored_by(of) == by(KEY)
    assert load_protection(of, PLUGINS).opened(ROUTE, made) == RESOURCE


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("gw: {store: etcd}", RESOURCE),
        ("gw: {store: etcd}\napisix: {data_encryption: {enable_encrypt_fields: false}}", RESOURCE),
        (f"gw: {{store: etcd}}\napisix: {{data_encryption: {{keyring: '{KEY}'}}}}", by(KEY)),
        (f"gw: {{store: etcd}}\napisix: {{data_encryption: {{keyring: [{OLD_KEY}, {PUBLISHED}]}}}}", by(OLD_KEY)),
        (
            f"gw: {{store: etcd}}\napisix: {{data_encryption: {{keyring: ['{KEY}'], enable_encrypt_fields: false}}}}",
            RESOURCE,
        ),
    ],
)
def test_for_a_shared_store_none_is_made(tmp_path: Path, text: str, stored: dict[str, Any]) -> None:
    of = settings(tmp_path, text)
    assert (of.keyring_file, of.generate_keyring) == (None, False)
    assert stored_by(of) == stored
    assert not (tmp_path / "var").exists()


def test_documents_are_in_clear_and_may_be_encrypted_all_the_same(tmp_path: Path) -> None:
    text = f"apisix: {{data_encryption: {{keyring: ['{KEY}'], enable_encrypt_fields: true}}}}"
    of = dataclasses.replace(settings(tmp_path, text), store_url="yaml:////a", keyring_file=None)
    protection = load_protection(of, PLUGINS)
    assert protection.sealed(ROUTE, RESOURCE) is RESOURCE
    assert protection.opened(ROUTE, by(KEY)) == RESOURCE
    looks_encrypted = {"plugins": {"x": {"secret": "0f" * 32}}}
    assert protection.opened(ROUTE, looks_encrypted) is looks_encrypted


def test_a_published_key_only_reads(tmp_path: Path) -> None:
    of = settings(tmp_path, f"gw: {{store: etcd}}\napisix: {{data_encryption: {{keyring: ['{KEY}', {PUBLISHED}]}}}}")
    assert load_protection(of, PLUGINS).opened(ROUTE, by(PUBLISHED)) == RESOURCE
    assert any("has a key that APISIX published" in warning for warning in of.warnings)


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (f"{KEY}\n", 0o640, "mode is 0640"),
        ("", 0o600, "must begin with a key"),
        ("tiny\n", 0o600, "16 or 32 bytes"),
        (f"{KEY}\n{KEY}x\n", 0o600, "16 or 32 bytes"),
        (f"{PUBLISHED}\n", 0o600, "a key of your own"),
        ("ключ" * 4 + "\n", 0o600, "not ASCII"),
    ],
)
def test_a_file_that_will_not_do_is_refused(tmp_path: Path, content: str, mode: int, reason: str) -> None:
    path = tmp_path / "keyring"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=reason) as caught:
        ensure_keyring(path)
    assert all(line not in str(caught.value) for line in content.splitlines())
