"""What an operator has this worker do: collect garbage (`POST /v1/gc`), look for other plugins (`PUT
/v1/plugins/reload`). Answers as in apisix/control/v1.lua."""

from __future__ import annotations

import gc
from typing import Any

import falcon
import falcon.asgi

from gw.plugins.reloading import DONE, PluginReload


class Upkeep:
    """Falcon's resource for both paths."""

    def __init__(self, reload: PluginReload) -> None:
        self._reload = reload

    def add_to(self, app: falcon.asgi.App[Any, Any]) -> None:
        """Serve the paths."""
        app.add_route("/v1/gc", self, suffix="gc")
        app.add_route("/v1/plugins/reload", self, suffix="reload")

    async def on_post_gc(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """In the worker that got the request, as there. What lasts is frozen (gw.collector), so it takes no time."""
        gc.collect()
        resp.data = b""

    async def on_put_reload(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """`done` when what is configured is what runs."""
        obstacle = await self._reload.obstacle()
        if obstacle is None:
            resp.content_type = falcon.MEDIA_TEXT
            resp.text = DONE
        else:
            resp.status = falcon.HTTP_409
            resp.media = {"error_msg": obstacle}
