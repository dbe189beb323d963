"""JSON Schema of draft 7, in which our schemas and the plugins' are written, as the draft of OpenAPI 3.1 (2020-12).

The drafts differ in the words below (json-schema.org, release notes of 2019-09 and 2020-12); all others mean the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

# Of the file a schema lies in, and nothing that a client could use.
_LEFT_OUT: Final = frozenset({"$schema", "$comment", "$id", "definitions"})
# Words whose value is data, in which nothing is a schema.
_DATA: Final = frozenset({"default", "const", "enum", "examples", "required", "encrypt_fields"})
# Words whose value holds schemas by names that mean nothing as words.
_BY_NAME: Final = frozenset({"properties", "patternProperties"})


def translated(schema: Any) -> Any:
    """The same schema in the newer draft, as new objects where something changes."""
    if isinstance(schema, list):
        return [translated(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {word: value for old, given in schema.items() for word, value in _word(old, given, schema)}


def _word(word: str, value: Any, beside: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if word in _LEFT_OUT:
        return
    if word in _DATA:
        yield word, value
    elif word in _BY_NAME:
        yield word, {name: translated(each) for name, each in value.items()}
    elif word == "items" and isinstance(value, list):
        yield "prefixItems", translated(value)
    elif word == "additionalItems":
        if isinstance(beside.get("items"), list):
            yield "items", translated(value)
    elif word == "dependencies":
        yield from _dependencies(value)
    else:
        yield word, translated(value)


def _dependencies(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    names = {name: needed for name, needed in value.items() if isinstance(needed, list)}
    schemas = {name: translated(needed) for name, needed in value.items() if not isinstance(needed, list)}
    if names:
        yield "dependentRequired", names
    if schemas:
        yield "dependentSchemas", schemas
