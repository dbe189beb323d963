"""What the Admin API answers, in APISIX's v3 form: one function per form, and one table from outcome to status.

A handler that cannot go on raises AdminError; app.py turns it, and everything else that is raised, into these forms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import falcon
import falcon.asgi

from gw.model.operations import Answer, Item, Outcome

_STATUSES: Final[Mapping[Outcome, int]] = {
    Outcome.OK: 200,
    Outcome.CREATED: 201,
    Outcome.NOT_FOUND: 404,
    Outcome.INVALID: 400,
    Outcome.IN_USE: 400,
    Outcome.UNAUTHORIZED: 401,  # for a viewer who writes too, as in APISIX
    Outcome.CONFLICT: 503,  # as in APISIX: trying again is the remedy
    Outcome.TOO_LARGE: 413,
    Outcome.UNAVAILABLE: 503,
    Outcome.FAILED: 500,
}
# Workers that do not serve yet what was written, as gw.control.served tells of them.
Laggards: TypeAlias = Sequence[Mapping[str, Any]]
# The store's revision at which the operation was done. Ours; APISIX shows none.
REVISION_HEADER: Final = "X-Jitterway-Revision"


class AdminError(Exception):
    """Ends a request with this status and JSON object."""

    def __init__(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body = body
        self.headers = headers or {}


def error_of(status: int, reason: str, headers: Mapping[str, str] | None = None) -> AdminError:
    """An error in the form most of APISIX's have: `{"error_msg": reason}`."""
    return AdminError(status, {"error_msg": reason}, headers)


def raise_for(answer: Answer) -> None:
    """Raises AdminError for an answer that says no."""
    status = _STATUSES[answer.outcome]
    if status < 400:
        return
    if answer.outcome is Outcome.NOT_FOUND:
        raise AdminError(status, {"message": answer.reason})
    if answer.outcome is Outcome.UNAUTHORIZED:
        raise AdminError(status, {"error_msg": "failed to check token", "description": answer.reason})
    raise error_of(status, answer.reason)


def send_item(resp: falcon.asgi.Response, answer: Answer, laggards: Laggards = ()) -> None:
    """One resource, as found or as written; 202 with those who do not serve it yet, when it was waited for them."""
    _send(resp, answer, _item_json(answer.items[0]), laggards)


def send_list(resp: falcon.asgi.Response, answer: Answer) -> None:
    """Resources of a kind, and how many there are on all pages."""
    listed = b",".join(_item_json(item) for item in answer.items)
    _send(resp, answer, b'{"total":%d,"list":[%b]}' % (answer.total, listed))


def send_deleted(resp: falcon.asgi.Response, answer: Answer, laggards: Laggards = ()) -> None:
    """What was deleted; as `send_item`. `deleted` is text because etcd's gateway counts in text."""
    _send(resp, answer, json_bytes({"key": answer.items[0].key, "deleted": "1"}), laggards)


def send_error(resp: falcon.asgi.Response, error: AdminError) -> None:
    """An error, in place of whatever was prepared."""
    resp.status = falcon.code_to_http_status(error.status)
    resp.data = json_bytes(error.body)
    resp.set_headers(dict(error.headers))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """JSON as it is sent, in ASCII: nothing that a request brings into an error text can make it unreadable."""
    return json.dumps(value, separators=(",", ":")).encode()


def _send(resp: falcon.asgi.Response, answer: Answer, body: bytes, laggards: Laggards = ()) -> None:
    resp.status = falcon.code_to_http_status(_STATUSES[answer.outcome])
    resp.set_header(REVISION_HEADER, str(answer.revision))
    resp.data = body
    if laggards:
        resp.status = falcon.HTTP_202
        resp.data = b'%b,"laggards":%b}' % (body[:-1], json.dumps(laggards, separators=(",", ":")).encode())


def _item_json(item: Item) -> bytes:
    """The stored value goes out as it came: the agent has checked that it is a JSON object."""
    key = json.dumps(item.key).encode()
    if not item.mod_revision:
        return b'{"key":%b,"value":%b}' % (key, item.value)
    return b'{"key":%b,"value":%b,"createdIndex":%d,"modifiedIndex":%d}' % (
        key,
        item.value,
        item.create_revision,
        item.mod_revision,
    )
