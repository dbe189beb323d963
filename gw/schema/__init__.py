"""JSON Schemas of the data model, and the check of resources against them."""

from gw.schema.json_text import parse_json
from gw.schema.validate import kinds, schema_of, validate

__all__ = ["kinds", "parse_json", "schema_of", "validate"]
