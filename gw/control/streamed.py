"""JSON that is sent as it is made: an answer costs the memory of a piece, and the loop has its turn between two."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final

import falcon
import falcon.asgi

# Texts in a piece: to decode and mask a route and to write it as JSON takes some 70 us.
PIECE_TEXTS: Final = 8
# Longer texts take as long to write as several short ones.
PIECE_CHARACTERS: Final = 16 * 1024


def send_array(resp: falcon.asgi.Response, values: Iterable[Any]) -> None:
    """Answer with a JSON array. The values are asked for while it is sent."""
    _send(resp, _array(values))


def send_object(resp: falcon.asgi.Response, members: Iterable[tuple[str, Iterable[tuple[str, Any]]]]) -> None:
    """Answer with a JSON object of objects: (name, its members), asked for while they are sent."""
    _send(resp, _object_of_objects(members))


def json_text(value: Any) -> str:
    """Compact JSON, in ASCII."""
    return json.dumps(value, separators=(",", ":"))


def _array(values: Iterable[Any]) -> Iterator[str]:
    opening = "["
    for value in values:
        yield opening + json_text(value)
        opening = ","
    yield "[]" if opening == "[" else "]"


def _object_of_objects(members: Iterable[tuple[str, Iterable[tuple[str, Any]]]]) -> Iterator[str]:
    opening = "{"
    for name, inner in members:
        yield f"{opening}{json_text(name)}:{{"
        opening, separator = ",", ""
        for inner_name, value in inner:
            yield f"{separator}{json_text(inner_name)}:{json_text(value)}"
            separator = ","
        yield "}"
    yield "{}" if opening == "{" else "}"


def _send(resp: falcon.asgi.Response, texts: Iterator[str]) -> None:
    resp.content_type = falcon.MEDIA_JSON
    resp.stream = _pieces(texts)


async def _pieces(texts: Iterator[str]) -> AsyncIterator[bytes]:
    piece: list[str] = []
    size = 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if len(piece) >= PIECE_TEXTS or size >= PIECE_CHARACTERS:
            yield "".join(piece).encode()
            piece.clear()
            size = 0
            await asyncio.sleep(0)
    yield "".join(piece).encode()
