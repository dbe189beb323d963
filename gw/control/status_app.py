"""The status listener: `/status`, and `/status/ready` for probes, in APISIX's forms (docs, status-api)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, Protocol

import falcon.asgi

from gw.control.guard import HostGuard, answer_404
from gw.shm.layout import Cell, CellState

_OK: Final = {"status": "ok"}


class Table(Protocol):
    """The part of gw.shm.cells.WorkerTable that is used."""

    @property
    def expected(self) -> int: ...
    def live(self) -> Any: ...


def status_app(table: Table, host_names: Collection[str] = ()) -> falcon.asgi.App[Any, Any]:
    """The application for the status listener. `host_names` are the names that `Host` may hold besides localhost."""
    app = falcon.asgi.App(middleware=HostGuard(host_names))
    app.add_route("/status", _Status())
    app.add_route("/status/ready", _Ready(table))
    app.add_sink(answer_404, "/")
    return app


def readiness_problem(expected: int, live: Collection[tuple[int, Cell]]) -> str | None:
    """Why the gateway is not ready, in APISIX's words; None when as many workers as expected hold a configuration.

    A worker that drains takes nothing new, so it does not count. During a reload there are more than expected, and
    those that hold nothing yet are no reason to keep traffic from the others.
    """
    working = [(index, cell) for index, cell in live if cell.state is not CellState.DRAINING]
    if len(working) < expected or not working:
        return f"worker count: {expected} but status report count: {len(working)}"
    unconfigured = [index for index, cell in working if not cell.version]
    if len(working) - len(unconfigured) < max(expected, 1):
        return f"worker id: {unconfigured[0]} has not received configuration"
    return None


class _Status:
    """This worker answers: that is all there is to say."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.media = _OK


class _Ready:
    """Whether all workers do."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        problem = readiness_problem(self._table.expected, list(self._table.live()))
        resp.media = _OK if problem is None else {"status": "error", "error": problem}
        resp.status = falcon.HTTP_200 if problem is None else falcon.HTTP_503
