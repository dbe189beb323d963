"""How the Admin API says no: one table from outcome to status, and the forms that APISIX's errors have.

A handler that cannot go on raises AdminError; app.py turns it, and everything else that is raised, into these forms.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import falcon
import falcon.asgi

from gw.model.operations import Answer, Outcome

STATUSES: Final[Mapping[Outcome, int]] = {
    Outcome.OK: 200,
    Outcome.CREATED: 201,
    Outcome.NOT_FOUND: 404,
    Outcome.NO_PARENT: 404,
    Outcome.INVALID: 400,
    Outcome.IN_USE: 400,
    Outcome.UNAUTHORIZED: 401,  # for a viewer who writes too, as in APISIX
    Outcome.CONFLICT: 503,  # as in APISIX: trying again is the remedy
    Outcome.TOO_LARGE: 413,
    Outcome.UNAVAILABLE: 503,
    Outcome.FAILED: 500,
}


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
    status = STATUSES[answer.outcome]
    if status < 400:
        return
    if answer.outcome is Outcome.NOT_FOUND:
        raise AdminError(status, {"message": answer.reason})
    if answer.outcome is Outcome.UNAUTHORIZED:
        raise AdminError(status, {"error_msg": "failed to check token", "description": answer.reason})
    raise error_of(status, answer.reason)


def send_error(resp: falcon.asgi.Response, error: AdminError) -> None:
    """An error, in place of whatever was prepared."""
    resp.status = falcon.code_to_http_status(error.status)
    resp.data = json_bytes(error.body) + b"\n"
    resp.set_headers(dict(error.headers))


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """JSON as it is sent, in ASCII: nothing that a request brings into an error text can make it unreadable."""
    return json.dumps(value, separators=(",", ":")).encode()
