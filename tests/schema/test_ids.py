"""Ids: which a resource of each kind may have, and whether a resource agrees with its key."""

from typing import Any

import pytest

from gw.errors import InvalidResource
from gw.schema import check_id, validate

NO_USERNAME = 'property "username" validation failed: failed to match pattern "^[a-zA-Z0-9_-]+$"'


def refusal(kind: str, id: str, resource: Any) -> str | None:
    try:
        validate(kind, id, resource)
    except InvalidResource as error:
        return error.reason
    return None


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a b", "a\n", "ä", "a" * 65, "%2e", "a\0", "a:b", "a\ud800"])
@pytest.mark.parametrize("kind", ["routes", "ssls", "credentials", "secrets"])
def test_ids_that_are_none(kind: str, id: str) -> None:
    before = {"credentials": "jack/", "secrets": "vault/"}.get(kind, "")
    with pytest.raises(InvalidResource):
        check_id(kind, before + id)


@pytest.mark.parametrize("id", ["1", "a", "a.b", "...", ".a", "_-.", "0" * 64])
@pytest.mark.parametrize("kind", ["routes", "ssls", "credentials", "secrets"])
def test_ids(kind: str, id: str) -> None:
    before = {"credentials": "jack/", "secrets": "vault/"}.get(kind, "")
    check_id(kind, before + id)


@pytest.mark.parametrize(
    ("kind", "id", "reason"),
    [
        ("consumers", "a.b", f'{NO_USERNAME} with "a.b"'),
        ("consumers", "a/b", f'{NO_USERNAME} with "a/b"'),
        ("credentials", "jack", 'property "id" validation failed: "jack" is not username/id'),
        ("credentials", "ja.ck/1", f'{NO_USERNAME} with "ja.ck"'),
        ("secrets", "vault", 'property "id" validation failed: "vault" is not manager/id'),
        ("secrets", "safe/1", "invalid secret manager: safe"),
        ("secrets", "../1", "invalid secret manager: .."),
        ("plugins", "1", 'property "id" validation failed: "1" is not nothing'),
    ],
)
def test_ids_of_several_parts(kind: str, id: str, reason: str) -> None:
    with pytest.raises(InvalidResource) as refused:
        check_id(kind, id)
    assert refused.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("kind", "id", "resource", "reason"),
    [
        ("routes", "1", {"id": 2, "uri": "/", "plugins": {}}, "wrong route id"),
        ("routes", "1", {"id": 1, "uri": "/", "plugins": {}}, None),
        ("consumers", "jack", {"username": "rose"}, "wrong username"),
        ("consumers", "jack", {"username": "jack"}, None),
        ("credentials", "jack/1", {"id": "1"}, None),
        ("credentials", "jack/1", {"id": 1}, None),
        ("credentials", "jack/1", {"id": "2"}, "wrong credential id"),
        ("secrets", "vault/1", {"id": "vault/1", "uri": "http://a", "prefix": "p", "token": "t"}, None),
        ("secrets", "vault/1", {"id": 1, "uri": "http://a", "prefix": "p", "token": "t"}, None),
        ("secrets", "vault/1", {"id": "aws/1", "uri": "http://a", "prefix": "p", "token": "t"}, "wrong secret id"),
        ("ssls", "1", {"id": "2", "sni": "a", "cert": "$env://C", "key": "$env://K"}, "wrong ssl id"),
    ],
)
def test_a_resource_agrees_with_its_key(kind: str, id: str, resource: dict[str, Any], reason: str | None) -> None:
    assert refusal(kind, id, resource) == reason
