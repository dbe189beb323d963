"""The one canonical form of a request's target. Pure functions: bytes in, bytes and text out, or BadTarget.

The path that chooses the route is the path plugins see and the path the upstream gets. A request is normalised once,
here, and never again. The canonical path has two spellings, made from each other without loss of meaning:

- `wire`: what leaves for the upstream. RFC 3986 section 6.2.2: percent-encodings of unreserved characters are decoded,
  all others kept with upper-case digits; characters that no URI may hold are encoded; dot segments are resolved; runs
  of slashes are merged (as nginx's merge_slashes, which made the `$uri` that APISIX matches on).
- `text`: what routes and plugins are matched against. `wire` with its percent-encodings decoded as UTF-8, except `%2F`
  and `%25`: an encoded slash is data of a segment and never separates two, and an encoded percent sign stays, so
  that nothing can be decoded twice.

Refused (400): what is no path at all, a path above the root, a malformed percent-encoding, control characters (also
encoded), a fragment, and dot segments that would appear only to somebody who reads the path differently: `..;x=1`
(servlet containers cut parameters), `..%2F` and `..%5C` (servers that decode before they split).

APISIX matches on the normalised path but sends the original one; that gap is its CVE-2021-43557, so it is closed here.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple


class BadTarget(ValueError):
    """The request's target or Host cannot be served as it stands. The text is for the log, not for the client."""


class UnsafeRequest(ValueError):
    """The request cannot be written down without changing its meaning. Answered 400; the text is for the log."""


class CanonicalPath(NamedTuple):
    """Both spellings of one path; see the module's rules."""

    text: str
    wire: bytes


# Segments of characters that stand for themselves, none of them a dot segment, none empty but the last: canonical.
_ALREADY_CANONICAL = re.compile(rb"(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~!$&'()*+,=:@\[\]-]+)*/?").fullmatch
_NOT_PRINTABLE = re.compile(rb"[^\x21-\x7e]").search
_TRIPLET = re.compile(rb"%(..?)?", re.DOTALL)
_HEX = re.compile(rb"[0-9A-Fa-f]{2}").fullmatch
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Printable, but not allowed anywhere in a URI (RFC 3986 appendix A). Brackets are left alone, as nginx does.
_NEVER_IN_URI = re.compile(rb'["<>\\^`{|}]')
_ENCODED_RUN = re.compile(rb"(?:%(?!2F|25)[0-9A-F]{2})+")
_HIDDEN_SEPARATOR = re.compile(rb"%2F|%5C")
_PARAMETER = re.compile(rb";|%3B")
_DOT_SEGMENTS = frozenset((b".", b".."))


# Paths of an API repeat; the bounds keep a client that invents paths from growing the cache (at most some 2 MB).
_MAX_REMEMBERED: Final = 4096
_MAX_REMEMBERED_BYTES: Final = 128
# Of a name (RFC 1035: 253) with a port. Hosts repeat from request to request; bounds on their number and length keep a
# client that invents hosts from growing what is remembered of them.
REMEMBERED_HOST_BYTES: Final = 259


def canonical_path(raw: bytes) -> CanonicalPath:
    """Normalise the path of an origin-form target (no query). Raises BadTarget."""
    return _remembered_path(raw) if len(raw) <= _MAX_REMEMBERED_BYTES else _canonical_path(raw)


def _canonical_path(raw: bytes) -> CanonicalPath:
    if _ALREADY_CANONICAL(raw) and raw:
        return CanonicalPath(raw.decode("ascii"), raw)
    if not raw.startswith(b"/"):
        raise BadTarget("the path does not begin with a slash")
    if _NOT_PRINTABLE(raw) or b"#" in raw:
        raise BadTarget("the path holds a character that must be percent-encoded")
    unified = _NEVER_IN_URI.sub(_encode, _TRIPLET.sub(_unify, raw))
    wire = _resolve(unified.split(b"/")[1:])
    text = _ENCODED_RUN.sub(_decode, wire).decode("utf-8", "surrogateescape")
    return CanonicalPath(text, wire)


_remembered_path = lru_cache(_MAX_REMEMBERED)(_canonical_path)


def _unify(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if digits is None or not _HEX(digits):
        raise BadTarget("malformed percent-encoding in the path")
    octet = int(digits, 16)
    if octet < 0x20 or octet == 0x7F:
        raise BadTarget("encoded control character in the path")
    return bytes((octet,)) if octet in _UNRESERVED else b"%" + digits.upper()


def _encode(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(match[0])


def _decode(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[0].replace(b"%", b"").decode("ascii"))


def _resolve(segments: list[bytes]) -> bytes:
    """Join segments without empty and dot segments (RFC 3986 section 5.2.4). Above the root: refused, as nginx does."""
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            if not kept:
                raise BadTarget("the path leads above the root")
            kept.pop()
        elif segment and segment != b".":
            _refuse_hidden_dots(segment)
            kept.append(segment)
    if not kept:
        return b"/"
    ends_with_slash = segments[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(kept) + (b"/" if ends_with_slash else b"")


def _refuse_hidden_dots(segment: bytes) -> None:
    for part in _HIDDEN_SEPARATOR.split(segment):
        if part != segment and part in _DOT_SEGMENTS:
            raise BadTarget("dot segment behind an encoded separator")
        name = _PARAMETER.split(part, maxsplit=1)[0]
        if name != part and name in _DOT_SEGMENTS:
            raise BadTarget("dot segment with a parameter")


def check_query(raw: bytes) -> None:
    """A query is forwarded untouched. Raises BadTarget for a fragment or an unprintable byte."""
    if b"#" in raw or _NOT_PRINTABLE(raw):
        raise BadTarget("the query holds a character that must be percent-encoded")


_ABSOLUTE_FORM = re.compile(rb"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL).fullmatch


def split_absolute_form(raw: bytes) -> tuple[bytes, bytes]:
    """Split `http://authority/path` into authority and path. Raises BadTarget for every other form (RFC 9112 3.2)."""
    match = _ABSOLUTE_FORM(raw)
    if match is None:
        raise BadTarget("the target is neither a path nor an absolute http URI")
    return match[1], match[2] or b"/"


_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(?::[0-9]*)?").fullmatch


def host_name(value: bytes) -> str:
    """The name to match routes by: lower case, without port and final dot, as nginx's `$host`. Raises BadTarget."""
    return _remembered_host_name(value) if len(value) <= REMEMBERED_HOST_BYTES else _host_name(value)


def _host_name(value: bytes) -> str:
    match = _HOST(value)
    if match is None:
        raise BadTarget("malformed Host")
    name = match[1].decode("ascii").lower().removesuffix(".")
    if not name or ".." in name or name.endswith("."):
        raise BadTarget("malformed Host")
    return name


_remembered_host_name = lru_cache(1024)(_host_name)
