"""One falcon resource for every kind: HTTP in, operation out, answer back. Decides nothing about resources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import falcon.asgi

from gw.admin import parameters
from gw.admin.agent_client import AgentClient
from gw.admin.body import read_json
from gw.admin.forms import Forms, Laggards
from gw.admin.place import Place, locate
from gw.admin.reply import error_of, raise_for
from gw.model.operations import Answer, Create, Delete, Get, List, Operation, Patch, Put

# (a revision of the store, seconds) -> the workers of this host that do not serve it; nobody as soon as all of them do
UntilServed: TypeAlias = Callable[[int, float], Awaitable[Laggards]]

_MISSING_BODY: Final = "missing configurations"
_MISSING_PATCH: Final = "missing new configuration"


class Resources:
    """`/apisix/admin/{kind}`, `.../{kind}/{id}` and `.../{kind}/{id}/{path}`; `place` says what a path names.

    The gate has let the caller in; the key goes along all the same, and the agent checks it for the operation.
    """

    def __init__(
        self, client: AgentClient, body_limit_bytes: int, until_served: UntilServed, forms: Forms
    ) -> None:
        self._client = client
        self._body_limit_bytes = body_limit_bytes
        self._until_served = until_served
        self._forms = forms

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **segments: str) -> None:
        """One resource, or those of a kind: all, or a page of them."""
        place = _place(req, segments)
        if place.id is None:
            wanted = self._listing(req, place)
            self._forms.send_list(resp, wanted, await self._ask(req, wanted))
        else:
            self._forms.send_item(resp, await self._ask(req, Get(place.kind, place.id)))

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **segments: str) -> None:
        """A new resource, under an id that is made for it: ids are not asked for. As APISIX answers."""
        place = _place(req, segments)
        if place.id is not None:
            raise error_of(400, f"wrong {place.noun} id, do not need it")
        operation = Create(place.kind, await self._body(req, _MISSING_BODY), parameters.ttl_s(req))
        await self._write(req, resp, operation)

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **segments: str) -> None:
        """A resource as a whole, new or not. Without an id in the path, it stands in the body."""
        place = _place(req, segments)
        body = await self._body(req, _MISSING_BODY)
        await self._write(req, resp, Put(place.kind, place.id, body, parameters.ttl_s(req), parent=place.parent))

    async def on_patch(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **segments: str) -> None:
        """A change, merged into the resource, or put in the place of a part of it."""
        place = _place(req, segments)
        id = _id_of(place)
        body = await self._body(req, _MISSING_PATCH)
        await self._write(req, resp, Patch(place.kind, id, body, place.sub_path, parameters.ttl_s(req)))

    async def on_delete(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **segments: str) -> None:
        """Remove a resource."""
        place = _place(req, segments)
        await self._write(req, resp, Delete(place.kind, _id_of(place), parameters.force(req)))

    async def on_options(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, **segments: str) -> None:
        """Which methods there are."""
        resp.set_header("Allow", ", ".join(locate(**segments).methods))

    def _listing(self, req: falcon.asgi.Request, place: Place) -> List:
        if self._forms.pages:
            return parameters.listing(req, place.kind, place.parent)
        return List(place.kind, parent=place.parent)

    async def _body(self, req: falcon.asgi.Request, missing: str) -> Any:
        return await read_json(req, self._body_limit_bytes, missing=missing)

    async def _write(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, operation: Operation) -> None:
        """Do it and answer; with `?wait=`, tell who does not serve it when the time is over."""
        wait_ms = parameters.wait_ms(req)  # first: what is refused has not been written
        answer = await self._ask(req, operation)
        laggards = () if wait_ms is None else await self._until_served(answer.revision, wait_ms / 1000)
        self._forms.send_written(resp, operation, answer, laggards)

    async def _ask(self, req: falcon.asgi.Request, operation: Operation) -> Answer:
        try:
            answer = await self._client.call(operation, req.get_header("X-API-KEY"))
        except (ValueError, OverflowError, TypeError) as error:
            raise error_of(400, f"invalid configuration: {error}") from None
        raise_for(answer)
        return answer


def _place(req: falcon.asgi.Request, segments: dict[str, str]) -> Place:
    place = locate(**segments)
    place.refuse_unsupported(req.method)
    return place


def _id_of(place: Place) -> str:
    """Raises AdminError 400 where none is named. As APISIX answers."""
    if place.id is None:
        # Where the path begins with the manager APISIX looks for more of it.
        raise error_of(400, "no secret id" if place.kind == "secrets" else f"missing {place.noun} id")
    return place.id
