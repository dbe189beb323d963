"""Empty containers: what has nothing in it is an object or an array as its schema has it, whichever was written.

Lua has one empty table for both, so APISIX takes `[]` for an empty object and `{}` for an empty array, and clients send
them so: PHP writes every empty array as `[]`, Lua every empty table as `{}`. Looked for only in what did not fit: valid
resources pay nothing.
"""

from collections.abc import Iterator
from typing import Any

from gw.schema.explain import Schema
from gw.schema.formats import compile_pattern


def settle_empties(schema: Schema, value: Any) -> bool:
    """Replace, inside `value`, each empty container that is of the other kind than its schema's one `type`.

    True when there was one. Alternatives (`anyOf` and the like) are not followed: there either kind may fit.
    """
    is_changed = False
    for step, inner in list(_schemas_below(schema, value)):
        item = value[step]
        if item == [] and inner.get("type") == "object":
            value[step] = {}
            is_changed = True
        elif item == {} and inner.get("type") == "array":
            value[step] = []
            is_changed = True
        elif settle_empties(inner, item):
            is_changed = True
    return is_changed


def _schemas_below(schema: Schema, value: Any) -> Iterator[tuple[Any, Schema]]:
    """Where the members of a container are, and the schema of each that has one."""
    if isinstance(value, dict):
        for name in value:
            inner = _schema_of_member(schema, name)
            if isinstance(inner, dict):
                yield name, inner
    elif isinstance(value, list) and isinstance(inner := schema.get("items"), dict):
        for position in range(len(value)):
            yield position, inner


def _schema_of_member(schema: Schema, name: str) -> Any:
    if name in schema.get("properties", ()):
        return schema["properties"][name]
    for pattern, inner in schema.get("patternProperties", {}).items():
        if compile_pattern(pattern).search(name):
            return inner
    return schema.get("additionalProperties")
