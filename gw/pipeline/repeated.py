"""What the requests of one connection have in common when their fields are the same bytes.

Most clients that keep a connection send the same fields with each request, whatever they ask for; HTTP/2 compresses
them away for that reason. Here what such fields mean is found out once. An edge keeps one of these per connection, for
the fields of its last requests, and gives it to the requests that have them (`Request.repeated`); the pipeline fills
it. It holds for requests without an upgrade whose body, if any, is here and as long as the fields say, as long as no
plugin may change their headers.
"""

from __future__ import annotations

from typing import Any, Final

from gw.pipeline.context import Request
from gw.pipeline.fields import Headers

_new_request: Final = object.__new__


class Repeated:
    """`tail`: the head from its version on, as it must come again. `keeps_alive`: what it asks for. `body_bytes`: the
    length of the body that belongs to it.

    `lines`: how the fields leave for an upstream whose Host is `host`, empty until the first did. `is_settled`: whether
    `request` may be called.
    """

    __slots__ = ("_attributes", "body_bytes", "host", "is_settled", "keeps_alive", "lines", "longest_bytes", "tail")

    def __init__(self, tail: bytes, longest_bytes: int, body_bytes: int, *, keeps_alive: bool) -> None:
        """`longest_bytes`: of a head with this tail that keeps all limits."""
        self.tail = tail
        self.longest_bytes = longest_bytes
        self.body_bytes = body_bytes
        self.keeps_alive = keeps_alive
        self.host = b""
        self.lines = b""
        self.is_settled = False
        self._attributes: dict[str, Any] = {}

    @property
    def headers(self) -> Headers:
        """The fields, as the edge gave them. Not to be changed."""
        headers: Headers = self._attributes["headers"]
        return headers

    def settle(self, request: Request) -> None:
        """Remember what the fields of a request mean: it has been admitted, and nothing has changed it since."""
        if not request.target.startswith(b"/"):  # its Host is the target's: nothing of it holds for another one
            request.repeated = None
            return
        self._attributes = request.__dict__.copy()
        # A cycle; and what the target decides, which a request whose target is refused does not have.
        for name in ("repeated", "path", "wire_path"):
            self._attributes.pop(name, None)
        self.is_settled = True

    def request(self, method: str, target: bytes, query: bytes, connection_requests: int) -> Request:
        """One more request of these fields. Its path is to be settled."""
        request = _new_request(Request)
        # PERF: a copied dict costs a fifth of the attributes set one by one (bench/request_path.py).
        attributes = request.__dict__ = self._attributes.copy()
        attributes["method"] = method
        attributes["target"] = target
        attributes["query"] = query
        attributes["connection_requests"] = connection_requests
        attributes["repeated"] = self
        return request
