"""A query string without one of its arguments; the others stay as they were written."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes


def without_argument(query: bytes, name: str) -> bytes:
    """Take every argument of this name away, however it is encoded."""
    wanted = name.encode("utf-8", "surrogateescape")
    if not query:
        return query
    return b"&".join(piece for piece in query.split(b"&") if _name_of(piece) != wanted)


def _name_of(piece: bytes) -> bytes:
    return unquote_to_bytes(piece.partition(b"=")[0].replace(b"+", b" "))
