"""Takes a body out of its Content-Encoding, within a limit: some hundred bytes of gzip may unpack to gigabytes.

gzip is zlib's. Brotli is there where the package `brotli` is installed (`pip install jitterway[brotli]`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

try:
    import brotli as _installed
except ImportError:
    _installed = None
brotli: Final[Any] = _installed

# (encoded, limit in bytes) -> the body. Raises BadEncoding and BodyTooLong.
Decode: TypeAlias = Callable[[bytes, int], bytes]

_GZIP_WINDOW_BITS: Final = 16 + zlib.MAX_WBITS
# Blocks of bgzip, 64 KB each, of a body as long as may be held by default, with room; each costs a copy of the rest.
_MAX_MEMBERS: Final = 256


class BadEncoding(ValueError):
    """A body is not encoded as its Content-Encoding says, or not whole."""


class BodyTooLong(ValueError):
    """A body is longer than what may be held."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the body is longer than the {limit_bytes} bytes that may be held of one; "
            "raise max_resp_body_size, or for all plugin_attr.response-rewrite.max_body_bytes, or leave such responses "
            "out with vars"
        )


def gunzip(encoded: bytes, limit_bytes: int) -> bytes:
    """All members of a gzip file, joined (RFC 1952 2.2); nothing is nothing."""
    pieces: list[bytes] = []
    size = 0
    while encoded:
        if len(pieces) == _MAX_MEMBERS:
            raise BadEncoding(f"the body's gzip has more than {_MAX_MEMBERS} members")
        unpacker = zlib.decompressobj(_GZIP_WINDOW_BITS)
        try:
            # One more than may be shows that there is more.
            piece = unpacker.decompress(encoded, limit_bytes + 1 - size)
        except zlib.error as error:
            raise BadEncoding(f"the body is not gzip: {error}") from None
        size += len(piece)
        if size > limit_bytes:
            raise BodyTooLong(limit_bytes)
        if not unpacker.eof:
            raise BadEncoding("the body is not whole: its gzip has no end")
        pieces.append(piece)
        # Zeroes behind the last member are padding.
        encoded = unpacker.unused_data.lstrip(b"\0")
    return b"".join(pieces)


def unbrotli(encoded: bytes, limit_bytes: int) -> bytes:
    """RFC 7932."""
    unpacker = brotli.Decompressor()
    try:
        body: bytes = unpacker.process(encoded, output_buffer_limit=limit_bytes + 1)
    except brotli.error as error:
        raise BadEncoding(f"the body is not brotli: {error}") from None
    if len(body) > limit_bytes:
        raise BodyTooLong(limit_bytes)
    if not unpacker.is_finished() and encoded:
        raise BadEncoding("the body is not whole: its brotli has no end")
    return body


def gunzip_beginning(encoded: bytes, limit_bytes: int) -> bytes:
    """What the beginning of a gzip file unpacks to: of its first member, up to the limit."""
    try:
        return zlib.decompressobj(_GZIP_WINDOW_BITS).decompress(encoded, limit_bytes)
    except zlib.error as error:
        raise BadEncoding(f"the body is not gzip: {error}") from None


def unbrotli_beginning(encoded: bytes, limit_bytes: int) -> bytes:
    """The same of brotli."""
    try:
        body: bytes = brotli.Decompressor().process(encoded, output_buffer_limit=limit_bytes)
    except brotli.error as error:
        raise BadEncoding(f"the body is not brotli: {error}") from None
    return body[:limit_bytes]


def decoded_beginning(encoding: str, encoded: bytes, limit_bytes: int) -> bytes:
    """What the beginning of a body says, up to the limit; as it came where its encoding is not known or not kept to."""
    decode = _BEGINNINGS.get(DECODERS.get(encoding.strip().lower(), _undecoded), _undecoded)
    try:
        return decode(encoded, limit_bytes)
    except BadEncoding:
        return encoded


def _undecoded(encoded: bytes, _: int) -> bytes:
    return encoded


def _known() -> Mapping[str, Decode]:
    known: dict[str, Decode] = {"gzip": gunzip, "x-gzip": gunzip}
    # An older one cannot be stopped at a limit.
    if brotli is not None and hasattr(brotli.Decompressor, "can_accept_more_data"):
        known["br"] = unbrotli
    return known


DECODERS: Final = _known()
_BEGINNINGS: Final[Mapping[Decode, Decode]] = {gunzip: gunzip_beginning, unbrotli: unbrotli_beginning}
_IDENTITY: Final = "identity"


# A few for all browsers; the bound keeps clients that invent some from growing it.
@lru_cache(maxsize=256)
def narrowed(accept_encoding: bytes) -> bytes:
    """An Accept-Encoding without what cannot be unpacked here; nobody can ask for an encoding that hides a body."""
    kept = [
        coding.strip()
        for coding in accept_encoding.decode("latin-1").split(",")
        if (name := coding.partition(";")[0].strip().lower()) in DECODERS or name == _IDENTITY
    ]
    # Without the field any encoding would do (RFC 9110 12.5.3).
    return (", ".join(kept) or _IDENTITY).encode("latin-1")
