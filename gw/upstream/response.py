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
_SPECIAL: Final = _DROPPED | {b"connection", b"transfer-encoding"}
_CONNECTION_OPTIONS: Final = frozenset((b"", b"close", b"keep-alive", b"upgrade"))
# Spellings of ordinary names, to their lower case. An upstream is configured by the operator, but its names are not.
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64
_plain_names: Final[dict[bytes, bytes]] = {}

Headers = list[tuple[bytes, bytes]]


def end_to_end(raw: Headers, *, is_http_1_0: bool) -> Headers:
    """Return the headers to pass on, names in lower case, in order. Raises BadResponse."""
    plain_names = _plain_names
    kept: Headers = []
    connection: bytes = b""
    is_chunked = False
    for name, value in raw:
        plain = plain_names.get(name)
        if plain is not None:
            kept.append((plain, value))
            continue
        plain = name.lower()
        if plain not in _SPECIAL:
            if len(plain_names) < _MAX_REMEMBERED_NAMES and len(name) <= _MAX_REMEMBERED_BYTES:
                plain_names[name] = plain
            kept.append((plain, value))
        elif plain == b"connection":
            connection = value if not connection else connection + b"," + value
        elif plain == b"transfer-encoding":
            if is_chunked or is_http_1_0 or value.lower() != b"chunked":
                raise BadResponse("transfer coding that cannot be passed on")
            is_chunked = True
    if connection:
        named = {option.strip(b" \t") for option in connection.lower().split(b",")} - _CONNECTION_OPTIONS
        if named:
            return [pair for pair in kept if pair[0] not in named]
    return kept


def ends_with_connection(raw: Headers) -> bool:
    """True when nothing but the end of the connection ends the body (for a response that has one)."""
    return not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in raw)


def asks_to_close(raw: Headers) -> bool:
    """True when Connection holds `close`."""
    return any(name.lower() == b"connection" and b"close" in value.lower() for name, value in raw)
