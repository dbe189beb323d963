"""What is known of one request while it walks the pipeline. Filled by an adapter, canonicalised once by the core.

`Context` is what plugins, variables and logs see of it; the machine that fills it is `gw.pipeline.exchange.Exchange`.
"""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from gw.pipeline.fields import Headers, add_field, get_all, get_field, remove_field, set_field, vouch_field
from gw.pipeline.path import BadTarget, canonical_path, check_query, host_name, split_absolute_form
from gw.pipeline.request_body import TO_MATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gw.pipeline.caller import Caller
    from gw.pipeline.repeated import Repeated
    from gw.pipeline.route import CompiledRoute

# A peer behind a dual-stack socket is an IPv4 client: one address has one spelling, in headers as in limits.
_MAPPED_PREFIX: Final = "::ffff:"
_numbers = count(1)


class Link:
    """The client's connection: what all its requests have in common. `peer_port` and `server_port`: None for Unix.

    `number` counts this process's connections: nginx's $connection.
    """

    __slots__ = ("number", "peer", "peer_port", "scheme", "server_addr", "server_port")

    def __init__(
        self, scheme: str, peer: str, peer_port: int | None, server_addr: str, server_port: int | None
    ) -> None:
        self.scheme = scheme
        self.peer = peer[len(_MAPPED_PREFIX) :] if peer.startswith(_MAPPED_PREFIX) and "." in peer else peer
        self.peer_port = peer_port
        self.server_addr = server_addr
        self.server_port = server_port
        self.number = next(_numbers)


class Request:
    """The head of a request.

    An adapter gives what the client sent: `headers` with lower-case names, in order, duplicates kept; `target` and
    `query` as raw bytes; `link`, the connection it came on. `gw.pipeline.headers.admit` adds what the headers mean
    (`content_length` as digits, `is_chunked`, `tells_origin`: one may say where the request comes from, `kept`: those
    that are passed on, `names_headers`: Connection names others) and the canonical form: `path` (what routes and
    plugins see), `wire_path` (what leaves), `host`, `host_header`.

    `remote_addr` is the client's address: the socket's other end, or what a trusted proxy said. `is_settled`: only such
    forwarding headers are left as count (gw.pipeline.origin); until then none does. `claims`: what they say.
    `repeated`: set where the fields may be those of the client's next request, too (gw.pipeline.repeated).
    """

    # As the adapter gives them.
    method: str
    target: bytes
    query: bytes
    headers: Headers
    link: Link
    http_version: str
    connection_requests: int
    # The link's, unless a trusted proxy said otherwise.
    remote_addr: str
    remote_port: int | None
    scheme: str
    server_port: int | None
    # What `admit` adds.
    content_length: bytes | None
    forwarded_for: bytes | None
    host: str
    host_header: bytes | None
    is_chunked: bool
    kept: Headers
    names_headers: bool
    path: str
    tells_origin: bool
    wire_path: bytes
    # PERF: as in Context, defaults of the class for what few requests set.
    claims: dict[bytes, bytes] | None = None
    is_settled = False
    repeated: Repeated | None = None
    unframed_body = False
    _args: dict[str, list[str]] | None = None

    def __init__(
        self,
        method: str,
        target: bytes,
        query: bytes,
        headers: Headers,
        link: Link,
        http_version: str = "1.1",
        connection_requests: int = 1,
        unframed_body: bool = False,
    ) -> None:
        """`unframed_body`: a body may follow though no header tells its length (HTTP/2); it is then sent chunked."""
        self.method = method
        self.target = target
        self.query = query
        self.headers = headers
        self.link = link
        self.http_version = http_version
        self.connection_requests = connection_requests
        if unframed_body:
            self.unframed_body = True
        self.remote_addr = link.peer
        self.remote_port = link.peer_port
        self.scheme = link.scheme
        self.server_port = link.server_port

    @property
    def has_body(self) -> bool:
        """Whether any byte of a body follows or may follow."""
        length = self.content_length
        return self.is_chunked or (length is not None and length.strip(b"0") != b"")

    def settle_target(self) -> None:
        """Set the canonical fields, once the headers are read. Raises BadTarget."""
        target = self.target
        host_header = self.host_header
        if host_header is None and self.http_version != "1.0":
            raise BadTarget("no Host")
        if not target.startswith(b"/"):
            authority, target = split_absolute_form(target)
            # RFC 9112 3.2.2 lets the target win; a client that says two different things is not guessed at.
            if host_header is not None and host_header.lower() != authority.lower():
                raise BadTarget("the target's authority is not the Host")
            host_header = self.host_header = authority
        if host_header is None:
            self.host = ""
        else:
            self.host = host_name(host_header)
        self.path, self.wire_path = canonical_path(target)
        if self.query:
            check_query(self.query)

    def header(self, name: str) -> str | None:
        """The first value of a header, None without one."""
        return get_field(self.headers, name)

    def header_values(self, name: str) -> list[str]:
        """All values of a header."""
        return get_all(self.headers, name)

    def set_header(self, name: str, value: str) -> None:
        """What goes to the upstream instead of the client's. Raises ValueError for what is no header."""
        set_field(self.headers, name, value)

    def add_header(self, name: str, value: str) -> None:
        """One more value. Raises ValueError for what is no header."""
        add_field(self.headers, name, value)

    def remove_header(self, name: str) -> None:
        """The upstream does not get it."""
        remove_field(self.headers, name)

    def vouch_header(self, name: bytes, values: Iterable[bytes]) -> None:
        """Let the upstream get these values, or none, as the gateway's own word: whatever the client sent under this
        name goes, and so do the spellings (`X_User_ID`, `x.user.id`) that a backend may take for it.
        """
        vouch_field(self.headers, name, values)

    @property
    def args(self) -> dict[str, list[str]]:
        """The query's arguments, decoded; `a` alone is `a` with an empty value. Read-only: `query` is what leaves."""
        if self._args is None:
            args: dict[str, list[str]] = {}
            for name, value in parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, errors="replace"):
                args.setdefault(name, []).append(value)
            self._args = args
        return self._args

    def set_query(self, query: bytes) -> None:
        """Let another query leave. Raises BadTarget for what is none."""
        check_query(query)
        self.query = query
        self._args = None


class Response:
    """The head of a response on its way to the client, as header filters see and change it."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Headers) -> None:
        self.status = status
        self.headers = headers

    def header(self, name: str) -> str | None:
        """The first value of a header, None without one."""
        return get_field(self.headers, name)

    def set_header(self, name: str, value: str) -> None:
        """Raises ValueError for what is no header."""
        set_field(self.headers, name, value)

    def add_header(self, name: str, value: str) -> None:
        """Raises ValueError for what is no header."""
        add_field(self.headers, name, value)

    def remove_header(self, name: str) -> None:
        """The client does not get it."""
        remove_field(self.headers, name)


class Attempt:
    """One try at a node. Times are CLOCK_MONOTONIC seconds, 0.0 where that point was not reached."""

    connected_s = 0.0
    head_s = 0.0
    ended_s = 0.0
    status = 0

    def __init__(self, address: str, node: Any, started_s: float) -> None:
        """`address`: `ip:port` as nginx's $upstream_addr has it."""
        self.address = address
        self.node = node
        self.started_s = started_s

    @property
    def connect_s(self) -> float | None:
        return self.connected_s - self.started_s if self.connected_s else None

    @property
    def header_s(self) -> float | None:
        return self.head_s - self.started_s if self.head_s else None

    @property
    def response_s(self) -> float | None:
        return self.ended_s - self.started_s if self.ended_s else None


_NO_HEADERS: Final[Headers] = []  # never changed


class Context:
    """One request and its response, for plugins, variables and logs.

    Facts: `status` (0 until there is an answer), `received_bytes` and `sent_bytes` (heads and bodies as on the wire),
    `body_sent_bytes`, `started_s` and `ended_s` (CLOCK_MONOTONIC), `attempts` at nodes, `params` of the route's uri.
    `response` stands from header_filter on.

    What a plugin may set: `upstream_method`, `upstream_uri` (path and query as they leave, canonical and encoded),
    `upstream_host`; None for what the request says.
    """

    # PERF: no __slots__, but defaults of the class: most of these are never set for most requests, and each that is
    # set costs as much as any other step (bench/request_path.py).
    ended_s = 0.0
    status = 0
    sent_bytes = 0
    body_sent_bytes = 0
    attempts: tuple[Attempt, ...] = ()
    route: CompiledRoute | None = None
    params: Mapping[str, str] | None = None
    response_headers: Headers = _NO_HEADERS
    consumer: Caller | None = None  # set by gw.pipeline.caller.attach, with the two names
    consumer_name = ""
    consumer_group_id = ""
    upstream_method: str | None = None
    upstream_uri: bytes | None = None
    upstream_host: str | None = None
    _response: Response | None = None
    _request_id = ""
    _state: dict[Any, Any] | None = None

    def __init__(self, request: Request, started_s: float, received_bytes: int = 0) -> None:
        self.request = request
        self.started_s = started_s
        self.received_bytes = received_bytes

    @property
    def response(self) -> Response:
        """The head as it goes to the client: from header_filter on."""
        if self._response is None:
            self._response = Response(self.status, list(self.response_headers))
        return self._response

    @response.setter
    def response(self, response: Response) -> None:
        self._response = response

    @property
    def state(self) -> dict[Any, Any]:
        """What plugins keep from phase to phase of this request; keys are theirs to keep apart."""
        if self._state is None:
            self._state = {}
        return self._state

    @property
    def request_id(self) -> str:
        """32 hexadecimal digits, random: nginx's $request_id. Made when first asked for."""
        if not self._request_id:
            self._request_id = os.urandom(16).hex()
        return self._request_id

    @request_id.setter
    def request_id(self, id: str) -> None:
        """What logs and error bodies show from now on."""
        self._request_id = id

    def set_upstream_uri(self, uri: bytes) -> None:
        """Let the upstream be asked for this path and query, encoded as they leave. Raises BadTarget.

        The last look at what a plugin made: a space, a line end or a `#` in it would be read as something else.
        """
        if not uri.startswith(b"/"):
            raise BadTarget("the rewritten path does not begin with a slash")
        check_query(uri)
        self.upstream_uri = uri

    @property
    def route_id(self) -> str:
        return self.route.id if self.route is not None else ""

    @property
    def service_id(self) -> str:
        return self.route.service_id if self.route is not None else ""

    @property
    def started_wall_s(self) -> float:
        """Seconds since the epoch at which the request began."""
        return time.time() - (time.monotonic() - self.started_s)

    @property
    def max_body_to_match_bytes(self) -> int:
        """The largest body that conditions of routes may read, 0 for any."""
        return TO_MATCH_BYTES

    @property
    def max_graphql_bytes(self) -> int:
        """The largest body that conditions may parse as GraphQL."""
        return TO_MATCH_BYTES

    async def read_body(self, limit_bytes: int) -> bytes:
        """The whole request body, which still goes to the upstream afterwards.

        For rewrite and access phases. Raises BodyTooLarge beyond the limit: left alone, it answers 413.
        """
        raise NotImplementedError

    def replace_body(self, body: bytes) -> None:
        """Let the upstream get this body. After `read_body`, or for a request without one; else RuntimeError."""
        raise NotImplementedError

    def keep_body(self, limit_bytes: int) -> None:
        """Keep the beginning of the request's body, up to `limit_bytes`, while it passes; nothing waits for it.

        For rewrite and access phases; `kept_body` has it. Of several who ask, the first one's limit holds.
        """
        raise NotImplementedError

    @property
    def kept_body(self) -> bytes:
        """What `keep_body` kept so far; as the client sent it."""
        return b""
