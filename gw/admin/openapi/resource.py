"""`/apisix/admin/openapi.json`. Behind the key, as all of the Admin API is; `gw openapi` prints it without one."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import falcon.asgi

from gw.admin.openapi.document import openapi_document
from gw.plugins.catalogue import Catalogue


class Document:
    """Falcon's resource for the path. The document is made when it is first asked for, and kept."""

    def __init__(self, plugins: Catalogue) -> None:
        self._plugins = plugins
        self._text: bytes | None = None

    def add_to(self, app: falcon.asgi.App[Any, Any], prefix: str) -> None:
        """Serve the path."""
        app.add_route(f"{prefix}/openapi.json", self)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        if self._text is None:
            # Some 15 ms, which the requests beside it need not wait for.
            self._text = await asyncio.to_thread(self._make)
        resp.data = self._text

    def _make(self) -> bytes:
        return json.dumps(openapi_document(self._plugins), separators=(",", ":")).encode()
