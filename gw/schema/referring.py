"""Schemas of plugins for configurations with references (`$env://NAME`, `$secret://...`) in the place of values.

What a reference names is known where the plugin runs, so that no demand on a value can be made of it before: neither a
pattern nor a type. It is there, however, where something must be. As in APISIX since apisix/apisix 13312; the worker
asks the plugin's own schema once the values are known (gw/plugins/resolving.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gw.model.secret_references import is_reference

_REFERENCE: Final = {"type": "string", "pattern": "^\\$(?:[Ee][Nn][Vv]|secret)://"}
# Not of the plugin: nobody resolves what stands in it.
_META: Final = "_meta"
# Where a word holds schemas of members; and where schemas of the same value, which may speak of members in turn. What
# stands under `if` and `not` asks what is there, so a reference is the text that it is.
_BY_NAME: Final = frozenset({"properties", "patternProperties"})
_OF_THE_SAME: Final = frozenset({"allOf", "anyOf", "oneOf"})
_BRANCHES: Final = frozenset({"then", "else"})


def holds_reference(value: Any) -> bool:
    """Whether a text in this JSON value, however deep, is a reference."""
    if isinstance(value, str):
        return is_reference(value)
    members = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(holds_reference(member) for member in members)


def referring(schema: Any) -> Any:
    """The schema of an object, with references allowed as values of its members."""
    if not isinstance(schema, dict):
        return schema
    return {word: _word(word, demand) for word, demand in schema.items()}


def _word(word: str, demand: Any) -> Any:
    if word in _BY_NAME:
        return {name: inner if name == _META else _member(inner) for name, inner in demand.items()}
    if word in _OF_THE_SAME:
        return [referring(inner) for inner in demand]
    if word in _BRANCHES:
        return referring(demand)
    if word == "dependencies":
        return {name: referring(inner) for name, inner in demand.items()}
    if word in ("additionalProperties", "items"):
        return [_member(inner) for inner in demand] if isinstance(demand, list) else _member(demand)
    return demand


def _member(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    beside = {word: schema[word] for word in ("default", "writeOnly") if word in schema}
    return {**beside, "anyOf": [_REFERENCE, referring(schema)]}
