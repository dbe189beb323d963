"""Answers that the gateway gives itself, instead of an upstream's. Returning one ends a request; it is not an error.

Bodies are JSON, `{"error_msg": ...}` and a line feed, as APISIX's own 404. Of nginx's HTML pages, which APISIX shows
for the other statuses, only the words are copied: clients and tests look for them.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from gw.pipeline.fields import field

# What nginx calls a status, where that is not what RFC 9110 calls it (ngx_http_special_response.c).
_NGINX_PHRASES: Final = {
    405: "Not Allowed",
    408: "Request Time-out",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}


class Reply(NamedTuple):
    """A whole response. Header names are lower-case; the length and the server's name are added when it is sent."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def closing(self) -> "Reply":
        """The same, as the last one of its connection."""
        return self._replace(headers=(*self.headers, (b"connection", b"close")))

    def with_body(self, body: Any) -> "Reply":
        """The same status and headers with another body: text as it is, an object as JSON (`_meta.error_response`)."""
        kept = tuple(pair for pair in self.headers if pair[0] != b"content-type")
        kind, encoded = _encode(body)
        return self._replace(headers=(*kept, (b"content-type", kind)), body=encoded)


def plugin_reply(status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> Reply:
    """A plugin's answer. `body`: bytes or text as it is, an object as JSON with a line feed (apisix's
    core.response.exit), None for an empty one. Raises ValueError for a header that is none.
    """
    fields = [field(name, value) for name, value in (headers or {}).items()]
    if body is None:
        return Reply(status, tuple(fields), b"")
    kind, encoded = _encode(body)
    if not any(name == b"content-type" for name, _ in fields):
        fields.append((b"content-type", kind))
    return Reply(status, tuple(fields), encoded)


def failed_reply(request_id: str) -> Reply:
    """A plugin raised: the log says what, under this id."""
    body = {"error_msg": "500 Internal Server Error", "request_id": request_id}
    return plugin_reply(500, body, {"x-request-id": request_id})


def _encode(body: Any) -> tuple[bytes, bytes]:
    if isinstance(body, bytes):
        return b"text/plain", body
    if isinstance(body, str):
        return b"text/plain; charset=utf-8", body.encode()
    return b"application/json", json.dumps(body, separators=(",", ":")).encode() + b"\n"


def error_reply(status: int, message: str | None = None) -> Reply:
    """The answer for a status, with APISIX's body; without a message the body names the status, as nginx does."""
    text = message or f"{status} {_NGINX_PHRASES.get(status) or HTTPStatus(status).phrase}"
    body = json.dumps({"error_msg": text}, separators=(",", ":")).encode() + b"\n"
    return Reply(status, ((b"content-type", b"application/json"),), body)


# Who sends what means two things may mean what follows it as part of it: nothing more is read.
BAD_REQUEST: Final = error_reply(400).closing()
ROUTE_NOT_FOUND: Final = error_reply(404, "404 Route Not Found")
# Whoever sends CONNECT may go on with what is no HTTP; nginx ends the connection of TRACE, too.
METHOD_NOT_ALLOWED: Final = error_reply(405).closing()
# The rest of the body is not waited for.
REQUEST_TIMEOUT: Final = error_reply(408).closing()
BODY_TOO_LARGE: Final = error_reply(413).closing()
INTERNAL_ERROR: Final = error_reply(500)
BAD_GATEWAY: Final = error_reply(502)
SERVICE_UNAVAILABLE: Final = error_reply(503)
GATEWAY_TIMEOUT: Final = error_reply(504)

# What a failed upstream comes to: UpstreamError.status -> the answer.
BY_UPSTREAM_STATUS: Final = {502: BAD_GATEWAY, 503: SERVICE_UNAVAILABLE, 504: GATEWAY_TIMEOUT}
