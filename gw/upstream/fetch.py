"""One HTTP request and its whole response, to be awaited: for plugins that ask others, and for health probes.

It goes over the worker's upstream connections (pooled, resolved, limited), so a fetch costs a future and no more.
What a proxied request streams is gathered here, up to a limit. The exchange of proxied requests is
gw/pipeline/exchange.py; nothing is shared with it but the connections.

A connection that was kept may have been closed by its server while we wrote: then nothing of an answer comes, and the
request is sent once more over a fresh one, if doing it twice does no harm (RFC 9110 section 9.2.2).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from gw.errors import UpstreamError
from gw.upstream.client import UpstreamClient
from gw.upstream.connection import UpstreamConnection
from gw.upstream.errors import BadResponse, Closed, ConnectTimedOut, ReadTimedOut
from gw.upstream.response import Headers, ResponseHead
from gw.upstream.target import KeepAlive, Target, Timeouts, TlsIdentity, TlsMaterial

# As lua-resty-http, by which APISIX's plugins ask, keeps them: few, for a minute.
KEPT: Final = KeepAlive(max_idle=5, idle_timeout_s=60.0, max_requests=1000)
NOT_KEPT: Final = KeepAlive(max_idle=0, idle_timeout_s=0.0, max_requests=1)
# A decision, an address list, a token: what plugins fetch is small.
MAX_BODY_BYTES: Final = 1 << 20

_IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))
_HAVE_A_BODY: Final = frozenset(("POST", "PUT", "PATCH"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Those that belong to one connection, and those by which we frame: a caller that passes a client's headers on need not
# know them.
_OURS: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# RFC 9110 section 5.6.2.
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_A_VALUE: Final = re.compile(rb"[\x00\r\n]")
_NOT_IN_A_URL: Final = re.compile(r"[^\x21-\x7e]")


class Fetched(NamedTuple):
    """A whole response. `headers`: end-to-end ones, names in lower case; `body` without framing, not decompressed."""

    status: int
    headers: Headers
    body: bytes


class _Url(NamedTuple):
    host: str
    port: int
    is_tls: bool
    host_header: bytes
    target: bytes


class Fetcher:
    """One per worker is enough: it holds nothing but the way to the connections."""

    def __init__(self, upstreams: UpstreamClient) -> None:
        self._upstreams = upstreams

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        ssl_verify: bool = True,
        server_name: str | None = None,
        material: TlsMaterial | None = None,
        keepalive: KeepAlive = KEPT,
        max_body_bytes: int = MAX_BODY_BYTES,
        is_repeatable: bool | None = None,
    ) -> Fetched:
        """Send a request, and return its response, whatever its status.

        `url`: http or https, percent-encoded. `headers`: a Host among them replaces that of the URL; those that frame
        or belong to a connection are left out. `timeout_s` is for all of it, the name's resolution included.
        `server_name`: for TLS, where it is not the URL's host; `material`: a client's certificate, authorities.
        `is_repeatable`: may be sent twice; None: as the method says.

        Raises UpstreamError: no connection, no answer in time, no usable answer, or a body over `max_body_bytes`.
        ValueError: the URL, method or a header cannot be sent. Cancelled, it gives the connection up.
        """
        where = parse_url(url)
        tls = TlsIdentity(where.host if server_name is None else server_name, ssl_verify, material)
        call = _Call(
            self._upstreams,
            Target(where.host, where.port, tls if where.is_tls else None),
            _request(method, where, headers, body),
            answers_head=method == "HEAD",
            is_repeatable=method in _IDEMPOTENT if is_repeatable is None else is_repeatable,
            timeouts=Timeouts(timeout_s, timeout_s, timeout_s),
            keepalive=keepalive,
            max_body_bytes=max_body_bytes,
        )
        outcome: Fetched | UpstreamError | None = None
        try:
            async with asyncio.timeout(timeout_s):
                outcome = await call.start()
        except TimeoutError:
            pass
        finally:
            was_connecting = call.is_connecting
            call.stop()
        if isinstance(outcome, Fetched):
            return outcome
        error = outcome or (ConnectTimedOut() if was_connecting else ReadTimedOut())
        try:
            raise error
        finally:
            # Or this frame, to which the error refers, would refer to it; so does the future of the call.
            del error, outcome, call


class _Call:
    """One fetch: the opener and the sink of its connection. Its future gets the outcome as a value, raised by nobody
    but the one who awaits: an exception inside a future refers to the frames that hold the future.
    """

    __slots__ = (
        "_answers_head",
        "_body",
        "_body_bytes",
        "_connection",
        "_headers",
        "_is_repeatable",
        "_keepalive",
        "_max_body_bytes",
        "_opening",
        "_outcome",
        "_request",
        "_status",
        "_target",
        "_timeouts",
        "_upstreams",
    )

    def __init__(
        self,
        upstreams: UpstreamClient,
        target: Target,
        request: bytes,
        *,
        answers_head: bool,
        is_repeatable: bool,
        timeouts: Timeouts,
        keepalive: KeepAlive,
        max_body_bytes: int,
    ) -> None:
        self._upstreams = upstreams
        self._target = target
        self._request = request
        self._answers_head = answers_head
        self._is_repeatable = is_repeatable
        self._timeouts = timeouts
        self._keepalive = keepalive
        self._max_body_bytes = max_body_bytes
        self._connection: UpstreamConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._outcome: asyncio.Future[Fetched | UpstreamError] = upstreams.loop.create_future()
        self._status = 0
        self._headers: Headers = []
        self._body: list[bytes] = []
        self._body_bytes = 0

    @property
    def is_connecting(self) -> bool:
        """There is no connection yet."""
        return self._opening is not None

    def start(self) -> asyncio.Future[Fetched | UpstreamError]:
        """Begin; the future will have the outcome."""
        connection = self._upstreams.take_idle(self._target)
        if connection is None:
            self._open()
        else:
            self._use(connection)
        return self._outcome

    def stop(self) -> None:
        """Nobody waits any more. Harmless when all is said."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _open(self) -> None:
        self._opening = self._upstreams.open(self._target, self._timeouts.connect_s, self)

    def _use(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.begin(
            self, answers_head=self._answers_head, timeouts=self._timeouts, keepalive=self._keepalive
        )
        connection.write(self._request)
        connection.request_complete()

    def _end(self, outcome: Fetched | UpstreamError) -> None:
        self._connection = None
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    # What opening and the connection call; see gw.upstream.client.Opener and gw.upstream.contract.Sink.

    def upstream_connected(self, connection: UpstreamConnection) -> None:
        self._opening = None
        self._use(connection)

    def upstream_failed(self, error: UpstreamError) -> None:
        self._opening = None
        connection = self._connection
        stale = connection is not None and connection.reused and not connection.response_started
        if stale and isinstance(error, Closed) and self._is_repeatable:
            # A fresh connection is not `reused`: there is no third time.
            self._connection = None
            self._open()
        else:
            self._end(error)

    def upstream_interim(self, status: int, headers: Headers) -> None:
        """Not the answer."""

    def upstream_flush(self) -> None:
        """Nobody waits for a part of it."""

    def upstream_upgraded(self, headers: Headers, rest: bytes) -> None:
        """Never: no other protocol was asked for."""

    def upstream_head(self, status: int, reason: bytes, headers: Headers) -> None:
        self._status = status
        self._headers = headers
        if not self._answers_head:
            announced = next((value for name, value in headers if name == b"content-length"), b"0")
            if announced.isdigit() and int(announced) > self._max_body_bytes:
                self._refuse_body()

    def upstream_answered(self, head: ResponseHead, body: bytes, now_s: float) -> None:
        # A list of our own, for a head may come again; what a proxied request has added to it is not the upstream's.
        self.upstream_head(head.status, head.reason, [pair for pair in head.headers if pair[0] != b"server"])
        self.upstream_body(body)
        self.upstream_end([])

    def upstream_body(self, piece: bytes) -> None:
        self._body.append(piece)
        self._body_bytes += len(piece)
        if self._body_bytes > self._max_body_bytes:
            self._refuse_body()

    def _refuse_body(self) -> None:
        if self._connection is not None:
            self._connection.abort()
        self._body.clear()
        self._end(BadResponse(f"body larger than {self._max_body_bytes} bytes"))

    def upstream_end(self, trailers: Headers) -> None:
        self._end(Fetched(self._status, self._headers, b"".join(self._body)))

    def upstream_full(self) -> None:
        """All of the request is with the transport already."""

    def upstream_drained(self) -> None:
        """See upstream_full."""


@lru_cache(1024)
def parse_url(url: str) -> _Url:
    """Where a URL leads. Raises ValueError, without the URL's query, which may hold a secret."""
    plain = url.partition("?")[0]
    if _NOT_IN_A_URL.search(url):
        raise ValueError(f"{plain!a} is no URL: it must be percent-encoded")
    parts = urlsplit(url)
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc:
        raise ValueError("a URL must be http:// or https:// and a host, without a user or password")
    default = _DEFAULT_PORTS[parts.scheme]
    port = parts.port or default
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authority = host if port == default else f"{host}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Url(parts.hostname, port, parts.scheme == "https", authority.encode(), target.encode())


def _request(method: str, where: _Url, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> bytes:
    encoded_method = method.encode()
    if not _TOKEN.fullmatch(encoded_method):
        raise ValueError(f"{method!a} is no HTTP method")
    lines = [b"%b %b HTTP/1.1" % (encoded_method, where.target)]
    host_header = where.host_header
    for name, value in headers:
        plain = name.lower()
        if not _TOKEN.fullmatch(name) or _NOT_IN_A_VALUE.search(value):
            raise ValueError(f"header {name!r} cannot be sent: its name or value holds a character that it may not")
        if plain == b"host":
            host_header = value
        elif plain not in _OURS:
            lines.append(b"%b: %b" % (name, value))
    lines.insert(1, b"Host: %b" % host_header)
    if body or method in _HAVE_A_BODY:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, b"", b"")) + body
