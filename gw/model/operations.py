"""What a worker asks of the agent, what the agent answers, and how both look on the Unix socket between them.

A message is a frame: its length as u32, little endian, then a msgpack map. A request carries `id` (chosen by the asking
side, so that answers may come in any order), `op`, the caller's `api_key` and the operation's `fields`. A reply carries
the same `id`; it is a part (`more` is true, and only `items` count) or the answer that ends the operation, whose items
follow those of the parts. An answer says what came of the operation, not which HTTP status that is: workers know HTTP.

No I/O here. A decoder believes nothing: what is not of this form raises MalformedMessage, and the connection it came
from is of no more use, because the frames behind it cannot be trusted to begin where they seem to.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final

import msgpack

from gw.errors import JitterwayError

FRAME_HEADER: Final = struct.Struct("<I")

# The word for one resource of a kind, as APISIX has it in messages ("missing route id").
NOUNS: Final[Mapping[str, str]] = {
    "routes": "route",
    "services": "service",
    "upstreams": "upstream",
    "consumers": "consumer",
    "consumer_groups": "consumer group",
    "credentials": "credential",
    "global_rules": "global rule",
    "plugin_configs": "plugin config",
    "plugin_metadata": "plugin_metadata",
    "plugins": "plugin",
    "ssls": "ssl",
    "protos": "proto",
    "secrets": "secret",
    "stream_routes": "stream route",
}
# What cannot be done with a kind, by the name of the operation (`unsupported_methods` in apisix/admin/*.lua). The list
# of plugins is read by workers, and has an interface of its own.
UNSUPPORTED: Final[Mapping[str, frozenset[str]]] = {
    "consumers": frozenset({"create", "patch"}),
    "consumer_groups": frozenset({"create"}),
    "credentials": frozenset({"create", "patch"}),
    "global_rules": frozenset({"create"}),
    "plugin_configs": frozenset({"create"}),
    "plugin_metadata": frozenset({"create", "patch"}),
    "plugins": frozenset({"get", "list", "create", "put", "patch", "delete"}),
    "secrets": frozenset({"create"}),
    "stream_routes": frozenset({"patch"}),
}


class MalformedMessage(JitterwayError):
    """A frame is longer than agreed, or is not a request or reply."""


@dataclass(frozen=True, slots=True)
class Authorize:
    """May the holder of this key read (`write` false), or write too? Asked before anything else of a request counts."""

    op: ClassVar[str] = "authorize"
    write: bool


@dataclass(frozen=True, slots=True)
class Get:
    """One resource, as the store holds it now."""

    op: ClassVar[str] = "get"
    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class List:
    """All resources of a kind in the order of their ids; with `page_size`, one page in the order of their creation.

    `name` and `uri` are patterns that are searched for, `label` is a label's name, `service_id` and `upstream_id` are
    what a resource refers to. None filters nothing. `parent` is the consumer whose credentials are listed.
    """

    op: ClassVar[str] = "list"
    kind: str
    page: int = 1
    page_size: int | None = None
    name: str | None = None
    uri: str | None = None
    label: str | None = None
    service_id: str | None = None
    upstream_id: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Create:
    """A new resource, under an id that the agent makes."""

    op: ClassVar[str] = "create"
    kind: str
    body: Any = field(repr=False)
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Put:
    """A resource as a whole, new or in the place of another. Without `id`, the body names it.

    `parent` is the consumer of a credential; its `id` begins with it.
    """

    op: ClassVar[str] = "put"
    kind: str
    id: str | None
    body: Any = field(repr=False)
    ttl_s: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of an existing resource: `body` is merged into it, or takes the place of what stands at `sub_path`."""

    op: ClassVar[str] = "patch"
    kind: str
    id: str
    body: Any = field(repr=False)
    sub_path: tuple[str, ...] = ()
    ttl_s: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a resource; with `force`, even one that others use."""

    op: ClassVar[str] = "delete"
    kind: str
    id: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """What the agent reports of itself, for `gw status`. Needs no key: the socket's permissions guard it."""

    op: ClassVar[str] = "status"


@dataclass(frozen=True, slots=True)
class Head:
    """What has to be processed for the store of now to be served: the answer's revision.

    Where the store stands, or less when only others have written since. Needs no key, as Status: it names no resource.
    """

    op: ClassVar[str] = "head"


Operation = Authorize | Get | List | Create | Put | Patch | Delete | Status | Head
_BY_OP: Final[Mapping[str, type[Operation]]] = {
    cls.op: cls for cls in (Authorize, Get, List, Create, Put, Patch, Delete, Status, Head)
}
# What a field may be on the wire, by its annotation above. Compared by exact type: True is no page number.
_WIRE_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "bool": (bool,),
    "int": (int,),
    "int | None": (int, type(None)),
    "str": (str,),
    "str | None": (str, type(None)),
}


@dataclass(frozen=True, slots=True)
class Request:
    """An operation on its way, with the key of the caller on whose behalf it is asked (None: none was shown)."""

    id: int
    operation: Operation
    api_key: str | None = field(default=None, repr=False)


class Outcome(StrEnum):
    """How an operation ended."""

    OK = "ok"
    CREATED = "created"
    NOT_FOUND = "not_found"
    NO_PARENT = "no_parent"  # what it would be a part of is not there
    INVALID = "invalid"  # what was asked for is wrong in itself
    IN_USE = "in_use"  # other resources refer to it
    UNAUTHORIZED = "unauthorized"
    CONFLICT = "conflict"  # somebody else kept writing the same resource
    TOO_LARGE = "too_large"
    UNAVAILABLE = "unavailable"  # the store did not do it; trying again may help
    FAILED = "failed"  # our own fault, or damage in the store


@dataclass(frozen=True, slots=True)
class Item:
    """A resource as it is stored. `value` is a JSON object in UTF-8, checked to be one; revisions are the store's.

    The revisions are 0 in the answer to a write, which APISIX words without them.
    """

    key: str
    value: bytes = field(repr=False)
    create_revision: int = 0
    mod_revision: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of an operation. `reason` is for the caller and names no secret."""

    outcome: Outcome
    reason: str = ""
    items: tuple[Item, ...] = ()
    total: int = 0  # of a list: how many there are on all pages
    revision: int = 0  # of the store, once the operation was done; 0: not known
    status: Mapping[str, Any] | None = None  # answer to Status alone


@dataclass(frozen=True, slots=True)
class Reply:
    """One frame of the agent: the answer, or (None) a part of it."""

    id: int
    items: tuple[Item, ...]
    answer: Answer | None


def frame_length(header: bytes, limit_bytes: int) -> int:
    """Length of the frame behind its header. Raises MalformedMessage for one that is longer than agreed."""
    (length,) = FRAME_HEADER.unpack(header)
    if length > limit_bytes:
        raise MalformedMessage(f"a frame of {length} bytes, agreed are at most {limit_bytes}")
    return int(length)


def encode_request(request: Request) -> bytes:
    """A request as a frame. Raises ValueError, OverflowError or TypeError for a body that msgpack cannot carry."""
    operation = request.operation
    return _frame(
        {
            "id": request.id,
            "op": operation.op,
            "api_key": request.api_key,
            "fields": {each.name: getattr(operation, each.name) for each in dataclasses.fields(operation)},
        }
    )


def decode_request(payload: bytes) -> Request:
    """The request in a frame (without its header). Raises MalformedMessage."""
    message = _unpack(payload)
    cls = _BY_OP.get(_take(message, "op", (str,)))
    if cls is None:
        raise MalformedMessage("an operation of no known name")
    fields = _take(message, "fields", (dict,))
    return Request(_take(message, "id", (int,)), _operation(cls, fields), _take(message, "api_key", (str, type(None))))


def encode_part(id: int, items: Sequence[Item]) -> bytes:
    """Some items of an answer that is still being made."""
    return _frame({"id": id, "more": True, "items": _items_to_wire(items)})


def encode_answer(id: int, answer: Answer) -> bytes:
    """The answer that ends an operation."""
    return _frame(
        {
            "id": id,
            "more": False,
            "items": _items_to_wire(answer.items),
            "outcome": answer.outcome.value,
            "reason": answer.reason,
            "total": answer.total,
            "revision": answer.revision,
            "status": answer.status,
        }
    )


def decode_reply(payload: bytes) -> Reply:
    """The reply in a frame (without its header). Raises MalformedMessage."""
    message = _unpack(payload)
    id = _take(message, "id", (int,))
    items = tuple(_item(each) for each in _take(message, "items", (list,)))
    if _take(message, "more", (bool,)):
        return Reply(id, items, None)
    try:
        outcome = Outcome(_take(message, "outcome", (str,)))
    except ValueError as error:
        raise MalformedMessage("an outcome of no known name") from error
    answer = Answer(
        outcome,
        reason=_take(message, "reason", (str,)),
        items=items,
        total=_take(message, "total", (int,)),
        revision=_take(message, "revision", (int,)),
        status=_take(message, "status", (dict, type(None))),
    )
    return Reply(id, items, answer)


def _operation(cls: type[Operation], fields: dict[str, Any]) -> Operation:
    values: dict[str, Any] = {}
    for each in dataclasses.fields(cls):
        if each.type == "Any":
            if each.name not in fields:
                raise MalformedMessage(f"{each.name} is missing")
            values[each.name] = fields[each.name]
        elif each.type == "tuple[str, ...]":
            values[each.name] = _strings(fields, each.name)
        else:
            values[each.name] = _take(fields, each.name, _WIRE_TYPES[str(each.type)])
    return cls(**values)


def _strings(fields: dict[str, Any], name: str) -> tuple[str, ...]:
    values = _take(fields, name, (list,))
    if not all(type(value) is str for value in values):
        raise MalformedMessage(f"{name} holds something else than text")
    return tuple(values)


def _items_to_wire(items: Sequence[Item]) -> list[list[Any]]:
    return [[item.key, item.value, item.create_revision, item.mod_revision] for item in items]


def _item(wire: Any) -> Item:
    if type(wire) is not list or [type(value) for value in wire] != [str, bytes, int, int]:
        raise MalformedMessage("an item of another form")
    return Item(*wire)


def _take(message: dict[str, Any], name: str, types: tuple[type, ...]) -> Any:
    value = message.get(name)
    if type(value) not in types:
        raise MalformedMessage(f"{name} is missing or of the wrong type")
    return value


def _frame(message: dict[str, Any]) -> bytes:
    payload: bytes = msgpack.packb(message)
    return FRAME_HEADER.pack(len(payload)) + payload


def _unpack(payload: bytes) -> dict[str, Any]:
    try:
        message = msgpack.unpackb(payload, strict_map_key=True)
    except Exception as error:  # msgpack's errors have no base of their own
        raise MalformedMessage(f"not msgpack: {type(error).__name__}") from error
    if type(message) is not dict:
        raise MalformedMessage("not a map")
    return message
