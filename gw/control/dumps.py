"""`/v1/routes`, `/v1/route/{id}` and their like: what this worker serves, which is not always what the store holds.

Forms and errors as in apisix/control/v1.lua. What a worker is told holds no revisions and no `update_time`
(gw.model.digest), so `createdIndex`, `modifiedIndex` and that field are not here, and neither are APISIX's marks for
itself (`clean_handlers`, `orig_modifiedIndex`). Secrets are hidden (gw.control.masking).
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import falcon
import falcon.asgi

from gw.control.healthcheck import DEFAULT_PREFIX
from gw.control.masking import Masking
from gw.control.streamed import send_array
from gw.model.hosts import is_address
from gw.model.keys import ResourceKey
from gw.model.upstream import read_nodes

log = logging.getLogger(__name__)

# The word in the path for one of a kind. The plural is the kind.
SHOWN: Final = {"routes": "route", "services": "service", "upstreams": "upstream"}
_METADATA: Final = "plugin_metadata"


class Held(Protocol):
    """The part of gw.rebuild.state.ConfigState that is used."""

    def ids(self, kind: str) -> Sequence[list[str]]: ...
    def resource(self, key: ResourceKey) -> Mapping[str, Any] | None: ...


class Dumps:
    """Falcon's resources for all of these paths. `prefix` is that of the keys in the store."""

    def __init__(self, held: Held, masking: Masking, prefix: str = DEFAULT_PREFIX) -> None:
        self._held = held
        self._masking = masking
        self._prefix = prefix

    def add_to(self, app: falcon.asgi.App[Any, Any]) -> None:
        """Serve the paths."""
        for kind, noun in SHOWN.items():
            shown = _OfKind(self, kind, noun)
            app.add_route(f"/v1/{kind}", shown)
            app.add_route(f"/v1/{noun}/{{id}}", shown, suffix="one")
        metadata = _Metadata(self)
        app.add_route("/v1/plugin_metadatas", metadata)
        app.add_route("/v1/plugin_metadata/{id}", metadata, suffix="one")

    async def all(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, resource as it may be shown) of all that there are when this is asked for, by id.

        Each is as it is when its turn comes; what is gone by then is left out.
        """
        parts = self._held.ids(kind)
        for part in parts:
            part.sort()
            # All of 100,000 ids would hold the loop for 60 ms.
            await asyncio.sleep(0)
        return self._found(kind, heapq.merge(*parts))

    def _found(self, kind: str, ids: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        for id in ids:
            found = self.find(kind, id)
            if found is not None:
                yield id, found

    def find(self, kind: str, id: str) -> dict[str, Any] | None:
        """A resource as it may be shown, None when there is none."""
        resource = self._held.resource(ResourceKey(kind, id))
        return None if resource is None else {**self._masking.masked(kind, id, resource), "id": id}

    def item(self, kind: str, id: str, resource: dict[str, Any]) -> dict[str, Any]:
        """A resource in the form of an item."""
        upstream = resource if kind == "upstreams" else resource.get("upstream")
        has_domain = isinstance(upstream, dict) and _list_nodes(upstream)
        return {"key": f"{self._prefix}/{kind}/{id}", "value": resource, "has_domain": has_domain}


class _OfKind:
    """All resources of a kind, and one."""

    def __init__(self, dumps: Dumps, kind: str, noun: str) -> None:
        self._dumps = dumps
        self._kind = kind
        self._noun = noun

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        found = await self._dumps.all(self._kind)
        send_array(resp, (self._dumps.item(self._kind, id, resource) for id, resource in found))

    async def on_get_one(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, id: str) -> None:
        resource = self._dumps.find(self._kind, id)
        if resource is None:
            _answer_not_found(resp, self._noun, id)
        else:
            resp.media = self._dumps.item(self._kind, id, resource)


class _Metadata:
    """Metadata of plugins, which stand without the form of an item."""

    def __init__(self, dumps: Dumps) -> None:
        self._dumps = dumps

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        found = await self._dumps.all(_METADATA)
        send_array(resp, (metadata for _, metadata in found))

    async def on_get_one(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, id: str) -> None:
        metadata = self._dumps.find(_METADATA, id)
        if metadata is None:
            _answer_not_found(resp, "plugin metadata", id)
        else:
            resp.media = metadata


def _answer_not_found(resp: falcon.asgi.Response, noun: str, id: str) -> None:
    resp.status = falcon.HTTP_404
    resp.media = {"error_msg": f"{noun}[{id}] not found"}


def _list_nodes(upstream: dict[str, Any]) -> bool:
    """Put an upstream's nodes into the one form in which APISIX shows them, and tell whether one of them is a name."""
    try:
        nodes = read_nodes(upstream.get("nodes", ()), upstream.get("scheme", "http"))
    except Exception:
        # A resource is shown as it is before it is not shown at all.
        log.debug("the nodes of an upstream cannot be read", exc_info=True)
        return False
    if "nodes" in upstream:
        upstream["nodes"] = [
            {
                "host": node.host,
                **({"port": node.port} if node.port else {}),
                "weight": node.weight,
                **({"priority": node.priority} if node.priority else {}),
            }
            for node in nodes
        ]
    return any(not is_address(node.host) for node in nodes)
