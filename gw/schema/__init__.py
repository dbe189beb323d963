"""JSON Schemas of the data model and of plugins, and the check of resources against them."""

from gw.schema.json_text import parse_json
from gw.schema.plugin_schemas import NO_PLUGINS, PluginSchemas, load_plugin_schemas
from gw.schema.published import published_key_schemas, published_schema, published_schemas
from gw.schema.validate import check_id, schema_names, schema_of, validate

__all__ = [
    "NO_PLUGINS",
    "PluginSchemas",
    "check_id",
    "load_plugin_schemas",
    "parse_json",
    "published_key_schemas",
    "published_schema",
    "published_schemas",
    "schema_names",
    "schema_of",
    "validate",
]
