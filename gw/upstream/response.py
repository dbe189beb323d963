"""Which of an upstream's response headers are passed on. Pure: no socket, no parser.

Framing and hop-by-hop headers belong to the connection they came on; `Server` is replaced by the gateway's own, as
in APISIX. What llhttp accepts beyond what can be forwarded truthfully is refused here as BadResponse: a transfer
coding other than one `chunked` (we would pass coded bytes on as if they were plain).
"""

from typing import Final

from gw.upstream.errors import BadResponse

_DROPPED: Final = frozenset(
    (
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"upgrade",
    )
)
_CONNECTION_OPTIONS: Final = frozenset((b"", b"close", b"keep-alive", b"upgrade"))
# RFC 9110 section 6.5.1: framing, routing, authentication, and how to read the content.
NOT_IN_TRAILERS: Final = frozenset(
    (
        *(b"content-length", b"content-encoding", b"content-type", b"content-range", b"transfer-encoding", b"host"),
        *(b"authorization", b"www-authenticate", b"set-cookie", b"cookie", b"cache-control", b"expires", b"date"),
        *(b"location", b"retry-after", b"vary", b"expect", b"max-forwards", b"range", b"te", b"age", b"pragma"),
    )
)
# Names as they are spelled, to their lower case, or to nothing for what is dropped. An upstream is configured by the
# operator, but what it sends is not: hence the bounds.
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64
_plain_names: Final[dict[bytes, bytes]] = {}

Headers = list[tuple[bytes, bytes]]


class ResponseHead:
    """A head as it is passed on: end-to-end headers, names in lower case.

    A connection hands out the same one again for a head of the same bytes, so `headers` are to be copied before they
    are changed. What was made of it is kept for the next time: `is_complete` says that `headers` have what the gateway
    adds to all of them, `rendered` is the client side's.
    """

    __slots__ = ("headers", "is_complete", "reason", "rendered", "status")

    def __init__(self, status: int, reason: bytes, headers: Headers) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.is_complete = False
        self.rendered: bytes | None = None


class HeadReader:
    """Collects the headers of one response after the other, as a parser finds them.

    Pure: it takes what a parser calls `on_header` with, and answers questions about the whole.
    """

    __slots__ = ("_connection", "_headers", "_is_chunked", "_is_coded")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget what was collected (also trailers, which nobody takes)."""
        self._headers: Headers = []
        self._connection = b""
        self._is_chunked = False
        self._is_coded = False

    def add(self, name: bytes, value: bytes) -> None:
        """A header as it stands in the response."""
        plain = _plain_names.get(name)
        if plain:
            self._headers.append((plain, value))
        elif plain is None:
            self._judge(name, value)

    def _judge(self, name: bytes, value: bytes) -> None:
        plain = name.lower()
        if plain == b"connection":
            if value != b"keep-alive":
                self._connection += b"," + value.lower()
        elif plain == b"transfer-encoding":
            # llhttp leaves blanks at the end of a value.
            self._is_coded = self._is_coded or self._is_chunked or value.rstrip(b" \t").lower() != b"chunked"
            self._is_chunked = True
        else:
            is_dropped = plain in _DROPPED
            if not is_dropped:
                self._headers.append((plain, value))
            if len(_plain_names) < _MAX_REMEMBERED_NAMES and len(name) <= _MAX_REMEMBERED_BYTES:
                _plain_names[name] = b"" if is_dropped else plain

    @property
    def size_bytes(self) -> int:
        """Names and values that would be passed on."""
        return sum(len(name) + len(value) for name, value in self._headers)

    @property
    def asks_to_close(self) -> bool:
        """True when Connection holds `close`."""
        return b"close" in _options(self._connection)

    def end_to_end(self, *, is_http_1_0: bool) -> Headers:
        """Return the headers to pass on, names in lower case, in order; the caller's to keep. Raises BadResponse."""
        if self._is_coded or (self._is_chunked and is_http_1_0):
            raise BadResponse("transfer coding that cannot be passed on")
        headers, self._headers = self._headers, []
        if self._connection and (named := _options(self._connection) - _CONNECTION_OPTIONS):
            return [pair for pair in headers if pair[0] not in named]
        return headers

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self._is_chunked

    @property
    def has_more(self) -> bool:
        """Whether fields came since `end_to_end`."""
        return bool(self._headers)

    def trailers(self) -> Headers:
        """The fields that came behind the body of this response, those left out that mean something in a head alone."""
        trailers, self._headers = self._headers, []
        return [pair for pair in trailers if pair[0] not in NOT_IN_TRAILERS]

    def ends_with_connection(self, passed: Headers) -> bool:
        """True when nothing but the end of the connection ends the body. `passed`: what end_to_end returned."""
        return not self._is_chunked and not any(name == b"content-length" for name, _ in passed)


def _options(connection: bytes) -> set[bytes]:
    return {option.strip(b" \t") for option in connection.split(b",")}
