"""What gunicorn loads: `gunicorn -c conf/gunicorn.conf.py gw.app:app`.

Imported in each worker, after the fork. `app` itself holds nothing: GatewayWorker starts what serves, and hands each
listener the application of its role.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from gw.server.asgi_types import Receive, Scope, Send
from gw.server.lifecycle import Gateway, running_gateway
from gw.server.worker import Assignment


class GatewayApp:
    """The traffic application as an ASGI callable; it serves under GatewayWorker alone, which calls `started`."""

    def started(self, assignment: Assignment) -> AbstractAsyncContextManager[Gateway]:
        """Everything one worker runs, from entering to leaving."""
        return running_gateway(assignment)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("gw.app:app needs the worker class that conf/gunicorn.conf.py sets")


app = GatewayApp()
