"""The forms of answers: APISIX's of 3.x (`v3`), and those of its releases 2.x (`v2`), which older dashboards read.

Stored values go out as they came: the agent has checked that each is a JSON object. Every form carries the store's
revision in a header of ours, and the workers that were waited for in vain as a member `laggards`, with status 202.
Facts: apisix/core/etcd.lua and apisix/admin/v3_adapter.lua; in 2.x lists are neither paged nor filtered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias

import falcon
import falcon.asgi

from gw.admin.reply import STATUSES, json_bytes
from gw.model.operations import Answer, Create, Delete, Item, List, Operation, Patch

# Workers that do not serve yet what was written, as gw.control.served tells of them.
Laggards: TypeAlias = Sequence[Mapping[str, Any]]
# The store's revision at which the operation was done. Ours; APISIX shows none.
REVISION_HEADER: Final = "X-Jitterway-Revision"
# What stands in front of keys by default. Where nothing is listed, there is no key to see it on.
_DEFAULT_PREFIX: Final = "/apisix"


class Forms(Protocol):
    """One version of the answers.

    `version` is its name in `X-API-VERSION`; `pages` tells whether lists can be paged and filtered.
    """

    version: str
    pages: bool

    def send_item(self, resp: falcon.asgi.Response, answer: Answer) -> None:
        """One resource, as found."""
        ...

    def send_list(self, resp: falcon.asgi.Response, wanted: List, answer: Answer) -> None:
        """Resources of a kind, and how many there are on all pages."""
        ...

    def send_written(
        self, resp: falcon.asgi.Response, operation: Operation, answer: Answer, laggards: Laggards
    ) -> None:
        """What was written or deleted."""
        ...


class V3:
    """`{"key", "value", "createdIndex", "modifiedIndex"}`; `{"total", "list"}`."""

    version = "v3"
    pages = True

    def send_item(self, resp: falcon.asgi.Response, answer: Answer) -> None:
        """See Forms."""
        _send(resp, answer, _item_json(answer.items[0]))

    def send_list(self, resp: falcon.asgi.Response, wanted: List, answer: Answer) -> None:
        """See Forms."""
        _send(resp, answer, b'{"total":%d,"list":[%b]}' % (answer.total, _joined(answer.items)))

    def send_written(
        self, resp: falcon.asgi.Response, operation: Operation, answer: Answer, laggards: Laggards
    ) -> None:
        """See Forms. `deleted` is text because etcd's gateway counts in text."""
        item = answer.items[0]
        if isinstance(operation, Delete):
            _send(resp, answer, json_bytes({"key": item.key, "deleted": "1"}), laggards)
        else:
            _send(resp, answer, _item_json(item), laggards)


class V2:
    """`{"action", "node"}`, as etcd's own API had it before its version 3."""

    version = "v2"
    pages = False

    def send_item(self, resp: falcon.asgi.Response, answer: Answer) -> None:
        """See Forms."""
        _send(resp, answer, b'{"action":"get","count":1,"node":%b}' % _item_json(answer.items[0]))

    def send_list(self, resp: falcon.asgi.Response, wanted: List, answer: Answer) -> None:
        """See Forms."""
        directory = json.dumps(_directory(wanted, answer.items)).encode()
        node = b'{"dir":true,"key":%b,"nodes":[%b]}' % (directory, _joined(answer.items))
        _send(resp, answer, b'{"action":"get","count":%d,"node":%b}' % (answer.total, node))

    def send_written(
        self, resp: falcon.asgi.Response, operation: Operation, answer: Answer, laggards: Laggards
    ) -> None:
        """See Forms."""
        item = answer.items[0]
        if isinstance(operation, Delete):
            deleted = {"action": "delete", "deleted": "1", "key": item.key, "node": {}}
            _send(resp, answer, json_bytes(deleted), laggards)
        else:
            body = b'{"action":"%b","node":%b}' % (_ACTIONS.get(type(operation), b"set"), _item_json(item))
            _send(resp, answer, body, laggards)


_ACTIONS: Final[Mapping[type[Operation], bytes]] = {Create: b"create", Patch: b"compareAndSwap"}
FORMS: Final[Mapping[str, Forms]] = {forms.version: forms for forms in (V3(), V2())}


def _directory(wanted: List, items: Sequence[Item]) -> str:
    if items:
        return items[0].key.rpartition("/")[0]
    below = f"consumers/{wanted.parent}/" if wanted.parent else ""
    return f"{_DEFAULT_PREFIX}/{below}{wanted.kind}"


def _send(resp: falcon.asgi.Response, answer: Answer, body: bytes, laggards: Laggards = ()) -> None:
    resp.status = falcon.code_to_http_status(STATUSES[answer.outcome])
    resp.set_header(REVISION_HEADER, str(answer.revision))
    if laggards:
        resp.status = falcon.HTTP_202
        body = b'%b,"laggards":%b}' % (body[:-1], json.dumps(laggards, separators=(",", ":")).encode())
    # As APISIX ends them, and a terminal likes it.
    resp.data = body + b"\n"


def _joined(items: Iterable[Item]) -> bytes:
    return b",".join(map(_item_json, items))


def _item_json(item: Item) -> bytes:
    key = json.dumps(item.key).encode()
    if not item.mod_revision:
        return b'{"key":%b,"value":%b}' % (key, item.value)
    return b'{"key":%b,"value":%b,"createdIndex":%d,"modifiedIndex":%d}' % (
        key,
        item.value,
        item.create_revision,
        item.mod_revision,
    )
