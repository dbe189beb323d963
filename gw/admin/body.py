"""The body of an admin request: read within its limit, parsed strictly. What it says is never logged nor sent back."""

from __future__ import annotations

from typing import Any

import falcon.asgi

from gw.admin.reply import error_of
from gw.schema import parse_json


async def read_json(req: falcon.asgi.Request, limit_bytes: int, *, missing: str) -> Any:
    """The JSON value of a request's body, whatever its media type says (curl -d says "form").

    Raises AdminError: 413 for more than `limit_bytes`, 400 with the reason `missing` for none, 400 for what is not
    strict JSON.
    """
    raw = await read_raw(req, limit_bytes, missing=missing)
    try:
        return parse_json(raw)
    except ValueError as error:
        raise error_of(400, f"invalid request body: {error}") from None


async def read_raw(req: falcon.asgi.Request, limit_bytes: int, *, missing: str) -> bytes:
    """The bytes of a request's body. Raises AdminError: 413 for more than `limit_bytes`, 400 `missing` for none."""
    raw = await _read(req, limit_bytes)
    if not raw:
        raise error_of(400, missing)
    return raw


async def _read(req: falcon.asgi.Request, limit_bytes: int) -> bytes:
    if req.content_length is not None and req.content_length > limit_bytes:
        raise _too_large(req.content_length, limit_bytes)
    pieces = bytearray()
    async for piece in req.stream:
        pieces += piece
        if len(pieces) > limit_bytes:
            raise _too_large(len(pieces), limit_bytes)
    return bytes(pieces)


def _too_large(size_bytes: int, limit_bytes: int) -> Exception:
    reason = f"request size {size_bytes} is greater than the maximum size {limit_bytes} allowed"
    # The rest of the body is not read, so what follows on this connection could not be told from it.
    return error_of(413, f"invalid request body: {reason}", {"Connection": "close"})
