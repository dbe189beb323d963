"""Why a value does not fit a schema, and where: in the words of APISIX's jsonschema (api7/jsonschema 0.9.12).

The compiled validators only say no; this walks schema and value side by side to say why. It runs for invalid values
alone, so it is written to be read. It knows draft 7 but for annotations and formats that we do not check (KEYWORDS; a
test keeps our own schemas to those), and nothing is filled in or changed. Both must agree on what is valid; a test with
random resources holds them together.

The order of checks is that of APISIX: type, properties, array, string, number, enum, combinations.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from gw.schema.formats import FORMATS, compile_pattern
from gw.schema.wording import Place, bare, quote, reason_at

Schema: TypeAlias = Mapping[str, Any]


class Complaint(NamedTuple):
    """What is wrong: the innermost place at which a value misses its schema, and the reason with that place in it.

    `stands_alone`: APISIX's Admin API answers with this reason alone, without "invalid configuration: " before it.
    """

    place: Place
    reason: str
    stands_alone: bool = False


# Words that make no demand. `encrypt_fields` is APISIX's; a value whose schema is `writeOnly` is never quoted.
# `x-alternatives`: APISIX writes this schema as `anyOf`, and says of whatever fits none of it no more than that. What
# is one rule here can be checked and told apart faster; only the words are to be the same.
ANNOTATIONS: Final = frozenset(
    {"$schema", "$comment", "title", "description", "default", "writeOnly", "encrypt_fields", "x-alternatives"}
)
_NO_ALTERNATIVE: Final = "object matches none of the required"


def explain(schema: Schema | bool, value: Any) -> Complaint | None:
    """The first complaint about a value, None when it fits. `value` is what JSON can hold, and bounded in depth."""
    if isinstance(schema, bool):
        return None if schema else Complaint((), "expect false always")
    for word, check in _CHECKS:
        if word in schema:
            for complaint in check(schema, value):
                # One type is asked for before the alternatives, several are alternatives.
                is_one_type = word == "type" and isinstance(schema["type"], str)
                if "x-alternatives" in schema and not is_one_type:
                    return complaint._replace(reason=_NO_ALTERNATIVE)
                return complaint
    return None


def _type(schema: Schema, value: Any) -> Iterator[Complaint]:
    wanted = schema["type"]
    names = [wanted] if isinstance(wanted, str) else wanted
    if not any(_is_of(name, value) for name in names):
        text = wanted if isinstance(wanted, str) else "one of " + ", ".join(names)
        yield Complaint((), f"wrong type: expected {text}, got {lua_type(value)}")


def _is_of(name: str, value: Any) -> bool:
    match name:
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, _PYTHON_TYPES[name])


_PYTHON_TYPES: Final[Mapping[str, type]] = {
    "string": str, "boolean": bool, "object": dict, "array": list,
    "null": type(None),
}


def lua_type(value: Any) -> str:
    """The type's name as Lua has it, since clients know the texts: objects and arrays are both tables."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case _:
            return "table"


def _properties(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, dict):
        for name, inner in schema["properties"].items():
            if name in value and (complaint := explain(inner, value[name])):
                yield Complaint((name, *complaint.place), reason_at((name,), complaint.reason))


def _required(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, dict):
        for name in schema["required"]:
            if name not in value:
                yield Complaint((), f'property "{name}" is required')


def _dependencies(schema: Schema, value: Any) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        return
    for name, needed in schema["dependencies"].items():
        if name not in value:
            continue
        if isinstance(needed, list):
            missing = [other for other in needed if other not in value]
            if missing:
                yield Complaint((), f'property "{missing[0]}" is required when "{name}" is set')
        elif complaint := explain(needed, value):
            yield Complaint(complaint.place, f'failed to validate dependent schema for "{name}": {complaint.reason}')


def _pattern_properties(schema: Schema, value: Any) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        for pattern, inner in schema["patternProperties"].items():
            if compile_pattern(pattern).search(name) and (complaint := explain(inner, item)):
                reason = f"failed to validate {bare(name)} (matching {quote(pattern)}): {complaint.reason}"
                yield Complaint((name, *complaint.place), reason)


def _additional_properties(schema: Schema, value: Any) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        return
    patterns = [compile_pattern(pattern) for pattern in schema.get("patternProperties", ())]
    inner = schema["additionalProperties"]
    for name, item in value.items():
        if name in schema.get("properties", ()) or any(pattern.search(name) for pattern in patterns):
            continue
        if inner is False:
            yield Complaint((name,), f"additional properties forbidden, found {bare(name)}")
        elif complaint := explain(inner, item):
            reason = f"failed to validate additional property {bare(name)}: {complaint.reason}"
            yield Complaint((name, *complaint.place), reason)


def _property_names(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, dict):
        for name in value:
            if complaint := explain(schema["propertyNames"], name):
                yield Complaint((name,), f"property name {quote(name)} will not do: {complaint.reason}")


def _min_properties(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, dict) and len(value) < schema["minProperties"]:
        yield Complaint((), f"expect object to have at least {schema['minProperties']} properties")


def _max_properties(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, dict) and len(value) > schema["maxProperties"]:
        yield Complaint((), f"expect object to have at most {schema['maxProperties']} properties")


def _min_items(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, list) and len(value) < schema["minItems"]:
        yield Complaint((), f"expect array to have at least {schema['minItems']} items")


def _max_items(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, list) and len(value) > schema["maxItems"]:
        yield Complaint((), f"expect array to have at most {schema['maxItems']} items")


def _items(schema: Schema, value: Any) -> Iterator[Complaint]:
    if not isinstance(value, list):
        return
    inner = schema["items"]
    listed, further = (inner, schema.get("additionalItems", True)) if isinstance(inner, list) else ([], inner)
    for position, item in enumerate(value):
        if complaint := explain(listed[position] if position < len(listed) else further, item):
            yield Complaint((position, *complaint.place), reason_at((position,), complaint.reason))


def _contains(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, list) and all(explain(schema["contains"], item) for item in value):
        yield Complaint((), "failed to check contains")


def _unique_items(schema: Schema, value: Any) -> Iterator[Complaint]:
    if schema["uniqueItems"] and isinstance(value, list):
        seen: dict[str, int] = {}
        for position, item in enumerate(value):
            first = seen.setdefault(json.dumps(item, sort_keys=True), position)
            if first != position:
                reason = f"expected unique items but items {first + 1} and {position + 1} are equal"
                yield Complaint((), reason)


def _min_length(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, str) and len(value) < schema["minLength"]:
        yield Complaint((), f"string too short, expected at least {schema['minLength']}, got {len(value)}")


def _max_length(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, str) and len(value) > schema["maxLength"]:
        yield Complaint((), f"string too long, expected at most {schema['maxLength']}, got {len(value)}")


def _pattern(schema: Schema, value: Any) -> Iterator[Complaint]:
    if isinstance(value, str) and not compile_pattern(schema["pattern"]).search(value):
        yield Complaint((), f"failed to match pattern {json.dumps(schema['pattern'])} with {_shown(schema, value)}")


def _shown(schema: Schema, value: str) -> str:
    return "(a secret)" if schema.get("writeOnly") else quote(value)


def _format(schema: Schema, value: Any) -> Iterator[Complaint]:
    name, check = FORMATS.get(schema["format"], ("", None))
    if check is not None and isinstance(value, str) and not check(value):
        shown = "(a secret)" if schema.get("writeOnly") else bare(value)
        yield Complaint((), f"expect valid {name} but got: {shown}")


def _minimum(schema: Schema, value: Any) -> Iterator[Complaint]:
    if _is_of("number", value) and value < schema["minimum"]:
        yield Complaint((), f"expected {value} to be at least {schema['minimum']}")


def _exclusive_minimum(schema: Schema, value: Any) -> Iterator[Complaint]:
    if _is_of("number", value) and value <= schema["exclusiveMinimum"]:
        yield Complaint((), f"expected {value} to be greater than {schema['exclusiveMinimum']}")


def _maximum(schema: Schema, value: Any) -> Iterator[Complaint]:
    if _is_of("number", value) and value > schema["maximum"]:
        yield Complaint((), f"expected {value} to be at most {schema['maximum']}")


def _exclusive_maximum(schema: Schema, value: Any) -> Iterator[Complaint]:
    if _is_of("number", value) and value >= schema["exclusiveMaximum"]:
        yield Complaint((), f"expected {value} to be smaller than {schema['exclusiveMaximum']}")


def _multiple_of(schema: Schema, value: Any) -> Iterator[Complaint]:
    if _is_of("number", value) and value / schema["multipleOf"] % 1:
        yield Complaint((), f"expected {value} to be a multiple of {schema['multipleOf']}")


def _enum(schema: Schema, value: Any) -> Iterator[Complaint]:
    if not any(type(value) is type(item) and value == item for item in schema["enum"]):
        yield Complaint((), "matches none of the enum values")


def _const(schema: Schema, value: Any) -> Iterator[Complaint]:
    if type(value) is not type(schema["const"]) or value != schema["const"]:
        yield Complaint((), "failed to check const value")


def _all_of(schema: Schema, value: Any) -> Iterator[Complaint]:
    for number, inner in enumerate(schema["allOf"], start=1):
        if complaint := explain(inner, value):
            yield Complaint(complaint.place, f"allOf {number} failed: {complaint.reason}")


def _any_of(schema: Schema, value: Any) -> Iterator[Complaint]:
    if all(explain(inner, value) for inner in schema["anyOf"]):
        objects = [inner for inner in schema["anyOf"] if isinstance(inner, dict)]
        listed = (json.dumps(inner["required"], separators=(",", ":")) for inner in objects if "required" in inner)
        required = " or ".join(listed)
        yield Complaint((), f"{_NO_ALTERNATIVE}{': ' if required else ''}{required}")


def _one_of(schema: Schema, value: Any) -> Iterator[Complaint]:
    matched = _matching(schema["oneOf"], value)
    if not matched:
        yield Complaint((), "value should match only one schema, but matches none")
    elif len(matched) > 1:
        numbers = f"{matched[0]} and {matched[1]}"
        yield Complaint((), f"value should match only one schema, but matches both schemas {numbers}")


def _matching(schemas: Sequence[Schema], value: Any) -> list[int]:
    return [number for number, inner in enumerate(schemas, start=1) if explain(inner, value) is None]


def _not(schema: Schema, value: Any) -> Iterator[Complaint]:
    if explain(schema["not"], value) is None:
        yield Complaint((), "value wasn't supposed to match schema")


def _if(schema: Schema, value: Any) -> Iterator[Complaint]:
    clause = "else" if explain(schema["if"], value) else "then"
    if complaint := explain(schema.get(clause, True), value):
        yield Complaint(complaint.place, f"{clause} clause did not match")


_CHECKS: Final = (
    ("type", _type),
    ("properties", _properties),
    ("required", _required),
    ("dependencies", _dependencies),
    ("patternProperties", _pattern_properties),
    ("additionalProperties", _additional_properties),
    ("propertyNames", _property_names),
    ("minProperties", _min_properties),
    ("maxProperties", _max_properties),
    ("minItems", _min_items),
    ("maxItems", _max_items),
    ("items", _items),
    ("contains", _contains),
    ("uniqueItems", _unique_items),
    ("minLength", _min_length),
    ("maxLength", _max_length),
    ("pattern", _pattern),
    ("format", _format),
    ("minimum", _minimum),
    ("exclusiveMinimum", _exclusive_minimum),
    ("maximum", _maximum),
    ("exclusiveMaximum", _exclusive_maximum),
    ("multipleOf", _multiple_of),
    ("enum", _enum),
    ("const", _const),
    ("allOf", _all_of),
    ("anyOf", _any_of),
    ("oneOf", _one_of),
    ("not", _not),
    ("if", _if),
)

# The last three are read with the words that they stand beside.
KEYWORDS: Final = ANNOTATIONS | {word for word, _ in _CHECKS} | {"additionalItems", "then", "else"}
