"""Which Host a listener that is not for the world answers to.

A web page that points a name of its own at 127.0.0.1 (DNS rebinding) makes a browser send that name; an address,
`localhost`, or the host's own name is what people and probes send.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection
from typing import Any, Final
from urllib.parse import urlsplit

import falcon
import falcon.asgi

from gw import __version__

_REFUSAL: Final = json.dumps({"error_msg": "this Host is not served here: use an IP address, localhost or its name"})


class HostGuard:
    """Falcon middleware: answers 403 to any other Host, and names the server. `names` are the host's own names."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(("localhost", *(name.lower() for name in names)))

    async def process_request(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Refuse, and route no further. An HTTP/1.0 client may name no Host; that is no browser."""
        header = req.get_header("Host")
        if header is not None and not self._is_ours(header):
            resp.status = falcon.HTTP_403
            resp.text = _REFUSAL
            resp.complete = True

    async def process_response(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, resource: Any, req_succeeded: bool
    ) -> None:
        """Mark every answer as ours, not gunicorn's."""
        resp.set_header("Server", f"Jitterway/{__version__}")

    def _is_ours(self, header: str) -> bool:
        try:
            parts = urlsplit(f"//{header}")
            _ = parts.port  # raises for what is no port
        except ValueError:
            return False
        host = parts.hostname
        if host is None or parts.netloc != header or "@" in header:
            return False
        return host in self._names or _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def answer_404(req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **params: Any) -> None:
    """What APISIX answers where nothing is: for an application's sink."""
    if resp is None:  # a WebSocket: refused
        raise falcon.HTTPNotFound
    resp.status = falcon.HTTP_404
    resp.text = json.dumps({"error_msg": "404 Route Not Found"})
