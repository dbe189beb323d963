"""Reads what a request's headers mean, once, and is the only serialiser of a request that leaves for an upstream.

It alone writes Host, framing and forwarding headers.

The client's hop-by-hop headers go first (the fixed set, and what its Connection names); what the gateway vouches for is
added after that, so no `Connection: X-Real-IP` can remove it. A header that the gateway sets never passes from the
client, nor does an alias of it (`X_Real_IP`, `x.real.ip`) that a WSGI, CGI or PHP backend folds onto the same name.

Whatever the adapter checked before, the finished head is counted once: a CR, LF or NUL too many refuses the request.
"""

import re
from collections.abc import Callable
from enum import IntEnum
from functools import lru_cache
from typing import Final

from gw.pipeline.context import Request
from gw.pipeline.fields import Headers, field_line
from gw.pipeline.forwarded import observed
from gw.pipeline.path import REMEMBERED_HOST_BYTES, BadTarget, UnsafeRequest

__all__ = ["UnsafeRequest", "admit", "announces_more_than", "may_trail", "request_head", "request_line"]


class _Fate(IntEnum):
    KEEP = 0
    DROP = 1
    FORWARDED_FOR = 2
    CONTENT_LENGTH = 3
    TRANSFER_ENCODING = 4
    CONNECTION = 5
    HOST = 6
    CLAIM = 7
    ORIGIN = 8


# RFC 9110 section 7.6.1 and what older agents treat likewise. Expect is answered by our own side.
_HOP_BY_HOP: Final = frozenset((b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"http2-settings"))
_SET_BY_US: Final = frozenset((b"x-real-ip", b"expect"))
# Passed on when they count, which gw.pipeline.origin settles.
_CLAIMS: Final = frozenset((b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"))
_FATES: Final = {
    **dict.fromkeys(_HOP_BY_HOP | _SET_BY_US, _Fate.DROP),
    **dict.fromkeys(_CLAIMS, _Fate.CLAIM),
    b"x-forwarded-for": _Fate.FORWARDED_FOR,
    b"content-length": _Fate.CONTENT_LENGTH,
    b"transfer-encoding": _Fate.TRANSFER_ENCODING,
    b"connection": _Fate.CONNECTION,
    b"host": _Fate.HOST,
}
_FORWARDING: Final = b"%bx-forwarded-proto: %b\r\nx-forwarded-host: %b\r\nx-forwarded-port: %b\r\n"
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_USUAL_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"))
# Names repeat; the bounds keep a client that invents names from growing the table (at most some 100 KB).
_MAX_REMEMBERED_NAMES: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 64
_fate_of: Final[dict[bytes, int]] = dict(_FATES)
# More than any limit has, and far fewer than what int() refuses or takes long for.
_MAX_DIGITS: Final = 18
_ZERO: Final = 0x30
# What Connection may name without meaning another header: these are hop-by-hop by themselves.
_CONNECTION_OPTIONS: Final = frozenset((b"", b"close", b"upgrade")) | _HOP_BY_HOP


def _judge(name: bytes) -> int:
    """Decide on a name that is seen for the first time, and remember it."""
    if not _TOKEN(name):
        raise UnsafeRequest("malformed header name")
    fate: int
    if name.startswith(b"proxy-"):
        fate = _Fate.DROP
    else:
        plain = name.replace(b"_", b"-").replace(b".", b"-")
        is_alias = plain != name and (plain in _FATES or plain.startswith(b"proxy-"))
        fate = _Fate.DROP if is_alias else _Fate.KEEP
    if len(_fate_of) < _MAX_REMEMBERED_NAMES and len(name) <= _MAX_REMEMBERED_BYTES:
        _fate_of[name] = fate
    return fate


def note_origin_header(name: bytes) -> None:
    """Have `admit` ask where a request comes from when it has this header, too (in lower case)."""
    if _fate_of.get(name, _Fate.KEEP) == _Fate.KEEP:
        _fate_of[name] = _Fate.ORIGIN


def admit(request: Request, locate: Callable[[Request], None] | None = None) -> None:
    """Read a request's headers, and set its canonical fields. Raises UnsafeRequest or BadTarget: it is answered 400.

    `locate` works out where the request comes from; it is asked where a header may tell, and may change the headers.
    """
    method = request.method
    if method not in _USUAL_METHODS and not _METHOD(method):
        raise UnsafeRequest("malformed method")
    read_headers(request)
    if locate is not None and request.tells_origin:
        locate(request)
        read_headers(request)
    request.settle_target()


def read_headers(request: Request) -> None:
    """Sort the headers into what is passed on as it is and what means something to us. Raises UnsafeRequest."""
    host: bytes | None = None
    forwarded_for: bytes | None = None
    length: bytes | None = None
    is_chunked = tells_origin = False
    named: set[bytes] | None = None
    claims: dict[bytes, bytes] | None = None
    fate_of = _fate_of
    kept: Headers = []
    for pair in request.headers:
        name, value = pair
        fate = fate_of.get(name)
        if fate is None:
            fate = _judge(name)
        # PERF: by number, in the order of _Fate: to look a member of an enum up costs six times the comparison.
        if fate == 0:
            kept.append(pair)
        elif fate == 6:
            if host is not None:
                raise BadTarget("more than one Host")
            host = value
        elif fate == 1:
            tells_origin = True
        elif fate == 5:
            named = _named_by_connection(value, named)
        elif fate == 2:
            tells_origin = True
            forwarded_for = value if forwarded_for is None else forwarded_for + b", " + value
        elif fate == 3:
            if length is not None or not value.isdigit():
                raise UnsafeRequest("malformed or repeated Content-Length")
            # Zeros before a number make it octal to some.
            length = value if value[0] != _ZERO else value.lstrip(b"0") or b"0"
        elif fate == 7:
            tells_origin = True
            if request.is_settled and value:
                claims = claims or {}
                claims.setdefault(name, value)
        elif fate == 4:
            if is_chunked or value.lower() != b"chunked":
                raise UnsafeRequest("unsupported Transfer-Encoding")
            is_chunked = True
        else:
            tells_origin = True
            kept.append(pair)
    if named:
        kept = [pair for pair in kept if pair[0] not in named]
    if is_chunked and length is not None:
        raise UnsafeRequest("Content-Length beside Transfer-Encoding")
    request.host_header = host
    request.forwarded_for = forwarded_for
    request.content_length = length
    request.is_chunked = is_chunked or (request.unframed_body and length is None)
    request.kept = kept
    request.names_headers = named is not None
    request.claims = claims
    request.tells_origin = tells_origin


def drop_named_by_connection(request: Request) -> None:
    """Drop the headers that belong to the client's connection alone, before plugins add their own: a client must not
    be able to remove what a plugin vouches for by naming it in Connection.
    """
    named: set[bytes] | None = None
    for name, value in request.headers:
        if name == b"connection":
            named = _named_by_connection(value, named)
    if named:
        # Host, lengths and forwarding headers mean something to us whatever Connection says of them.
        dropped = {b"connection"} | {name for name in named if _fate_of.get(name, 0) == 0}
        request.headers[:] = [each for each in request.headers if each[0] not in dropped]


def request_head(
    request: Request, host: bytes, method: str | None = None, uri: bytes | None = None, upgrade: bytes = b""
) -> bytes:
    """Write the head of an admitted request for an upstream whose Host is `host`. Raises UnsafeRequest.

    `method` and `uri` (path and query) replace the client's; `upgrade` is the protocol to ask for, if any.
    """
    if uri is None:
        uri = request.wire_path + b"?" + request.query if request.query else request.wire_path
    pieces = [(method or request.method).encode("ascii"), b" ", uri, b" HTTP/1.1\r\nhost: ", host, b"\r\n"]
    # Beside what is kept: request line, Host, five forwarding headers, the empty line.
    lines = len(request.kept) + 8
    if request.kept:
        pieces += (b"\r\n".join(map(field_line, request.kept)), b"\r\n")
    if request.is_chunked:
        pieces.append(b"transfer-encoding: chunked\r\n")
        lines += 1
    elif request.content_length is not None:
        pieces += (b"content-length: ", request.content_length, b"\r\n")
        lines += 1
    if upgrade:
        pieces.append(b"connection: Upgrade\r\nupgrade: %b\r\n" % upgrade)
        lines += 2
    forwarded_for = request.forwarded_for
    is_first = forwarded_for is None
    if forwarded_for is not None:
        pieces += (b"x-forwarded-for: ", forwarded_for, b", ")
    if request.claims is None:
        host_header = request.host_header
        is_remembered = host_header is None or len(host_header) <= REMEMBERED_HOST_BYTES
        lines_of = _forwarding if is_remembered else _forwarding.__wrapped__
        pieces.append(lines_of(request.remote_addr, request.scheme, host_header, request.server_port, is_first))
    else:
        claimed, claimed_lines = _claimed_forwarding(request, request.claims, is_first=is_first)
        pieces.append(claimed)
        lines += claimed_lines
    pieces.append(b"\r\n")
    data = b"".join(pieces)
    if data.count(b"\n") != lines or data.count(b"\r") != lines or b"\0" in data:
        raise UnsafeRequest("control character in the head")
    return data


def request_line(request: Request, method: str | None = None, uri: bytes | None = None) -> bytes:
    """The first line alone, where the lines behind it are known (gw.pipeline.repeated); see `request_head`.

    Nothing in it can end the line: methods are those of the edge or of a schema, targets canonical or checked.
    """
    if uri is None:
        uri = request.wire_path + b"?" + request.query if request.query else request.wire_path
    return b"%b %b HTTP/1.1\r\n" % ((method or request.method).encode("ascii"), uri)


def may_trail(name: bytes) -> bool:
    """Whether a client's trailer field is passed on: one that is passed on as a header, too."""
    fate = _fate_of.get(name)
    try:
        # Only a name that is new is judged: what is settled (X-Real-IP) is not to be settled anew.
        return (_judge(name) if fate is None else fate) == 0
    except UnsafeRequest:
        return False


def announces_more_than(length: bytes | None, limit_bytes: int) -> bool:
    """Whether a body of this Content-Length is larger; False when there is none."""
    if length is None:
        return False
    digits = length.lstrip(b"0")
    return len(digits) > _MAX_DIGITS or int(digits or b"0") > limit_bytes


# The same few for all requests of a client; the bounds keep many clients, and long names, from growing the cache (some
# 2 MB, at most 4).
@lru_cache(maxsize=4096)
def _forwarding(remote_addr: str, scheme: str, host: bytes | None, port: int | None, is_first: bool) -> bytes:
    """The lines that we vouch for; the first is the rest of X-Forwarded-For's where that has begun."""
    return _FORWARDING % (_addresses(remote_addr, is_first), *observed(scheme, host, port))


def _claimed_forwarding(request: Request, claims: dict[bytes, bytes], *, is_first: bool) -> tuple[bytes, int]:
    """The same where somebody who may do so says otherwise, and by how many lines it is longer."""
    seen = observed(request.scheme, request.host_header, request.server_port)
    data = _FORWARDING % (
        _addresses(request.remote_addr, is_first),
        claims.get(b"x-forwarded-proto", seen.proto),
        claims.get(b"x-forwarded-host", seen.host),
        claims.get(b"x-forwarded-port", seen.port),
    )
    forwarded = claims.get(b"forwarded")
    return (data, 0) if forwarded is None else (data + b"forwarded: %b\r\n" % forwarded, 1)


def _addresses(remote_addr: str, is_first: bool) -> bytes:
    name = "x-forwarded-for: " if is_first else ""
    return f"{name}{remote_addr}\r\nx-real-ip: {remote_addr}\r\n".encode("latin-1")


def _named_by_connection(value: bytes, named: set[bytes] | None) -> set[bytes] | None:
    for option in value.lower().split(b","):
        option = option.strip(b" \t")
        if option not in _CONNECTION_OPTIONS:
            named = named or set()
            named.add(option)
    return named
