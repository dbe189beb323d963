"""The control API: what this host's gateway knows of itself, for its operator. Read-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import falcon.asgi

from gw.control.guard import HostGuard, answer_404
from gw.control.healthcheck import Healthchecks

# The table of `gw status --json`.
Convergence = Callable[[], Awaitable[dict[str, Any]]]


def control_app(
    convergence: Convergence, host_names: Collection[str] = (), healthchecks: Healthchecks | None = None
) -> falcon.asgi.App[Any, Any]:
    """The application for the control listener. `host_names` are the names that `Host` may hold besides localhost."""
    app = falcon.asgi.App(middleware=HostGuard(host_names))
    app.add_route("/v1/convergence", _Convergence(convergence))
    if healthchecks is not None:
        healthchecks.add_to(app)
    app.add_sink(answer_404, "/")
    return app


class _Convergence:
    """Which worker serves which version."""

    def __init__(self, convergence: Convergence) -> None:
        self._convergence = convergence

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = await self._convergence()
