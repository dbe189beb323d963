"""One falcon resource for every kind: HTTP in, operation out, answer back. Decides nothing about resources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import falcon.asgi

from gw.admin import parameters
from gw.admin.agent_client import AgentClient
from gw.admin.body import read_json
from gw.admin.reply import Laggards, error_of, raise_for, send_deleted, send_item, send_list
from gw.model.keys import KINDS
from gw.model.operations import NOUNS, UNSUPPORTED, Answer, Create, Delete, Get, Operation, Patch, Put

# (a revision of the store, seconds) -> the workers of this host that do not serve it; nobody as soon as all of them do
UntilServed: TypeAlias = Callable[[int, float], Awaitable[Laggards]]

_MISSING_BODY = "missing configurations"
_MISSING_PATCH = "missing new configuration"


class Resources:
    """`/apisix/admin/{kind}`, `.../{kind}/{id}` and (PATCH alone) `.../{kind}/{id}/{path}`.

    The gate has let the caller in; the key goes along all the same, and the agent checks it for the operation.
    """

    def __init__(self, client: AgentClient, body_limit_bytes: int, until_served: UntilServed) -> None:
        self._client = client
        self._body_limit_bytes = body_limit_bytes
        self._until_served = until_served

    async def on_get_collection(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        """All resources of a kind, or a page of them."""
        _noun(kind)
        send_list(resp, await self._ask(req, parameters.listing(req, kind)))

    async def on_post_collection(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        """A new resource, under an id that is made for it."""
        _refuse_unsupported(req, kind, Create)
        body = await read_json(req, self._body_limit_bytes, missing=_MISSING_BODY)
        send_item(resp, *await self._write(req, Create(kind, body, parameters.ttl_s(req))))

    async def on_put_collection(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        """A resource whose id stands in its body."""
        _noun(kind)
        body = await read_json(req, self._body_limit_bytes, missing=_MISSING_BODY)
        send_item(resp, *await self._write(req, Put(kind, None, body, parameters.ttl_s(req))))

    async def on_patch_collection(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        """Which one? As APISIX answers."""
        _refuse_unsupported(req, kind, Patch)
        raise error_of(400, f"missing {_noun(kind)} id")

    async def on_delete_collection(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str) -> None:
        """Which one? As APISIX answers."""
        raise error_of(400, f"missing {_noun(kind)} id")

    async def on_get_item(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str) -> None:
        """One resource."""
        _noun(kind)
        send_item(resp, await self._ask(req, Get(kind, id)))

    async def on_put_item(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str) -> None:
        """A resource as a whole, new or not."""
        _noun(kind)
        body = await read_json(req, self._body_limit_bytes, missing=_MISSING_BODY)
        send_item(resp, *await self._write(req, Put(kind, id, body, parameters.ttl_s(req))))

    async def on_post_item(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str) -> None:
        """Ids of new resources are made, not asked for. As APISIX answers."""
        _refuse_unsupported(req, kind, Create)
        raise error_of(400, f"wrong {_noun(kind)} id, do not need it")

    async def on_patch_item(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str) -> None:
        """A change, merged into the resource."""
        await self._patch(req, resp, kind, id, ())

    async def on_delete_item(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str) -> None:
        """Remove a resource."""
        _noun(kind)
        send_deleted(resp, *await self._write(req, Delete(kind, id, parameters.force(req))))

    async def on_patch_part(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str, path: str
    ) -> None:
        """A new value for one part of the resource."""
        await self._patch(req, resp, kind, id, tuple(path.split("/")))

    async def _patch(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, kind: str, id: str, sub_path: tuple[str, ...]
    ) -> None:
        _refuse_unsupported(req, kind, Patch)
        body = await read_json(req, self._body_limit_bytes, missing=_MISSING_PATCH)
        send_item(resp, *await self._write(req, Patch(kind, id, body, sub_path, parameters.ttl_s(req))))

    async def _write(self, req: falcon.asgi.Request, operation: Operation) -> tuple[Answer, Laggards]:
        """The answer, and with `?wait=` who does not serve it when the time is over."""
        wait_ms = parameters.wait_ms(req)  # first: what is refused has not been written
        answer = await self._ask(req, operation)
        return answer, () if wait_ms is None else await self._until_served(answer.revision, wait_ms / 1000)

    async def _ask(self, req: falcon.asgi.Request, operation: Operation) -> Answer:
        try:
            answer = await self._client.call(operation, req.get_header("X-API-KEY"))
        except (ValueError, OverflowError, TypeError) as error:
            raise error_of(400, f"invalid configuration: {error}") from None
        raise_for(answer)
        return answer


def _noun(kind: str) -> str:
    """The word for one of this kind. Raises AdminError 404 for a kind there is not."""
    if kind not in KINDS:
        raise error_of(404, f"Unsupported resource type: {kind}")
    return NOUNS[kind]


def _refuse_unsupported(req: falcon.asgi.Request, kind: str, operation: type[Create | Patch]) -> None:
    """Raises AdminError 405 for what cannot be done with a kind, 404 for a kind there is not."""
    noun = _noun(kind)
    if operation.op in UNSUPPORTED.get(kind, ()):
        raise error_of(405, f"not supported `{req.method}` method for {noun}")
