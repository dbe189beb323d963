"""Is this an id that a resource of its kind may have, and does the resource agree with it?

The id is that of the resource's key (`gw.model.keys`): the id of its URL, which for a credential stands behind its
consumer's name and for a secret behind its manager's.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import fastjsonschema

from gw.model.operations import NOUNS
from gw.schema.compiled import Check, compile_check
from gw.schema.explain import Complaint, explain
from gw.schema.load import FILES, load_definition, schema_name
from gw.schema.wording import bare, quote, reason_at

# Names of directories wherever an id becomes part of a path: a store's, a URL's.
_RESERVED: Final = frozenset({".", ".."})
# What the parts of a key's id are called, of kinds for which that is not just `id`.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "consumers": ("username",),
    "credentials": ("username", "id"),
    "plugins": (),
    "secrets": ("manager", "id"),
}


def id_complaint(kind: str, id: str) -> Complaint | None:
    """What is wrong with the id of a key: not what the schema of its fields asks for, or a name that paths give a
    meaning."""
    names = _PARTS.get(kind, ("id",))
    parts = id.split("/", len(names) - 1) if names else []
    if len(parts) < len(names) or (not names and id):
        expected = "/".join(names) or "nothing"
        return Complaint(("id",), f'property "id" validation failed: {quote(id)} is not {expected}')
    for name, part in zip(names, parts, strict=True):
        if complaint := _part_complaint(kind, id, name, part):
            return complaint
    return None


def body_complaint(kind: str, id: str, resource: Mapping[str, Any]) -> Complaint | None:
    """Whether what a resource says of its own id is the one of its key, as a string or a number."""
    if kind == "consumers":
        return None if resource["username"] == id else Complaint(("username",), "wrong username", stands_alone=True)
    written = resource.get("id")
    if written is None or str(written) == id:
        return None
    if kind in ("credentials", "secrets") and str(written) == id.rpartition("/")[2]:
        return None
    return Complaint(("id",), f"wrong {NOUNS[kind]} id")


def _part_complaint(kind: str, id: str, name: str, part: str) -> Complaint | None:
    if name == "manager":
        if schema_name(kind, id) in FILES:
            return None
        return Complaint(("id",), f"invalid secret manager: {bare(part)}", stands_alone=True)
    complaint: Complaint | None = None
    try:
        _check(name)(part)
    except fastjsonschema.JsonSchemaException as failure:
        complaint = explain(load_definition(name), part) or Complaint((), str(failure))
    if complaint is None and part in _RESERVED:
        complaint = Complaint((), f"{quote(part)} is reserved")
    return complaint and Complaint((name,), reason_at((name,), complaint.reason))


@cache
def _check(name: str) -> Check:
    return compile_check(load_definition(name))
