"""The Admin API as a falcon application: the gate, the routes, and what becomes of everything that is raised.

It holds no state but a connection to the agent, and knows neither keys nor the store.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from typing import Any

import falcon
import falcon.asgi

from gw.admin.agent_client import AgentClient
from gw.admin.configs import DocumentChecks, Documents
from gw.admin.forms import FORMS
from gw.admin.gate import PREFIX, Gate
from gw.admin.openapi.resource import Document
from gw.admin.place import locate
from gw.admin.plugins import Plugins
from gw.admin.reply import AdminError, error_of, send_error
from gw.admin.resource import Resources, UntilServed
from gw.admin.schemas import Schemas
from gw.errors import AgentUnavailable
from gw.plugins.catalogue import NO_CATALOGUE, Catalogue
from gw.plugins.reloading import PluginReload
from gw.settings import Settings

log = logging.getLogger(__name__)


def admin_app(
    settings: Settings, client: AgentClient, until_served: UntilServed, plugins: Catalogue = NO_CATALOGUE
) -> falcon.asgi.App[Any, Any]:
    """The application for the admin listener. `client` stays its maker's to close; `until_served` is for `?wait=`.

    `plugins` are those that this worker runs.
    """
    # The host's own name is what administrators type; a page elsewhere cannot make a browser send it for its own.
    host_names = {socket.gethostname(), settings.deployment.admin.listen.ip}
    forms = FORMS[settings.deployment.admin.admin_api_version]
    server = settings.gw.admin.server_header
    app = falcon.asgi.App(middleware=Gate(settings.deployment.admin, client, server, forms.version, host_names))
    app.req_options.strip_url_path_trailing_slash = True
    resources = Resources(client, settings.gw.limits.admin_body_bytes, until_served, forms)
    limit_bytes = settings.gw.limits.document_bytes
    if settings.deployment.takes_documents:
        app.add_route(PREFIX + "/configs", Documents(client, limit_bytes, until_served))
    app.add_route(PREFIX + "/configs/validate", DocumentChecks(client, limit_bytes))
    for template in ("/{kind}", "/{kind}/{id}", "/{kind}/{id}/{path:path}"):
        app.add_route(PREFIX + template, resources)
    Plugins(plugins, PluginReload(settings)).add_to(app, PREFIX)
    Schemas(plugins, settings.gw.limits.admin_body_bytes, allow_code=settings.gw.allow_code).add_to(app, PREFIX)
    Document(plugins).add_to(app, PREFIX)
    app.add_error_handler(Exception, _on_unforeseen)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(AgentUnavailable, _on_agent_away)
    app.add_error_handler(AdminError, _on_admin_error)
    return app


async def _on_admin_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: AdminError, params: dict[str, Any]
) -> None:
    send_error(resp, error)


async def _on_agent_away(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: AgentUnavailable, params: dict[str, Any]
) -> None:
    send_error(resp, error_of(503, str(error)))


async def _on_http_error(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError, params: dict[str, Any]
) -> None:
    """Falcon's own refusals (no such path, no such method, headers it cannot read) in APISIX's form."""
    headers = dict(error.headers or {})
    if error.status_code == 404:
        refusal = error_of(404, "404 Route Not Found")
    elif error.status_code == 405:
        refusal = _wrong_method(req.method, params, headers)
    else:
        refusal = error_of(error.status_code, error.description or error.title or "invalid request", headers)
    send_error(resp, refusal)


def _wrong_method(method: str, params: dict[str, Any], headers: dict[str, str]) -> AdminError:
    """Falcon knows what a handler can do; which of it is for this kind, the place knows where there is one."""
    noun = "resource"
    with contextlib.suppress(TypeError):  # the path is of another handler, with segments of other names
        try:
            place = locate(**params)
            noun = place.noun
            place.refuse_unsupported(method)
        except AdminError as refusal:
            return refusal
    return error_of(405, f"not supported `{method}` method for {noun}", headers)


async def _on_unforeseen(
    req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, params: dict[str, Any]
) -> None:
    log.error("an admin request failed in a way that was not foreseen", exc_info=error)
    send_error(resp, error_of(500, "internal error, see the log"))
