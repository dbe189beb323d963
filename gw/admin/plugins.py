"""`/apisix/admin/plugins`, `.../list`, `.../{name}` and `.../reload`: what plugins there are, and their schemas.

Answers and errors as in apisix/admin/plugins.lua. They come from what this worker runs: no store is asked.
"""

from __future__ import annotations

import json
from typing import Any, Final

import falcon
import falcon.asgi

from gw.admin.reply import error_of
from gw.plugins.catalogue import Catalogue
from gw.plugins.reloading import DONE, PluginReload

_SUBSYSTEMS: Final = ("http", "stream")


class Plugins:
    """Falcon's resource for all of these paths."""

    def __init__(self, plugins: Catalogue, reload: PluginReload) -> None:
        self._plugins = plugins
        self._reload = reload

    def add_to(self, app: falcon.asgi.App[Any, Any], prefix: str) -> None:
        """Serve the paths. They stand beside `{kind}/{id}`: what is written out comes first in falcon."""
        app.add_route(f"{prefix}/plugins", self, suffix="all")
        app.add_route(f"{prefix}/plugins/list", self, suffix="list")
        app.add_route(f"{prefix}/plugins/reload", self, suffix="reload")
        app.add_route(f"{prefix}/plugins/{{name}}", self, suffix="one")

    async def on_get_all(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """With `all=true`, everything of every plugin, by name. Without it APISIX wants a name."""
        subsystem = subsystem_of(req)
        if req.get_param("all") != "true":
            raise error_of(400, "not found plugin name")
        send_json(resp, self._plugins.all if subsystem == "http" else {})

    async def on_get_list(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The names, in the order in which plugins run."""
        subsystem = req.get_param("subsystem", default="http")
        if subsystem not in _SUBSYSTEMS:
            raise error_of(400, "invalid subsystem passed")
        send_json(resp, self._plugins.names if subsystem == "http" else ())

    async def on_get_one(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        """The schema of a plugin's configurations; of a consumer's, with `schema_type=consumer`."""
        send_plugin_schema(req, resp, self._plugins, name)

    async def on_put_reload(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """`done` when what is configured is what runs."""
        obstacle = await self._reload.obstacle()
        if obstacle is not None:
            raise error_of(409, obstacle)
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = DONE


def send_plugin_schema(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, plugins: Catalogue, name: str
) -> None:
    """Answer with the schema of a plugin, by the parameters `subsystem` and `schema_type`."""
    subsystem = subsystem_of(req)
    # There are no plugins for TCP and UDP yet.
    if subsystem != "http" or name not in plugins.all:
        raise error_of(404, f"plugin not found in subsystem {subsystem}")
    schema = plugins.schema_of(name, req.get_param("schema_type"))
    if schema is None:
        raise error_of(400, "not found schema")
    send_json(resp, schema)


def send_json(resp: falcon.asgi.Response, value: Any) -> None:
    """A JSON value of any kind, where `json_bytes` takes objects."""
    resp.data = json.dumps(value, separators=(",", ":")).encode()


def subsystem_of(req: falcon.asgi.Request) -> str:
    """The parameter `subsystem`. Raises AdminError 400 for what is none."""
    subsystem = req.get_param("subsystem", default="http")
    if subsystem not in _SUBSYSTEMS:
        raise error_of(400, f"unsupported subsystem: {subsystem}")
    return subsystem
