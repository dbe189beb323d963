"""What the body of a write says of itself: which resource it is, and what callers may not set. Decides only.

Words and rules are those of `check_conf` in apisix/admin/resource.lua (3.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gw.model.operations import NOUNS

# Kept by the agent. Callers may not set them, as in APISIX since 3.7; a PATCH may, as there.
MANAGED_FIELDS: Final = ("create_time", "update_time")
# As the schema has it of what is neither text nor a number from 1.
_NO_ID: Final = 'invalid configuration: property "id" validation failed: object matches none of the required'


class InvalidBody(ValueError):
    """A body that cannot be that of the resource it is sent for. Its text is the whole reason."""


def object_of(kind: str, body: Any) -> dict[str, Any]:
    """The body as an object. Raises InvalidBody."""
    if not isinstance(body, dict):
        raise InvalidBody(f"invalid configuration: wrong type: a {NOUNS[kind]} is an object")
    return body


def id_of(kind: str, id: str | None, body: Mapping[str, Any], parent: str | None = None) -> str:
    """The id of a resource, from the URL or the body; where both say one, they must agree. Raises InvalidBody.

    In the body it is text or a whole number, and without the name of the `parent` that a credential's id begins with.
    """
    if kind == "consumers":
        return _username(id, body)
    in_body = body.get("id")
    if "id" in body and type(in_body) not in (str, int):
        raise InvalidBody(_NO_ID if id is None else f"wrong {NOUNS[kind]} id")
    if id is None and in_body is None:
        # As APISIX words it for the one kind that is not known by an id.
        missing = "plugin name" if kind == "plugin_metadata" else f"{NOUNS[kind]} id"
        raise InvalidBody(f"missing {missing}")
    if id is not None and in_body is not None and str(in_body) not in (id, id.rpartition("/")[2]):
        raise InvalidBody(f"wrong {NOUNS[kind]} id")
    if type(in_body) is int and in_body < 1:
        raise InvalidBody(_NO_ID)
    if id is not None:
        return id
    return str(in_body) if parent is None else f"{parent}/{in_body}"


def forbid_managed(body: Mapping[str, Any]) -> None:
    """Refuse times that a caller sets, in the resource or in the upstream inside it. Raises InvalidBody."""
    named = [field for field in MANAGED_FIELDS if body.get(field) is not None]
    upstream = body.get("upstream")
    if isinstance(upstream, dict):
        named += [f"upstream.{field}" for field in MANAGED_FIELDS if upstream.get(field) is not None]
    if named:
        raise InvalidBody(f"the property is forbidden: {' '.join(named)}")


def _username(id: str | None, body: Mapping[str, Any]) -> str:
    """A consumer has no id: it is its `username`, which the body has to say even where the URL does."""
    username = body.get("username")
    if username is None:
        raise InvalidBody('invalid configuration: property "username" is required')
    if not isinstance(username, str):
        raise InvalidBody('invalid configuration: property "username" validation failed: wrong type: expected string')
    if id not in (None, username):
        raise InvalidBody("wrong username")
    return username
