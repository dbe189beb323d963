"""The keyring in the configuration: forms, refusals, and that nobody but the agent has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gw.errors import ConfigError
from gw.settings import load_agent_settings, load_settings

Config = Callable[[str], Path]
KEY, KEY_32 = "a-key-of-our-own", "fedcba98765432100123456789abcdef"


@pytest.mark.parametrize(
    ("keyring", "keys"),
    [
        ("[]", ()),
        ("''", ()),
        ("null", ()),
        (KEY, (KEY,)),
        (f"[{KEY}, {KEY_32}]", (KEY, KEY_32)),
        (f"[{KEY}, edd1c9f0985e76a2]", (KEY, "edd1c9f0985e76a2")),
        ("'${{RING}}'", ("from-environment",)),
        ("['${{RING}}']", ("from-environment",)),
    ],
)
def test_forms_of_a_keyring(config: Config, keyring: str, keys: tuple[str, ...]) -> None:
    text = f"apisix:\n  data_encryption: {{keyring: {keyring}}}\n  ssl: {{key_encrypt_salt: {keyring}}}"
    agent = load_agent_settings(config(text), environ={"RING": "from-environment"})
    assert agent.data_encryption.keyring == agent.ssl.key_encrypt_salt == keys
    assert agent.generate_keyring is (keys == ())


@pytest.mark.parametrize(
    ("data", "path", "reason"),
    [
        ("keyring: [short]", "keyring[0]", "16 or 32 bytes"),
        (f"keyring: [{KEY}, {KEY}x]", "keyring[1]", "16 or 32 bytes"),
        ("keyring: [1234567890123456]", "keyring[0]", "put it in quotes"),
        ("keyring: {a: b}", "keyring", "must be a list"),
        ("keyring: [edd1c9f0985e76a2]", "keyring[0]", "APISIX published"),
        ("keyring: [qeddd145sfvddff3, edd1c9f0985e76a2]", "keyring[0]", "APISIX published"),
        ("keyring: edd1c9f0985e76a2", "keyring[0]", "APISIX published"),
        ("enable_encrypt_fields: maybe", "enable_encrypt_fields", "true or false"),
        ("enable: true", "enable", "is apisix.data_encryption.enable_encrypt_fields"),
    ],
)
def test_what_is_refused(config: Config, data: str, path: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(config(f"apisix: {{data_encryption: {{{data}}}}}"), environ={})
    assert caught.value.path == f"apisix.data_encryption.{path}"
    assert reason in caught.value.reason
    assert "edd1c9f0985e76a2" not in str(caught.value)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        ("gw: {store: etcd}\napisix: {data_encryption: {enable_encrypt_fields: true}}", False),
        (f"gw: {{store: etcd}}\napisix: {{data_encryption: {{enable_encrypt_fields: true, keyring: {KEY}}}}}", True),
        ("gw: {store: etcd}\napisix: {data_encryption: {enable_encrypt_fields: false}}", True),
        ("gw: {store: etcd}", True),
        ("apisix: {data_encryption: {enable_encrypt_fields: true}}", True),
    ],
)
def test_a_shared_store_cannot_be_encrypted_without_a_key_that_is_shared(
    config: Config, text: str, starts: bool
) -> None:
    if starts:
        load_agent_settings(config(text), environ={})
        return
    with pytest.raises(ConfigError, match="all who share the store must have the same key"):
        load_agent_settings(config(text), environ={})


def test_no_key_in_a_repr_nor_with_the_workers(config: Config) -> None:
    text = f"apisix:\n  data_encryption: {{keyring: [{KEY}]}}\n  ssl: {{key_encrypt_salt: {KEY_32}}}"
    path = config(text)
    for shown in (repr(load_agent_settings(path, environ={})), repr(load_settings(path, environ={}))):
        assert KEY not in shown
        assert KEY_32 not in shown


@pytest.mark.parametrize("text", [f"data_encryption: {{keyring: {KEY}}}", f"ssl: {{key_encrypt_salt: [{KEY}]}}"])
def test_keys_in_a_file_that_others_can_read_are_warned_of(config: Config, text: str) -> None:
    path = config(f"apisix: {{{text}}}")
    path.chmod(0o644)
    assert any("readable by others" in warning for warning in load_agent_settings(path, environ={}).warnings)


def test_the_keyring_may_stand_in_the_agents_own_file(config: Config, tmp_path: Path) -> None:
    path = config("gw: {store: etcd}")
    agent_file = tmp_path / "agent.yaml"
    agent_file.write_text(f"apisix: {{data_encryption: {{keyring: [{KEY}]}}}}")
    agent_file.chmod(0o600)
    assert load_agent_settings(path, environ={}).data_encryption.keyring == (KEY,)
    agent_file.write_text("apisix: {data_encryption: {keyring: [edd1c9f0985e76a2]}}")
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(path, environ={})
    assert caught.value.source == str(agent_file)
