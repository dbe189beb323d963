"""Read the JSON Schemas that lie beside this module, with every `$ref` written out.

The files are data: field names, limits and defaults, once each. `$ref` names a file of this folder and a place in it
(`definitions.json#/host`); words beside it (`default`, `description`) are added to what it names. References are
written out here, so that nothing is ever fetched and a schema handed to a client stands alone.
"""

import json
from functools import cache
from importlib import resources
from typing import Any, Final

# The file of each kind, under APISIX's plural as it stands in a store key. Of secrets each manager has one of its own.
FILES: Final = {
    "routes": "route.json",
    "services": "service.json",
    "upstreams": "upstream.json",
    "consumers": "consumer.json",
    "consumer_groups": "consumer_group.json",
    "credentials": "credential.json",
    "global_rules": "global_rule.json",
    "plugin_configs": "plugin_config.json",
    "plugin_metadata": "plugin_metadata.json",
    "plugins": "plugins.json",
    "ssls": "ssl.json",
    "protos": "proto.json",
    "secrets/vault": "secret_vault.json",
    "secrets/aws": "secret_aws.json",
    "secrets/gcp": "secret_gcp.json",
    "secrets/kubernetes": "secret_kubernetes.json",
    "stream_routes": "stream_route.json",
}
DEFINITIONS: Final = "definitions.json"
# What each plugin's schema gets as its property `_meta`.
PLUGIN_META: Final = "plugin_meta.json"


def schema_name(kind: str, id: str) -> str:
    """The name in FILES of the schema for a resource: that of a secret goes by its manager."""
    return f"{kind}/{id.partition('/')[0]}" if kind == "secrets" else kind


@cache
def load_schema(name: str) -> dict[str, Any]:
    """The schema of a kind (of a manager's secrets: `secrets/vault`), standing alone. Shared by all callers: not to be
    changed.

    Raises KeyError for a name that has no schema.
    """
    schema: dict[str, Any] = _written_out(_read(FILES[name]))
    return schema


@cache
def load_definition(name: str) -> dict[str, Any]:
    """A shape that several kinds share, standing alone. Shared by all callers: not to be changed."""
    schema: dict[str, Any] = _written_out(_read(DEFINITIONS)[name])
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
