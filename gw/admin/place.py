"""What a path of the Admin API names: a collection, a resource, or a part of one. Decides only.

A resource is mostly `/{kind}/{id}`. APISIX has three exceptions: credentials lie below their consumer
(`/consumers/{username}/credentials/{id}`), secrets below their manager (`/secrets/{manager}/{id}`), and the names that
its releases 2.x had for two kinds (`ssl`, `proto`) still count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gw.admin.reply import error_of
from gw.model.keys import KINDS, OLD_NAMES
from gw.model.operations import NOUNS, UNSUPPORTED

# The list of plugins is a resource of the store, but no collection: it has paths of its own.
_SERVED: Final = frozenset(KINDS) - {"plugins"}
_CREDENTIALS: Final = "credentials"
# Method -> what it does with a kind, where UNSUPPORTED may speak against it. Others are there for every kind.
_REFUSABLE: Final = {"POST": "create", "PATCH": "patch"}
_OF_PARTS: Final = frozenset({"PATCH", "OPTIONS"})
_METHODS: Final = ("GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Place:
    """`id` as operations have it (None: the collection); `parent`: the consumer whose credentials these are."""

    kind: str
    id: str | None = None
    parent: str | None = None
    sub_path: tuple[str, ...] = ()

    @property
    def noun(self) -> str:
        """The word for one of this kind."""
        return NOUNS[self.kind]

    def refuse_unsupported(self, method: str) -> None:
        """Raises AdminError 405 for a method that is not for this kind, or not for a part of a resource."""
        if method not in self.methods:
            reason = f"not supported `{method}` method for {self.noun}"
            raise error_of(405, reason, {"Allow": ", ".join(self.methods)})

    @property
    def methods(self) -> tuple[str, ...]:
        """What can be done here. A part of a resource can be patched, and nothing else."""
        unsupported = UNSUPPORTED.get(self.kind, frozenset())
        of_kind = (method for method in _METHODS if _REFUSABLE.get(method) not in unsupported)
        return tuple(method for method in of_kind if not self.sub_path or method in _OF_PARTS)


def locate(kind: str, id: str | None = None, path: str | None = None) -> Place:
    """The place behind `/{kind}/{id}/{path}`. Raises AdminError 404 for a kind there is not."""
    kind = OLD_NAMES.get(kind, kind)
    below = tuple(path.split("/")) if path else ()
    if kind == "consumers" and below[:1] == (_CREDENTIALS,):
        return _credential(id or "", below[1:])
    if kind not in _SERVED or kind == _CREDENTIALS:
        raise error_of(404, f"Unsupported resource type: {kind}")
    if kind == "secrets" and id is not None:
        return _secret(id, below)
    return Place(kind, id, sub_path=below)


def _credential(username: str, below: tuple[str, ...]) -> Place:
    id = f"{username}/{below[0]}" if below else None
    return Place(_CREDENTIALS, id, username, below[1:])


def _secret(manager: str, below: tuple[str, ...]) -> Place:
    """A manager alone names the collection, as in APISIX."""
    return Place("secrets", f"{manager}/{below[0]}", sub_path=below[1:]) if below else Place("secrets")
