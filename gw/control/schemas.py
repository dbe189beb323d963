"""`/v1/schema`: the JSON Schemas that resources and plugins are checked against (`schema` in apisix/control/v1.lua)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import falcon.asgi

from gw.control.streamed import send_object
from gw.plugins.catalogue import Catalogue
from gw.schema import published_key_schemas, published_schema, published_schemas


class Schemas:
    """Falcon's resource for the path."""

    def __init__(self, plugins: Catalogue) -> None:
        self._plugins = plugins

    def add_to(self, app: falcon.asgi.App[Any, Any]) -> None:
        """Serve the path."""
        app.add_route("/v1/schema", self)

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        send_object(resp, (("main", _main()), ("plugins", self._plugins.all.items()), ("stream_plugins", ())))


def _main() -> Iterator[tuple[str, Any]]:
    for name, kind in published_schemas().items():
        yield name, published_schema(kind)
    yield from published_key_schemas().items()
