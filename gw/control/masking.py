"""What of a resource is not shown: the control API has no key, so nothing secret may be in any of its answers.

Hidden is what a plugin's schema declares (`encrypt_fields`); and, because not every author declares what should be,
whatever stands under a name that secrets have (an upstream's `client_key`, a header `Authorization`), wherever that is,
and the user part of a URL. What refers to a secret (`$secret://...`) is none. In doubt something is hidden: that makes
an answer poorer, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from gw.schema.plugin_schemas import PluginSchemas

HIDDEN: Final = "***"
_REFERENCES: Final = ("$secret://", "$env://")
# `redis_password`, `X-Api-Key`, `clientSecret`; not `key`, which says on what to count, nor `secret_id`.
_SECRET_NAME: Final = re.compile(
    r"(?:passw(?:or)?d|passphrase|secret|token|credentials?|cookie|authorization|auth[_-]?header"
    r"|(?:private|client|api|access|secret|session|shared|license|encryption)[_-]?key)s?\Z",
    re.IGNORECASE,
)
_USER_IN_URL: Final = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")
# Fields have some hundreds of names; labels and nodes, which are named freely, push each other out.
_MAX_NAMES: Final = 4096
# `Set-Cookie: session=1`, as some plugins write headers.
_HEADER_LINE: Final = re.compile(r"([A-Za-z0-9_-]{1,128}): *(?=\S)")


class Masking:
    """Hides secrets in resources. `schemas` are those of the enabled plugins."""

    def __init__(self, schemas: PluginSchemas) -> None:
        self._schemas = schemas

    def masked(self, kind: str, id: str, resource: Mapping[str, Any]) -> dict[str, Any]:
        """The resource as it may be shown, as new objects."""
        shown: dict[str, Any] = _hide_by_name(dict(resource))
        if kind == "plugin_metadata":
            self._hide_declared(kind, id, shown)
        plugins = shown.get("plugins")
        if isinstance(plugins, dict):
            for name, conf in plugins.items():
                self._hide_declared(kind, name, conf)
        return shown

    def _hide_declared(self, kind: str, plugin: str, conf: Any) -> None:
        schema = self._schemas.schema_for(kind, plugin)
        for path in () if schema is None else schema.encrypt_fields:
            _hide_at(conf, path)


def _hide_by_name(node: Any) -> Any:
    kind = type(node)  # decoded msgpack: of these types alone
    if kind is str:
        return _hide_in_text(node) if ":" in node else node
    if kind is dict:
        return {name: _hide_all(value) if _is_secret(name) else _hide_by_name(value) for name, value in node.items()}
    if kind is list:
        return [_hide_by_name(item) for item in node]
    return node


def _hide_in_text(text: str) -> str:
    header = _HEADER_LINE.match(text)
    if header is not None and _is_secret(header[1]):
        return header[0] + HIDDEN
    return _USER_IN_URL.sub(HIDDEN, text) if "@" in text else text


@lru_cache(_MAX_NAMES)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _hide_at(node: Any, path: tuple[str, ...]) -> None:
    """Hide what stands at the end of a path, which leads through objects and the items of arrays."""
    if isinstance(node, list):
        for item in node:
            _hide_at(item, path)
    elif isinstance(node, dict) and path[0] in node:
        if len(path) == 1:
            node[path[0]] = _hide_all(node[path[0]])
        else:
            _hide_at(node[path[0]], path[1:])


def _hide_all(node: Any) -> Any:
    """Every text and number in it; what is switched on or off, or refers to a secret, stays."""
    if isinstance(node, Mapping):
        return {name: _hide_all(value) for name, value in node.items()}
    if isinstance(node, list):
        return [_hide_all(item) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    return node if isinstance(node, str) and node.lower().startswith(_REFERENCES) else HIDDEN
