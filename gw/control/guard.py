"""What guards the listeners that are not for the world: control and status. See `gw.settings.own_host` for why."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

import falcon
import falcon.asgi

from gw import __version__
from gw.settings.own_host import OwnHosts, host_of_header

_REFUSAL: Final = json.dumps({"error_msg": "this Host is not served here: use an IP address, localhost or its name"})


class HostGuard:
    """Falcon middleware: answers 403 to any other Host, and names the server. `names` are the host's own names."""

    def __init__(self, names: Collection[str]) -> None:
        self._ours = OwnHosts(names)

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Refuse, and route no further. An HTTP/1.0 client may name no Host; that is no browser."""
        header = req.get_header("Host")
        if header is None:
            return
        host = host_of_header(header)
        if host is None or host not in self._ours:
            resp.status = falcon.HTTP_403
            resp.text = _REFUSAL
            resp.complete = True

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Mark every answer as ours, not gunicorn's."""
        resp.set_header("Server", f"Jitterway/{__version__}")


async def answer_404(req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **params: Any) -> None:
    """What APISIX answers where nothing is: for an application's sink."""
    if resp is None:  # a WebSocket: refused
        raise falcon.HTTPNotFound
    resp.status = falcon.HTTP_404
    resp.text = json.dumps({"error_msg": "404 Route Not Found"})
