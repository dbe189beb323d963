"""The document as a whole: how its parts are put together (OpenAPI 3.1.0)."""

from __future__ import annotations

from typing import Any, Final

from gw import __version__
from gw.admin.gate import PREFIX
from gw.admin.openapi.bodies import schemas_of, schemas_of_plugins
from gw.admin.openapi.documents import TAG, paths_of_documents
from gw.admin.openapi.kinds import paths_of
from gw.admin.openapi.others import other_paths
from gw.admin.openapi.parts import ERROR_SCHEMAS
from gw.admin.openapi.table import documented
from gw.plugins.catalogue import Catalogue

_DESCRIPTION: Final = (
    "Configures routes, services and all that belongs to them, in the forms of Apache APISIX 3.x. Every request "
    "carries a key. Answers to writes say at which revision of the store they were made; `wait` waits until that is "
    "served. The forms of answers are those of `admin_api_version: v3`."
)


def openapi_document(plugins: Catalogue) -> dict[str, Any]:
    """The document, as plain data. Its schemas of plugins are those of `plugins`."""
    table = documented(plugins.names)
    schemas = dict(ERROR_SCHEMAS)
    for each in table:
        schemas |= schemas_of(each)
    schemas |= schemas_of_plugins(plugins)
    paths = {path: item for each in table for path, item in paths_of(each)}
    paths |= paths_of_documents()
    paths |= other_paths(plugins)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jitterway Admin API", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": PREFIX}],
        "security": [{"key": []}],
        "tags": [{"name": name} for name in dict.fromkeys([*(each.kind for each in table), TAG, "schemas"])],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"}},
            "schemas": schemas,
        },
    }
