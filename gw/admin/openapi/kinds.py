"""The operations on resources, for each kind by the same rules: which of them there are is `UNSUPPORTED`'s to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from gw.admin.openapi.bodies import reference
from gw.admin.openapi.parts import FORCE, LISTING, TTL, WAIT, json_answer, json_body, responses
from gw.admin.openapi.table import Documented, Node, path_parameter
from gw.admin.parameters import FILTER_FIELDS
from gw.model.operations import UNSUPPORTED, Create, Patch

_WRITTEN: Final = (TTL, WAIT)
_ANYTHING: Final[Node] = {"description": "Any JSON value; null takes away what stands there."}


def paths_of(each: Documented) -> Iterator[tuple[str, Node]]:
    """(template of a path, path item) of a kind."""
    if each.collection is not None:
        yield each.collection, {"parameters": list(each.above), **dict(_of_collection(each))}
    yield each.item, {"parameters": [*each.above, each.id], **dict(_of_item(each))}
    if _can(each, Patch):
        part = path_parameter("path", "Names of members, one below the other, with `/` between.", {"type": "string"})
        yield f"{each.item}/{{path}}", {"parameters": [*each.above, each.id, part], "patch": _patch_part(each)}


def _of_collection(each: Documented) -> Iterator[tuple[str, Node]]:
    listed = json_answer(reference(f"{each.name}.list"), "The resources.", of_store=True)
    asked = (*LISTING, *_filter(each))
    yield "get", _operation(each, "list", f"List {each.kind}", {200: listed}, 404, parameters=asked)
    body = reference(each.name)
    if _can(each, Create):
        yield "post", _operation(
            each,
            "create",
            f"Create a {each.noun} under an id that is made",
            _written(each, 201),
            413,
            parameters=_WRITTEN,
            body=json_body({"allOf": [body], "not": {"required": ["id"]}}, f"The {each.noun}."),
        )
    if each.names_in_body is not None:
        yield "put", _operation(
            each,
            "put_named",
            f"Create or replace the {each.noun} whose {each.names_in_body} stands in the body",
            _written(each, 200, 201),
            413,
            parameters=_WRITTEN,
            body=json_body({"allOf": [body], "required": [each.names_in_body]}, f"The {each.noun}."),
        )


def _of_item(each: Documented) -> Iterator[tuple[str, Node]]:
    found = json_answer(reference(f"{each.name}.item"), "The resource.", of_store=True)
    yield "get", _operation(each, "get", f"Read a {each.noun}", {200: found}, 404)
    yield "put", _operation(
        each,
        "put",
        f"Create or replace a {each.noun}",
        _written(each, 200, 201),
        404,
        413,
        parameters=_WRITTEN,
        body=json_body(reference(each.name), f"The {each.noun}. A name in it has to be that of the path."),
    )
    if _can(each, Patch):
        yield "patch", _operation(
            each,
            "patch",
            f"Merge a change into a {each.noun}",
            _written(each, 200),
            404,
            413,
            parameters=_WRITTEN,
            body=json_body({"type": "object"}, "Members to set; null takes one away (RFC 7396)."),
        )
    deleted = json_answer(reference("deleted"), "It is gone.", of_store=True)
    good = {200: deleted, 202: _not_everywhere("deleted")}
    yield "delete", _operation(each, "delete", f"Delete a {each.noun}", good, 404, parameters=(FORCE, WAIT))


def _patch_part(each: Documented) -> Node:
    summary = f"Put the body in the place of a part of a {each.noun}"
    body = json_body(_ANYTHING, "What is to stand there.")
    return _operation(each, "patch_part", summary, _written(each, 200), 404, 413, parameters=_WRITTEN, body=body)


def _operation(
    each: Documented,
    verb: str,
    summary: str,
    good: Mapping[int, Node],
    *errors: int,
    parameters: tuple[Node, ...] = (),
    body: Node | None = None,
) -> Node:
    operation: dict[str, Any] = {
        "operationId": f"{verb}_{each.name}".replace(".", "_"),
        "summary": summary,
        "tags": [each.kind],
        "responses": responses(good, *errors),
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _written(each: Documented, *statuses: int) -> Mapping[int, Node]:
    words = {200: "It took the place of what was there.", 201: "It is new."}
    item = f"{each.name}.item"
    done = {status: json_answer(reference(item), words[status], of_store=True) for status in statuses}
    return {**done, 202: _not_everywhere(item)}


def _not_everywhere(name: str) -> Node:
    schema = {
        "allOf": [reference(name)],
        "required": ["laggards"],
        "properties": {"laggards": reference("laggards")},
    }
    return json_answer(schema, "It is written, and not served by every worker within `wait`.", of_store=True)


def _filter(each: Documented) -> Iterator[Node]:
    fields = FILTER_FIELDS.get(each.kind)
    if fields:
        yield {
            "name": "filter",
            "in": "query",
            "description": f"A query string by {' and '.join(fields)}: `{fields[0]}=1`, percent-encoded.",
            "schema": {"type": "string"},
        }


def _can(each: Documented, operation: type[Create | Patch]) -> bool:
    return operation.op not in UNSUPPORTED.get(each.kind, ())
