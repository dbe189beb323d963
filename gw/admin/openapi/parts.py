"""What many operations of the document have in common: parameters, answers, errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gw.admin.forms import REVISION_HEADER
from gw.admin.openapi.bodies import reference
from gw.admin.openapi.table import Node
from gw.admin.parameters import MAX_TTL_S, MAX_WAIT_MS, PAGE_SIZES

ERROR_SCHEMAS: Final[Mapping[str, Node]] = {
    "error": {
        "type": "object",
        "required": ["error_msg"],
        "properties": {
            "error_msg": {"type": "string", "description": "What is wrong, and where."},
            "description": {"type": "string", "description": "Of a key that is refused: why."},
        },
    },
    "missing": {
        "description": "There is no such resource, or no such kind.",
        "anyOf": [
            {"type": "object", "required": ["message"], "properties": {"message": {"type": "string"}}},
            reference("error"),
        ],
    },
    "deleted": {
        "type": "object",
        "required": ["key", "deleted"],
        "properties": {"key": {"type": "string"}, "deleted": {"type": "string", "const": "1"}},
    },
    "laggards": {
        "type": "array",
        "description": "Workers of this host that do not serve the write yet, and why.",
        "items": {
            "type": "object",
            "required": ["state", "why"],
            "properties": {
                "pid": {"type": ["integer", "null"]},
                "cell": {"type": ["integer", "null"]},
                "state": {"type": "string"},
                "version": {"type": ["integer", "null"]},
                "revision": {"type": ["integer", "null"]},
                "staleness_ms": {"type": ["integer", "null"]},
                "why": {"type": "string"},
            },
        },
    },
}
# Why an error may be answered, by status. What every operation may answer comes first.
_ERRORS: Final[Mapping[int, tuple[str, str]]] = {
    401: ("No key, a wrong one, or a viewer's for anything but GET.", "error"),
    403: ("The peer, `Host` or `Origin` may not use the Admin API.", "error"),
    500: ("A fault of the gateway, or damage in the store; its log says more.", "error"),
    503: ("The agent or the store is away, or others kept writing the same resource. Traffic goes on.", "error"),
    400: ("What was asked for is wrong: the reason names the place.", "error"),
    404: ("There is no such resource.", "missing"),
    409: ("The configuration file enables other plugins than those that run.", "error"),
    413: ("The body is too long.", "error"),
}
_ALWAYS: Final = (400, 401, 403, 500, 503)

TTL: Final[Node] = {
    "name": "ttl",
    "in": "query",
    "description": "Seconds until the store deletes the resource; 0: never.",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_TTL_S},
}
WAIT: Final[Node] = {
    "name": "wait",
    "in": "query",
    "description": "Milliseconds to wait until every worker of this host serves the write; 0 only looks.",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_MS},
}
FORCE: Final[Node] = {
    "name": "force",
    "in": "query",
    "description": "`true`: delete also what is in use. Anything else is not that.",
    "schema": {"type": "string"},
}
# Longer numbers are refused: they are of no use.
_COUNT: Final[Node] = {"type": "integer", "minimum": -(10**12) + 1, "maximum": 10**12 - 1}
_PATTERN: Final = "A regular expression without looking around and back references, at most 256 characters."
_TEXT: Final[Node] = {"type": "string"}
LISTING: Final[tuple[Node, ...]] = (
    {"name": "page", "in": "query", "description": "From 1; with `page_size`.", "schema": _COUNT},
    {
        "name": "page_size",
        "in": "query",
        "description": "How many on a page; with `page`.",
        "schema": {"type": "integer", "minimum": PAGE_SIZES.start, "maximum": PAGE_SIZES.stop - 1},
    },
    {"name": "name", "in": "query", "description": f"Searched for in the name. {_PATTERN}", "schema": _TEXT},
    {"name": "uri", "in": "query", "description": f"Searched for in the URIs. {_PATTERN}", "schema": _TEXT},
    {"name": "label", "in": "query", "description": "The name of a label.", "schema": _TEXT},
)


def json_body(schema: Node, description: str) -> Node:
    """A request body that has to be there."""
    return {"required": True, "description": description, "content": {"application/json": {"schema": schema}}}


def json_answer(schema: Node, description: str, *, of_store: bool = False) -> Node:
    """An answer with a JSON value. `of_store`: with the revision at which it was true."""
    answer: Node = {"description": description, "content": {"application/json": {"schema": schema}}}
    if of_store:
        answer["headers"] = {
            REVISION_HEADER: {
                "description": "The store's revision at which this was done.",
                "schema": {"type": "integer", "minimum": 0},
            }
        }
    return answer


def responses(good: Mapping[int, Node], *errors: int) -> Node:
    """All answers of an operation: the good ones, these errors, and those that every operation may answer."""
    answers = {str(status): answer for status, answer in good.items()}
    answers |= {
        str(status): json_answer(reference(schema), reason)
        for status, (reason, schema) in _ERRORS.items()
        if status in errors or status in _ALWAYS
    }
    return dict(sorted(answers.items()))
