"""`/apisix/admin/schema/{name}`, `.../schema/plugins/{name}` and `.../schema/validate/{kind}`.

Sources: apisix/admin/schema.lua, `schema_validate` in apisix/admin/init.lua. They come from the files of `gw.schema`:
no store is asked. `validate` checks what a PUT would, but for what depends on other resources: also the rules between
fields and the plugins' configurations, where APISIX has the schema's word alone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import falcon.asgi

from gw.admin.body import read_json
from gw.admin.plugins import send_json, send_plugin_schema, subsystem_of
from gw.admin.reply import error_of
from gw.errors import InvalidResource
from gw.model.keys import KINDS, ResourceKey, credential_key
from gw.plugins.catalogue import Catalogue
from gw.schema import NO_PLUGINS, published_schema, published_schemas, validate

# Of a resource that does not say its own: any that fits would do, and none is remembered.
_SOME_ID: Final = "1"
# One of secrets depends on the manager, which no path and no field names; the list of plugins is nobody's to write.
JUDGED: Final = tuple(kind for kind in KINDS if kind not in ("secrets", "plugins"))


class Schemas:
    """Falcon's resource for all of these paths. `allow_code` is the setting, which decides what a PUT would take."""

    def __init__(self, plugins: Catalogue, body_limit_bytes: int, *, allow_code: bool = False) -> None:
        self._plugins = plugins
        self._body_limit_bytes = body_limit_bytes
        self._allow_code = allow_code
        self._kinds = published_schemas()

    def add_to(self, app: falcon.asgi.App[Any, Any], prefix: str) -> None:
        """Serve the paths."""
        app.add_route(f"{prefix}/schema/{{name}}", self, suffix="one")
        app.add_route(f"{prefix}/schema/plugins/{{name}}", self, suffix="plugin")
        app.add_route(f"{prefix}/schema/validate/{{kind}}", self, suffix="validate")

    async def on_get_one(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        """The schema of a kind; of a plugin, where no kind has the name."""
        subsystem_of(req)  # a wrong one is refused, also where it means nothing
        kind = self._kinds.get(name)
        if kind is None:
            send_plugin_schema(req, resp, self._plugins, name)
        else:
            send_json(resp, published_schema(kind))

    async def on_get_plugin(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        """As `/apisix/admin/plugins/{name}`."""
        send_plugin_schema(req, resp, self._plugins, name)

    async def on_post_validate(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        """200 without a body for a resource that is valid."""
        if kind not in JUDGED:
            raise error_of(404, f"Unsupported resource type: {kind}")
        resource = await read_json(req, self._body_limit_bytes, missing="missing configurations")
        # In a thread: the first check of a kind compiles its schema, some 50 ms that requests need not wait for.
        complaint = await asyncio.to_thread(self._complaint, kind, resource)
        if complaint is not None:
            raise error_of(400, complaint)
        resp.data = b""

    def _complaint(self, kind: str, resource: Any) -> str | None:
        id = _id_of(kind, resource)
        # Whose metadata it is only the id says.
        names_plugin = kind != "plugin_metadata" or id is not None
        plugins = self._plugins.schemas if names_plugin else NO_PLUGINS
        key = credential_key(_SOME_ID, id or _SOME_ID) if kind == "credentials" else ResourceKey(kind, id or _SOME_ID)
        try:
            validate(*key, resource, plugins, refuse_unknown=names_plugin, allow_code=self._allow_code)
        except InvalidResource as invalid:
            return invalid.reason
        except (ValueError, OverflowError, TypeError) as error:
            return str(error)
        return None


def _id_of(kind: str, resource: Any) -> str | None:
    """What a resource says that it is called, None where it does not."""
    id = resource.get("username" if kind == "consumers" else "id") if isinstance(resource, dict) else None
    return str(id) if type(id) in (str, int) else None
