"""The proxy that one would write with falcon and aiohttp's client: what our own edge and upstream client save.

For gunicorn's asgi worker: `gunicorn -k asgi bench.throughput.falcon_proxy:app`, with ORIGIN in the environment.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import aiohttp
import falcon.asgi

_ORIGIN = os.environ.get("ORIGIN", "http://127.0.0.1:1980")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


class Proxy:
    """One session for each worker, opened by the first request since it belongs to a loop."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3600)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        headers = {name: value for name, value in req.headers.items() if name.lower() not in _HOP_BY_HOP}
        headers["X-Real-IP"] = headers["X-Forwarded-For"] = req.remote_addr
        has_body = (req.content_length or 0) > 0
        answer = await self._session.request(
            req.method,
            _ORIGIN + req.relative_uri,
            headers=headers,
            data=_pieces(req) if has_body else None,
            allow_redirects=False,
        )
        resp.status = answer.status
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                resp.set_header(name, value)
        resp.stream = _passed_on(answer)


async def _pieces(req: falcon.asgi.Request) -> AsyncIterator[bytes]:
    async for piece in req.stream:
        yield piece


async def _passed_on(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece


app = falcon.asgi.App()
app.add_sink(Proxy(), prefix="/")
