"""The operations on all resources as one document: APISIX's API-driven standalone mode (docs/standalone.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from gw.admin.openapi.bodies import reference
from gw.admin.openapi.parts import WAIT, json_answer, responses
from gw.admin.openapi.table import Node
from gw.model.keys import KINDS

TAG: Final = "configs"
_MEDIA: Final = ("application/json", "application/yaml")
_VERSION: Final[Node] = {
    "type": "integer",
    "minimum": 0,
    "description": "Of what stands under this kind: it may not become less, and where it is the same nothing is new.",
}
_DIGEST: Final[Node] = {"type": "string", "description": "The digest that the document was put with."}
_ABOUT: Final[Mapping[str, Node]] = {
    "X-Digest": {"schema": _DIGEST},
    "X-Last-Modified": {"schema": {"type": "string"}, "description": "Seconds since 1970. Absent before the first."},
}
_WRONG: Final[Node] = {
    "type": "object",
    "required": ["error_msg"],
    "properties": {
        "error_msg": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}, "description": "All that is wrong, item by item."},
    },
}


def paths_of_documents() -> Iterator[tuple[str, Node]]:
    """(template of a path, path item). `/configs` is there in the standalone role alone, its check everywhere."""
    stands = {"description": "The document that stands.", "headers": dict(_ABOUT), "content": _in_each_form()}
    yield "/configs", {
        "get": _operation("get_configs", "Read all resources as one document", {200: stands}, 404),
        "head": _operation("head_configs", "What is known of the document", {200: _known()}, 404),
        "put": {
            **_operation("put_configs", "Put a document in the place of the one that stands", _taken(), 404, 413),
            "parameters": [
                {"name": "X-Digest", "in": "header", "required": True, "schema": _DIGEST},
                WAIT,
            ],
            "requestBody": {"required": True, "content": _in_each_form()},
        },
    }
    checked = _operation("validate_configs", "Tell all that is wrong with a document", {200: _valid()}, 413)
    checked["responses"]["400"] = json_answer(_WRONG, "What is wrong.")
    yield "/configs/validate", {"post": {**checked, "requestBody": {"required": True, "content": _in_each_form()}}}


def _known() -> Node:
    return {"description": "In headers alone.", "headers": dict(_ABOUT)}


def _taken() -> Mapping[int, Node]:
    late = {"type": "object", "properties": {"laggards": reference("laggards")}}
    return {
        200: {"description": "Every worker serves it.", "headers": dict(_ABOUT)},
        202: {
            "description": "It stands; with `wait`, who does not serve it yet.",
            "headers": dict(_ABOUT),
            "content": {"application/json": {"schema": late}},
        },
        204: {"description": "It is what stands already."},
    }


def _valid() -> Node:
    return json_answer({"type": "object", "maxProperties": 0}, "A PUT would take it.")


def _in_each_form() -> Node:
    properties: dict[str, Node] = {}
    for kind in KINDS:
        properties[kind] = {"type": "array", "items": {"type": "object"}}
        properties[f"{kind}_conf_version"] = _VERSION
    schema = {"type": "object", "description": "A list of resources for each kind.", "properties": properties}
    return {media: {"schema": schema} for media in _MEDIA}


def _operation(id: str, summary: str, good: Mapping[int, Node], *errors: int) -> Node:
    return {"operationId": id, "summary": summary, "tags": [TAG], "responses": responses(good, *errors)}
