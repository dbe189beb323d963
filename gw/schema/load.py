"""Read the JSON Schemas that lie beside this module, with every `$ref` written out.

The files are data: field names, limits and defaults, once each. `$ref` names a file of this folder and a place in it
(`definitions.json#/host`); words beside it (`default`, `description`) are added to what it names. References are
written out here, so that nothing is ever fetched and a schema handed to a client stands alone.
"""

import json
from functools import cache
from importlib import resources
from typing import Any, Final

# The file of each kind, under APISIX's plural as it stands in a store key.
FILES: Final = {
    "routes": "route.json",
    "services": "service.json",
    "upstreams": "upstream.json",
    "plugin_configs": "plugin_config.json",
    "global_rules": "global_rule.json",
    "plugin_metadata": "plugin_metadata.json",
}
# What each plugin's schema gets as its property `_meta`.
PLUGIN_META: Final = "plugin_meta.json"


@cache
def load_schema(kind: str) -> dict[str, Any]:
    """The schema of a kind, standing alone. Shared by all callers: not to be changed.

    Raises KeyError for a kind that has no schema.
    """
    schema: dict[str, Any] = _written_out(_read(FILES[kind]))
    return schema


@cache
def load_plugin_meta() -> dict[str, Any]:
    """The schema of `_meta` in a plugin's configuration. Shared by all callers: not to be changed."""
    schema: dict[str, Any] = _written_out(_read(PLUGIN_META))
    return schema


@cache
def _read(name: str) -> Any:
    return json.loads(resources.files("gw.schema").joinpath(name).read_text(encoding="utf-8"))


def _written_out(node: Any) -> Any:
    if isinstance(node, list):
        return [_written_out(item) for item in node]
    if not isinstance(node, dict):
        return node
    beside = {word: _written_out(value) for word, value in node.items() if word != "$ref"}
    if "$ref" not in node:
        return beside
    name, _, place = node["$ref"].partition("#/")
    target = _read(name)
    for step in filter(None, place.split("/")):
        target = target[step]
    return {**_written_out(target), **beside}
