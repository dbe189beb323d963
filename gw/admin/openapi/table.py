"""What is documented, by kind: where its resources are, and which schema a client's body has to fit.

The kinds come from gw.model.keys; what is written down here are APISIX's exceptions alone, as in gw.admin.place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from gw.model.keys import KINDS
from gw.model.operations import NOUNS
from gw.schema import schema_names
from gw.schema.load import load_definition

Node = dict[str, Any]

# `.` and `..` have a meaning in a path.
_ID: Final[Node] = {
    "type": "string",
    "pattern": r"^(\.{3,64}|[a-zA-Z0-9._-]*[a-zA-Z0-9_-][a-zA-Z0-9._-]*)$",
    "minLength": 1,
    "maxLength": 64,
}
_USERNAME: Final[Node] = load_definition("username")
# The list of plugins is read, and has paths of its own.
_LEFT_OUT: Final = frozenset({"plugins"})


class Documented(NamedTuple):
    """A kind; of secrets, those of one manager.

    `schema` is a name of `gw.schema.schema_names`, `name` that of the components (`plugin_config`), `noun` is for
    sentences. `collection` is None where a list is not of these alone. `names_in_body`: the field that names a resource
    which is put into the collection; None where that cannot be.
    """

    kind: str
    schema: str
    name: str
    noun: str
    collection: str | None
    item: str
    above: tuple[Node, ...]
    id: Node
    names_in_body: str | None


def documented(plugin_names: tuple[str, ...]) -> tuple[Documented, ...]:
    """Everything that has operations of its own. Metadata is there for the plugins of these names."""
    return tuple(each for kind in KINDS if kind not in _LEFT_OUT for each in _of_kind(kind, plugin_names))


def _of_kind(kind: str, plugin_names: tuple[str, ...]) -> Iterator[Documented]:
    noun = NOUNS[kind]
    name = noun.replace(" ", "_")
    if kind == "secrets":
        for schema in schema_names():
            _, slash, manager = schema.partition("secrets/")
            if slash:
                id = path_parameter("id", "The id of the secret's configuration.", _ID)
                item = f"/secrets/{manager}/{{id}}"
                yield Documented(kind, schema, f"{name}.{manager}", f"{manager} {noun}", None, item, (), id, None)
    elif kind == "credentials":
        above = path_parameter("username", "The consumer.", _USERNAME)
        id = path_parameter("credential_id", "The id of the credential.", _ID)
        collection = "/consumers/{username}/credentials"
        yield Documented(kind, kind, name, noun, collection, f"{collection}/{{credential_id}}", (above,), id, "id")
    else:
        id, named = _naming(kind, plugin_names)
        yield Documented(kind, kind, name, noun, f"/{kind}", f"/{kind}/{{id}}", (), id, named)


def _naming(kind: str, plugin_names: tuple[str, ...]) -> tuple[Node, str]:
    """The parameter that names a resource, and the field that does."""
    if kind == "consumers":
        return path_parameter("id", "The consumer's username.", _USERNAME), "username"
    if kind == "plugin_metadata":
        return path_parameter("id", "A plugin.", {"type": "string", "enum": list(plugin_names)}), "id"
    return path_parameter("id", f"The id of the {NOUNS[kind]}.", _ID), "id"


def path_parameter(name: str, description: str, schema: Node) -> Node:
    """A part of the path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}
