"""The metrics listener: what Prometheus scrapes, at one path. Everything else is 404, as in APISIX."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

import falcon.asgi

from gw.control.guard import HostGuard, answer_404
from gw.metrics.expose import OPENMETRICS, PLAIN, exposition
from gw.metrics.host_view import HostView

# As Prometheus asks for them; the first is what a client gets that asks for neither.
_FORMS: Final = {
    "text/plain; version=0.0.4": PLAIN,
    "application/openmetrics-text; version=1.0.0": OPENMETRICS,
}


def metrics_app(
    view: Callable[[], HostView], *, path: str, prefix: str, host_names: Collection[str] = ()
) -> falcon.asgi.App[Any, Any]:
    """The application for the metrics listener. `host_names` are the names that `Host` may hold besides localhost."""
    app = falcon.asgi.App(middleware=HostGuard(host_names))
    # A sink and no route: the path is the operator's text, not a template, and another method is 404 and not 405.
    app.add_sink(_Metrics(view, path, prefix).answer, "/")
    return app


class _Metrics:
    """The metrics at `path`."""

    def __init__(self, view: Callable[[], HostView], path: str, prefix: str) -> None:
        self._view = view
        self._path = path
        self._prefix = prefix

    async def answer(self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **params: Any) -> None:
        if resp is None or req.method != "GET" or req.path != self._path:
            await answer_404(req, resp)
            return
        form = req.client_prefers(tuple(_FORMS))
        resp.content_type = PLAIN if form is None else _FORMS[form]
        pieces = []
        for piece in exposition(self._view(), self._prefix, resp.content_type):
            pieces.append(piece)
            await asyncio.sleep(0)
        resp.data = b"".join(pieces)
