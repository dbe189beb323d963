"""The document as a whole: how its parts are put together (OpenAPI 3.1.0)."""

from __future__ import annotations

from typing import Any, Final

from gw import __version__
from gw.admin.gate import PREFIX
from gw.admin.openapi.bodies import schemas_of_kind, schemas_of_plugins
from gw.admin.openapi.kinds import paths_of_kind
from gw.admin.openapi.others import other_paths
from gw.admin.openapi.parts import ERROR_SCHEMAS
from gw.model.keys import KINDS
from gw.plugins.catalogue import Catalogue
from gw.schema import kinds

_DESCRIPTION: Final = (
    "Configures routes, services and all that belongs to them, in the forms of Apache APISIX 3.x. Every request "
    "carries a key. Answers to writes say at which revision of the store they were made; `wait` waits until that is "
    "served."
)
_READ_ALONE: Final = frozenset({"plugins"})


def openapi_document(plugins: Catalogue) -> dict[str, Any]:
    """The document, as plain data. Its schemas of plugins are those of `plugins`."""
    documented = documented_kinds()
    schemas = dict(ERROR_SCHEMAS)
    for kind in documented:
        schemas |= schemas_of_kind(kind)
    schemas |= schemas_of_plugins(plugins)
    paths = {path: item for kind in documented for path, item in paths_of_kind(kind, plugins.names)}
    paths |= other_paths(plugins)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Jitterway Admin API", "version": __version__, "description": _DESCRIPTION},
        "servers": [{"url": PREFIX}],
        "security": [{"key": []}],
        "tags": [{"name": name} for name in (*documented, "schemas")],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"}},
            "schemas": schemas,
        },
    }


def documented_kinds() -> tuple[str, ...]:
    """The kinds that have operations of their own. The list of plugins is read, and not put."""
    return tuple(kind for kind in KINDS if kind in kinds() and kind not in _READ_ALONE)
