"""What consumers and credentials may hold for the auth plugins: refused before it is stored."""

from __future__ import annotations

from typing import Any

import pytest

from gw.schema import validate
from gw.schema.validate import InvalidResource
from tests.support.workers import PLUGINS

REFUSED = [
    # plugin, what stands under its name, what is wrong; facts of t/plugin/key-auth.t and basic-auth.t
    ("key-auth", {}, 'property "key" is required'),
    ("key-auth", {"key": 123}, 'property "key" validation failed: wrong type: expected string, got number'),
    ("key-auth", {"key": ""}, 'property "key" validation failed'),
    ("basic-auth", {"username": "foo"}, 'property "password" is required'),
    ("basic-auth", {}, "is required"),
    ("basic-auth", {"username": 123, "password": "bar"}, 'property "username" validation failed: wrong type'),
    ("basic-auth", {"username": "", "password": "bar"}, 'property "username" validation failed'),
    ("basic-auth", {"username": "foo", "password": ""}, 'property "password" validation failed'),
    ("basic-auth", {"username": "a:b", "password": "bar"}, 'property "username" validation failed'),
]


@pytest.mark.parametrize(("kind", "id"), [("consumers", "jack"), ("credentials", "jack/one")])
@pytest.mark.parametrize(("plugin", "conf", "reason"), REFUSED)
def test_what_is_refused(kind: str, id: str, plugin: str, conf: dict[str, Any], reason: str) -> None:
    resource: dict[str, Any] = {"plugins": {plugin: conf}}
    if kind == "consumers":
        resource["username"] = id
    with pytest.raises(InvalidResource) as refusal:
        validate(kind, id, resource, PLUGINS, refuse_unknown=True)
    assert reason in refusal.value.reason


@pytest.mark.parametrize(
    ("plugin", "conf"),
    [
        ("key-auth", {"key": "k"}),
        ("key-auth", {"key": "k", "_meta": {"disable": True}}),
        ("basic-auth", {"username": "rosé", "password": ":"}),
    ],
)
def test_what_is_taken(plugin: str, conf: dict[str, Any]) -> None:
    assert validate("credentials", "jack/1", {"plugins": {plugin: conf}}, PLUGINS)["plugins"] == {plugin: conf}


def test_the_secret_part_is_stored_encrypted() -> None:
    for plugin, field in (("key-auth", "key"), ("basic-auth", "password")):
        schema = PLUGINS.schema_for("credentials", plugin)
        assert schema is not None
        assert schema.encrypt_fields == ((field,),)
