"""What is sent and what is answered, as components of the document: schemas by name.

Of each kind there is what a client sends (`route`), what the store holds (`route.stored`), and the two forms in which
it is answered (`route.item`, `route.list`). What is sent is the kind's own schema, with the schemas of the enabled
plugins where configurations of plugins stand. What is stored may be somebody else's work, of another time, and what is
secret in it may have been taken out: so nothing is required of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from gw.admin.openapi.dialect import translated
from gw.admin.openapi.table import Documented
from gw.plugins.catalogue import Catalogue
from gw.schema import schema_of
from gw.schema.validate import COMBINATIONS

Schema: TypeAlias = dict[str, Any]
# Kept by the gateway; a PUT or POST that sets them is refused.
_MANAGED: Final = ("create_time", "update_time")
# Words that a stored resource is not held to.
_DEMANDS: Final = COMBINATIONS | {"required", "additionalProperties", "if", "then", "else", "dependentRequired"}
# Kinds whose plugins are credentials.
_OF_CONSUMERS: Final = frozenset({"consumers", "credentials"})
_INDEX: Final[Schema] = {"type": "integer", "minimum": 0, "description": "A revision of the store."}


def reference(name: str) -> Schema:
    """What stands in the place of a component's schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas_of(each: Documented) -> Iterator[tuple[str, Schema]]:
    """The components of a kind."""
    schema = translated(schema_of(each.schema))
    yield each.name, _as_sent(each.kind, schema)
    yield f"{each.name}.stored", _as_stored(schema)
    yield f"{each.name}.item", item_of(reference(f"{each.name}.stored"))
    if each.collection is not None:
        yield f"{each.name}.list", list_of(reference(f"{each.name}.item"))


def item_of(value: Schema) -> Schema:
    """The form in which one resource is answered."""
    return {
        "type": "object",
        "required": ["key", "value"],
        "properties": {
            "key": {"type": "string", "description": "The key in the store."},
            "value": value,
            "createdIndex": _INDEX,
            "modifiedIndex": _INDEX,
        },
    }


def list_of(item: Schema) -> Schema:
    """The form in which several are."""
    return {
        "type": "object",
        "required": ["total", "list"],
        "properties": {
            "total": {"type": "integer", "minimum": 0, "description": "How many there are on all pages."},
            "list": {"type": "array", "items": item},
        },
    }


def schemas_of_plugins(plugins: Catalogue) -> Iterator[tuple[str, Schema]]:
    """The components of the enabled plugins, and the two that hold a configuration of each."""
    for form, suffix in (("schema", ""), ("consumer_schema", ".consumer")):
        properties = {}
        for name, facts in plugins.all.items():
            if form in facts:
                properties[name] = reference(f"plugin.{name}{suffix}")
                yield f"plugin.{name}{suffix}", translated(facts[form])
            else:
                properties[name] = reference(f"plugin.{name}")
        yield f"plugins{suffix}", {
            "type": "object",
            "description": "Configurations by the name of the plugin.",
            "properties": properties,
            "additionalProperties": False,
        }


def _as_sent(kind: str, schema: Schema) -> Schema:
    properties = _unmanaged(schema["properties"])
    if "plugins" in properties:
        properties["plugins"] = reference("plugins.consumer" if kind in _OF_CONSUMERS else "plugins")
    upstream = properties.get("upstream")
    if isinstance(upstream, dict) and "properties" in upstream:
        properties["upstream"] = {**upstream, "properties": _unmanaged(upstream["properties"])}
    return {**schema, "properties": properties}


def _as_stored(schema: Schema) -> Schema:
    kept = {word: value for word, value in schema.items() if word not in _DEMANDS}
    if "plugins" in kept.get("properties", {}):
        kept["properties"] = {**kept["properties"], "plugins": {"type": "object"}}
    return kept


def _unmanaged(properties: Mapping[str, Schema]) -> dict[str, Schema]:
    return {name: schema for name, schema in properties.items() if name not in _MANAGED}
