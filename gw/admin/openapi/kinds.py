"""The operations on resources, for each kind by the same table: which there are is `UNSUPPORTED`'s to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gw.admin.openapi.bodies import component, reference
from gw.admin.openapi.parts import (
    FORCE,
    LISTING,
    TTL,
    WAIT,
    Node,
    json_answer,
    json_body,
    path_parameter,
    responses,
)
from gw.admin.parameters import FILTER_FIELDS
from gw.model.operations import NOUNS, UNSUPPORTED, Create, Patch

_WRITTEN: Final = (TTL, WAIT)
_ANYTHING: Final[Node] = {"description": "Any JSON value; null takes away what stands there."}


class Place(NamedTuple):
    """Where the resources of a kind are: templates below the prefix, and their parameters."""

    collection: str
    item: str
    above: tuple[Node, ...]
    id: Node


def paths_of_kind(kind: str, plugin_names: tuple[str, ...]) -> Iterator[tuple[str, Node]]:
    """(template of a path, path item) of a kind."""
    place = _place(kind, plugin_names)
    yield place.collection, {
        "parameters": list(place.above),
        **dict(_of_collection(kind)),
    }
    yield place.item, {"parameters": [*place.above, place.id], **dict(_of_item(kind))}
    if _can(kind, Patch):
        part = path_parameter("path", "Names of members, one below the other, with `/` between.", {"type": "string"})
        yield f"{place.item}/{{path}}", {
            "parameters": [*place.above, place.id, part],
            "patch": _operation(
                kind,
                "replace_part_of",
                f"Put the body in the place of a part of a {NOUNS[kind]}",
                _written(kind, 200),
                404,
                413,
                parameters=_WRITTEN,
                body=json_body(_ANYTHING, "What is to stand there."),
            ),
        }


def _place(kind: str, plugin_names: tuple[str, ...]) -> Place:
    if kind == "credentials":
        owner = path_parameter("username", "The consumer.")
        id = path_parameter("credential_id", "The id of the credential.")
        collection = "/consumers/{username}/credentials"
        return Place(collection, f"{collection}/{{credential_id}}", (owner,), id)
    if kind == "secrets":
        id = path_parameter("id", "Manager and id, such as `vault/1`: the slash stands as it is.", {"type": "string"})
        return Place("/secrets", "/secrets/{id}", (), id)
    if kind == "plugin_metadata":
        id = path_parameter("id", "The name of an enabled plugin.", {"type": "string", "enum": list(plugin_names)})
    elif kind == "consumers":
        id = path_parameter("id", "The consumer's username.")
    else:
        id = path_parameter("id", f"The id of the {NOUNS[kind]}.")
    return Place(f"/{kind}", f"/{kind}/{{id}}", (), id)


def _of_collection(kind: str) -> Iterator[tuple[str, Node]]:
    noun = NOUNS[kind]
    fields = FILTER_FIELDS.get(kind, ())
    filter = [] if not fields else [_filter(fields)]
    listed = json_answer(reference(component(kind, "list")), "The resources.", of_store=True)
    yield "get", _operation(kind, "list", f"List {kind}", {200: listed}, 404, parameters=(*LISTING, *filter))
    if _can(kind, Create):
        yield "post", _operation(
            kind,
            "create",
            f"Create a {noun} under an id that is made",
            _written(kind, 201),
            413,
            parameters=_WRITTEN,
            body=json_body({"allOf": [reference(component(kind))], "not": {"required": ["id"]}}, f"The {noun}."),
        )
    named = "username" if kind == "consumers" else "id"
    if kind not in ("credentials", "secrets"):
        yield "put", _operation(
            kind,
            "put_named",
            f"Create or replace the {noun} whose {named} stands in the body",
            _written(kind, 200, 201),
            413,
            parameters=_WRITTEN,
            body=json_body({"allOf": [reference(component(kind))], "required": [named]}, f"The {noun}."),
        )


def _of_item(kind: str) -> Iterator[tuple[str, Node]]:
    noun = NOUNS[kind]
    found = json_answer(reference(component(kind, "item")), "The resource.", of_store=True)
    yield "get", _operation(kind, "get", f"Read a {noun}", {200: found}, 404)
    yield "put", _operation(
        kind,
        "put",
        f"Create or replace a {noun}",
        _written(kind, 200, 201),
        404,
        413,
        parameters=_WRITTEN,
        body=json_body(reference(component(kind)), f"The {noun}. An id in it has to be that of the path."),
    )
    if _can(kind, Patch):
        yield "patch", _operation(
            kind,
            "patch",
            f"Merge a change into a {noun}",
            _written(kind, 200),
            404,
            413,
            parameters=_WRITTEN,
            body=json_body({"type": "object"}, "Members to set; null takes one away (RFC 7396)."),
        )
    deleted = json_answer(reference("deleted"), "It is gone.", of_store=True)
    good = {200: deleted, 202: _not_everywhere("deleted")}
    yield "delete", _operation(kind, "delete", f"Delete a {noun}", good, 404, parameters=(FORCE, WAIT))


def _operation(
    kind: str,
    verb: str,
    summary: str,
    good: Mapping[int, Node],
    *errors: int,
    parameters: tuple[Node, ...] = (),
    body: Node | None = None,
) -> Node:
    operation: dict[str, Any] = {
        "operationId": f"{verb}_{component(kind)}",
        "summary": summary,
        "tags": [kind],
        "responses": responses(good, *errors),
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _written(kind: str, *statuses: int) -> Mapping[int, Node]:
    words = {200: "It took the place of what was there.", 201: "It is new."}
    item = component(kind, "item")
    done = {status: json_answer(reference(item), words[status], of_store=True) for status in statuses}
    return {**done, 202: _not_everywhere(item)}


def _not_everywhere(name: str) -> Node:
    schema = {
        "allOf": [reference(name)],
        "required": ["laggards"],
        "properties": {"laggards": reference("laggards")},
    }
    return json_answer(schema, "It is written, and not served by every worker within `wait`.", of_store=True)


def _filter(fields: tuple[str, ...]) -> Node:
    return {
        "name": "filter",
        "in": "query",
        "description": f"A query string by {' and '.join(fields)}: `{fields[0]}=1`, percent-encoded.",
        "schema": {"type": "string"},
    }


def _can(kind: str, operation: type[Create | Patch]) -> bool:
    return operation.op not in UNSUPPORTED.get(kind, ())
