"""The operations that are not on resources: schemas, plugins, this document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from gw.admin.openapi.bodies import item_of, list_of
from gw.admin.openapi.parts import LISTING, json_answer, json_body, responses
from gw.admin.openapi.table import Node, path_parameter
from gw.admin.schemas import JUDGED
from gw.plugins.catalogue import Catalogue
from gw.schema import published_schemas

_SUBSYSTEM: Final[Node] = {
    "name": "subsystem",
    "in": "query",
    "description": "Whose plugins: of HTTP, or of TCP and UDP.",
    "schema": {"type": "string", "enum": ["http", "stream"]},
}
_SCHEMA_TYPE: Final[Node] = {
    "name": "schema_type",
    "in": "query",
    "description": "`consumer`: of what consumers have under the plugin's name. Anything else: of what routes have.",
    "schema": {"type": "string"},
}
_ASKED: Final = (_SUBSYSTEM, _SCHEMA_TYPE)
_OBJECT: Final[Node] = {"type": "object"}
_SCHEMA: Final = {200: json_answer(_OBJECT, "A JSON Schema of draft 7.")}


def other_paths(plugins: Catalogue) -> Iterator[tuple[str, Node]]:
    """(template of a path, path item) of all of it."""
    secrets = {200: json_answer(list_of(item_of(_OBJECT)), "Those of all managers.", of_store=True)}
    yield "/secrets", {"get": _operation("list_secret", "List secrets", secrets, 404, asked=LISTING, tag="secrets")}
    yield from _paths_of_schemas(plugins)
    yield from _paths_of_plugins(plugins)
    document = {200: json_answer(_OBJECT, "This document.")}
    yield "/openapi.json", {"get": _operation("get_openapi", "This document", document)}


def _paths_of_schemas(plugins: Catalogue) -> Iterator[tuple[str, Node]]:
    yield "/schema/{name}", {
        "parameters": [_one_of("name", "A kind in the singular, or a plugin.", *published_schemas(), *plugins.names)],
        "get": _operation("get_schema", "A schema", _SCHEMA, 404, asked=_ASKED),
    }
    yield "/schema/plugins/{name}", {
        "parameters": [_one_of("name", "A plugin.", *plugins.names)],
        "get": _operation("get_schema_of_plugin", "The schema of a plugin", _SCHEMA, 404, asked=_ASKED),
    }
    valid: Node = {"description": "It is."}
    yield "/schema/validate/{kind}", {
        "parameters": [_one_of("kind", "A kind.", *JUDGED)],
        "post": {
            **_operation("validate", "Tell whether a resource is valid", {200: valid}, 404, 413),
            "requestBody": json_body({"description": "A resource, or what might be one."}, "The resource."),
        },
    }


def _paths_of_plugins(plugins: Catalogue) -> Iterator[tuple[str, Node]]:
    listed = json_answer({"type": "array", "items": {"type": "string"}}, "In the order in which they run.")
    done = {"description": "What is configured runs.", "content": {"text/plain": {"schema": {"const": "done"}}}}
    yield "/plugins", {"get": _list_of_all()}
    yield "/plugins/list", {
        "get": _operation("list_plugins", "The names of the enabled plugins", {200: listed}, asked=(_SUBSYSTEM,))
    }
    yield "/plugins/{name}", {
        "parameters": [_one_of("name", "A plugin.", *plugins.names)],
        "get": _operation("get_plugin", "The schema of a plugin", _SCHEMA, 404, asked=_ASKED),
    }
    yield "/plugins/reload", {
        "put": _operation("reload_plugins", "Whether the configuration file enables what runs", {200: done}, 409)
    }


def _one_of(name: str, description: str, *values: str) -> Node:
    return path_parameter(name, description, {"type": "string", "enum": list(values)})


def _list_of_all() -> Node:
    wanted = {"name": "all", "in": "query", "required": True, "schema": {"type": "string", "const": "true"}}
    facts = {
        "type": "object",
        "required": ["priority", "schema", "version"],
        "properties": {
            "priority": {"type": "integer"},
            "version": {"type": ["number", "string"]},
            "schema": _OBJECT,
            "metadata_schema": _OBJECT,
            "consumer_schema": _OBJECT,
        },
    }
    answer = json_answer({"type": "object", "additionalProperties": facts}, "By name.")
    asked = (wanted, _SUBSYSTEM)
    return _operation("describe_plugins", "Everything of every enabled plugin", {200: answer}, asked=asked)


def _operation(
    id: str,
    summary: str,
    good: Mapping[int, Node],
    *errors: int,
    asked: tuple[Node, ...] = (),
    tag: str = "schemas",
) -> Node:
    operation: Node = {
        "operationId": id,
        "summary": summary,
        "tags": [tag],
        "responses": responses(good, *errors),
    }
    return {**operation, "parameters": list(asked)} if asked else operation
