"""What is published of encrypted resources, and what is said of those that cannot be opened."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from gw.model.digest import decode_resource
from gw.model.keys import ResourceKey
from gw.schema import load_plugin_schemas
from gw.settings.tree import OWN_PLUGINS
from gw.shm.log import Change
from sync_agent.encryption import Keyring, Protection
from sync_agent.intake import Intake
from sync_agent.stores.base import Event, KeyValue

OLD, NEW, OTHER = "0123456789abcdef", "fedcba98765432100123456789abcdef", "someone else key"
SECRET = "planted-secret-Bearer-4471"
PLUGINS = load_plugin_schemas(OWN_PLUGINS)
KEY = ResourceKey("routes", "1")


def route(auth_header: str) -> bytes:
    logger = {"uri": "http://127.0.0.1:1", "auth_header": auth_header}
    nodes = {"type": "roundrobin", "nodes": {"127.0.0.1:80": 1}}
    return json.dumps({"uri": "/a", "upstream": nodes, "plugins": {"http-logger": logger}}).encode()


def intake(published: Any = (), *, keys: tuple[str, ...] = (NEW, OLD)) -> Intake:
    return Intake(published, 100_000, PLUGINS, Protection(Keyring(keys), PLUGINS))


def take(of: Intake, value: bytes, revision: int = 5) -> list[Change]:
    return of.take_events([Event(str(KEY), KeyValue(str(KEY), value, revision, revision))])


def test_workers_get_it_in_clear() -> None:
    [change] = take(intake(), route(Keyring([OLD]).encrypt(SECRET)))
    assert change.blob is not None
    assert decode_resource(change.blob)["plugins"]["http-logger"]["auth_header"] == SECRET


def test_what_is_encrypted_with_another_key_is_the_same_content() -> None:
    """So neither rotating keys nor switching encryption on or off makes a new version."""
    of = intake()
    stored = [SECRET, Keyring([OLD]).encrypt(SECRET), Keyring([NEW]).encrypt(SECRET)]
    hashes = {change.hash for value in stored for change in take(of, route(value))}
    assert len(hashes) == 1
    assert take(of, route("another"))[0].hash not in hashes


def test_what_cannot_be_opened_is_rejected_by_name_without_harm_to_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    of = intake({KEY: object()})
    ciphertext = Keyring([OTHER]).encrypt(SECRET)
    other = KeyValue("routes/2", route(SECRET), 6, 6)
    changes = of.take_events([Event(str(KEY), KeyValue(str(KEY), route(ciphertext), 5, 5)), Event("routes/2", other)])
    assert [change.key.id for change in changes] == ["2"]
    [told] = of.report(10)
    assert (told["kind"], told["id"], told["serves_last_good"]) == ("routes", "1", True)
    reason = str(told["reason"])
    assert reason.startswith("plugins.http-logger.auth_header: ")
    assert "no key of apisix.data_encryption.keyring opens it" in reason
    for secret in (SECRET, ciphertext, OLD, NEW):
        assert secret not in reason + caplog.text


def test_the_key_that_was_missing_mends_it_without_a_write() -> None:
    value = route(Keyring([OTHER]).encrypt(SECRET))
    assert take(intake(), value) == []
    assert len(take(intake(keys=(NEW, OLD, OTHER)), value)) == 1


def test_what_is_decrypted_is_judged_like_everything_else() -> None:
    """A store may hold what no Admin API let through; a consumer's key is not shown for that."""
    conf = {"redis_host": "h", "policy": "redis", "count": 1, "time_window": 1, "redis_password": 7}
    value = json.dumps({"uri": "/a", "plugins": {"limit-count": conf}}).encode()
    of = intake()
    assert take(of, value) == []
    assert "redis_password" in of.rejections[KEY].reason or "clause" in of.rejections[KEY].reason
