"""`/apisix/admin/configs`: all resources as one document (APISIX's API-driven standalone mode), and its check.

HTTP alone: the text goes to the agent as it came, because to parse a large one would hold up the traffic of a worker.
"""

from __future__ import annotations

from typing import Final

import falcon
import falcon.asgi

from gw.admin import parameters
from gw.admin.agent_client import AgentClient
from gw.admin.body import read_raw
from gw.admin.reply import error_of, json_bytes, raise_for
from gw.admin.resource import UntilServed
from gw.model.operations import Answer, CheckDocument, GetDocument, PutDocument

YAML: Final = "application/yaml"
# Not the standard's Last-Modified, which caches would act on. As in APISIX.
DIGEST_HEADER: Final = "X-Digest"
LAST_MODIFIED_HEADER: Final = "X-Last-Modified"

_EMPTY: Final = "invalid request body: empty request body"
# Clients of APISIX (its own tests among them) ask for a route right behind its document: it is served there within a
# millisecond, here when the jitter is over, 20 ms unless set otherwise. Who puts documents can wait that much longer.
SETTLED_WITHIN_S: Final = 0.1


class Documents:
    """`/apisix/admin/configs`: GET, HEAD and PUT."""

    def __init__(self, client: AgentClient, limit_bytes: int, until_served: UntilServed) -> None:
        self._client = client
        self._limit_bytes = limit_bytes
        self._until_served = until_served

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """The document as it was put, as JSON, or as YAML where Accept begins with it."""
        as_yaml = (req.get_header("Accept") or "").startswith(YAML)
        answer = await self._client.call(GetDocument(as_yaml=as_yaml), _key(req))
        raise_for(answer)
        _describe(resp, answer)
        resp.content_type = YAML if as_yaml else falcon.MEDIA_JSON
        resp.data = answer.items[0].value

    async def on_head(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """What is known of the document, in headers."""
        answer = await self._client.call(GetDocument(only_about=True), _key(req))
        raise_for(answer)
        _describe(resp, answer)

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """A document in the place of the one that stands: 202; 204 for the same; 200 once all workers serve it."""
        digest = req.get_header(DIGEST_HEADER)
        if digest is None:
            raise error_of(400, "missing digest header")
        wait_ms = parameters.wait_ms(req)
        text = await read_raw(req, self._limit_bytes, missing=_EMPTY)
        answer = await self._client.call(PutDocument(text, _is_yaml(req), digest), _key(req))
        raise_for(answer)
        assert answer.about is not None
        if not answer.about["is_new"]:
            resp.status = falcon.HTTP_204
            return
        _describe(resp, answer)
        resp.status = falcon.HTTP_202
        laggards = await self._until_served(answer.revision, wait_ms / 1000 if wait_ms else SETTLED_WITHIN_S)
        if wait_ms and laggards:
            resp.data = json_bytes({"laggards": laggards})
        elif wait_ms:
            resp.status = falcon.HTTP_200


class DocumentChecks:
    """`/apisix/admin/configs/validate`: POST, in every mode. Nothing is stored."""

    def __init__(self, client: AgentClient, limit_bytes: int) -> None:
        self._client = client
        self._limit_bytes = limit_bytes

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """200 for a document that a PUT would take, else 400 with all that is wrong with it."""
        text = await read_raw(req, self._limit_bytes, missing=_EMPTY)
        answer = await self._client.call(CheckDocument(text, _is_yaml(req)), _key(req))
        raise_for(answer)
        assert answer.about is not None
        errors = answer.about["errors"]
        resp.status = falcon.HTTP_400 if errors else falcon.HTTP_200
        resp.data = json_bytes({"error_msg": "Configuration validation failed", "errors": errors} if errors else {})


def _describe(resp: falcon.asgi.Response, answer: Answer) -> None:
    """The headers that tell of the document. There are none before the first."""
    about = answer.about or {}
    if about.get("digest") is not None:
        # As it came, which may be any bytes a header can hold; falcon sends latin-1.
        resp.set_header(DIGEST_HEADER, about["digest"])
        resp.set_header(LAST_MODIFIED_HEADER, str(about["last_modified"]))


def _is_yaml(req: falcon.asgi.Request) -> bool:
    return (req.content_type or "").startswith(YAML)


def _key(req: falcon.asgi.Request) -> str | None:
    return req.get_header("X-API-KEY")
