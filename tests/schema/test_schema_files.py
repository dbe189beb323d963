"""The schema files as data: only words that both readers of them know, and nothing that could turn slow or leak."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gw.schema
from gw.schema import schema_names, schema_of
from gw.schema.explain import KEYWORDS
from gw.schema.formats import FORMATS, compile_pattern
from gw.schema.load import load_plugin_meta, load_schema
from gw.schema.plugin_schemas import PluginSchema
from gw.schema.validate import COMBINATIONS

# Open to any member, as in APISIX.
OPEN = {"plugin_metadata", "secrets/vault", "secrets/aws", "secrets/gcp", "secrets/kubernetes"}
SCHEMA_MAPS = ("properties", "patternProperties")
SCHEMA_LISTS = ("allOf", "anyOf", "oneOf")
SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
PLUGIN_FILES = sorted((Path(gw.schema.__file__).parent / "plugins").glob("*.json"))


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(schema, dict):
        return
    yield schema
    for word, value in schema.items():
        inner: list[Any] = []
        if word in SCHEMA_MAPS or word == "dependencies":
            inner = [item for item in value.values() if not isinstance(item, list)]
        elif word in SCHEMA_LISTS:
            inner = value
        elif word in SCHEMAS:
            inner = [value]
        for item in inner:
            yield from subschemas(item)


OF_PLUGINS = {path.name: PluginSchema(json.loads(path.read_text()), path).schema for path in PLUGIN_FILES}
ROOTS = [*map(load_schema, schema_names()), load_plugin_meta(), *OF_PLUGINS.values()]
ALL = [schema for root in ROOTS for schema in subschemas(root)]
PATTERNS = sorted(
    {schema["pattern"] for schema in ALL if "pattern" in schema}
    | {pattern for schema in ALL for pattern in schema.get("patternProperties", ())}
)


def test_only_words_that_can_be_explained_are_used():
    assert {word for schema in ALL for word in schema} <= KEYWORDS


def test_only_formats_that_are_checked_are_used():
    assert {schema["format"] for schema in ALL if "format" in schema} <= set(FORMATS)


@pytest.mark.parametrize("kind", schema_names())
def test_combinations_speak_about_property_names_alone(kind: str):
    schema = load_schema(kind)
    for word in COMBINATIONS & schema.keys():
        for inner in subschemas({word: schema[word]}):
            assert inner.keys() <= COMBINATIONS | {"required"}


@pytest.mark.parametrize("kind", schema_names())
def test_combinations_stand_only_where_they_are_looked_for(kind: str):
    """At the root and at `upstream`: validate takes them out of the compiled check there."""
    schema = load_schema(kind)
    places = [schema, schema["properties"].get("upstream", {})]
    for place in places:
        for name, inner in place["properties"].items() if place else ():
            if name not in ("upstream", "checks", "tls", "cert", "key", "certs", "keys", "client"):
                assert not any(COMBINATIONS & deeper.keys() for deeper in subschemas(inner)), name


@pytest.mark.parametrize("kind", sorted(name for name in schema_names() if name not in OPEN))
def test_unknown_fields_are_refused_by_every_kind(kind: str):
    assert load_schema(kind)["additionalProperties"] is False


def test_schema_of_stands_alone_and_is_a_copy():
    schema = schema_of("routes")
    assert "$ref" not in repr(schema)
    assert schema["properties"]["upstream"]["properties"]["nodes"]["type"] == ["object", "array"]
    schema["properties"].clear()
    assert schema_of("routes")["properties"]


def test_a_kind_without_schema_is_a_mistake_of_the_caller():
    with pytest.raises(KeyError):
        schema_of("route")


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("piece", ["a", "*", ".", " ", ":", "[", "é", "\n", "a."])
def test_no_pattern_explodes(pattern: str, piece: str):
    """An expression with overlapping repeats would not come back from this."""
    compile_pattern(pattern).search(piece * 50_000)
    compile_pattern(pattern).search(piece * 50_000 + "\x00")


@pytest.mark.parametrize("pattern", [pattern for pattern in PATTERNS if pattern.endswith("$")])
def test_no_pattern_overlooks_a_last_newline(pattern: str):
    assert not compile_pattern(pattern).search("a\n")


@pytest.mark.parametrize("name", OF_PLUGINS)
def test_defaults_stand_where_only_one_answer_fills_them_in(name: str):
    """A combination is tried out: what a branch that does not hold has filled in would stay."""
    for schema in subschemas(OF_PLUGINS[name]):
        branches = [inner for word in SCHEMA_LISTS for inner in schema.get(word, ())]
        branches += [schema[word] for word in ("not", "if", "contains") if word in schema]
        assert not any("default" in deeper for branch in branches for deeper in subschemas(branch))
