"""The control API: what this host's gateway knows of itself, for its operator. Nothing of it changes what is served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, Protocol

import falcon
import falcon.asgi

from gw.control.guard import HostGuard, answer_404

# The table of `gw status --json`.
Convergence = Callable[[], Awaitable[dict[str, Any]]]


class Part(Protocol):
    """Some paths of the control API."""

    def add_to(self, app: falcon.asgi.App[Any, Any]) -> None:
        """Serve the paths."""
        ...


def control_app(
    convergence: Convergence, host_names: Collection[str] = (), parts: Iterable[Part] = ()
) -> falcon.asgi.App[Any, Any]:
    """The application for the control listener. `host_names` are the names that `Host` may hold besides localhost."""
    app = falcon.asgi.App(middleware=HostGuard(host_names))
    app.req_options.strip_url_path_trailing_slash = True
    app.add_route("/v1/convergence", _Convergence(convergence))
    for part in parts:
        part.add_to(app)
    app.add_sink(answer_404, "/")
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    return app


async def _on_http_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    """Falcon's own refusals, in APISIX's form."""
    resp.status = error.status
    resp.media = {"error_msg": error.description or error.title or "invalid request"}
    resp.set_headers(dict(error.headers or {}))
    if error.status_code == 405:
        resp.media = {"error_msg": f"no {req.method} here"}


class _Convergence:
    """Which worker serves which version."""

    def __init__(self, convergence: Convergence) -> None:
        self._convergence = convergence

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = await self._convergence()
