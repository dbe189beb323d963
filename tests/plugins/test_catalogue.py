"""What is told of the plugins that run."""

from __future__ import annotations

from typing import Any

import pytest

from gw.plugins.api import Plugin
from gw.plugins.catalogue import NO_CATALOGUE, Catalogue
from gw.plugins.registry import Registered, Registry
from gw.schema.installed import InstalledPlugin
from gw.schema.plugin_schemas import PluginSchema, PluginSchemas

OBJECT = {"type": "object"}


def registered(name: str, priority: int, **of_class: Any) -> Registered:
    cls = type("Made", (Plugin,), {"name": name, "priority": priority, **of_class})
    return Registered(InstalledPlugin(name, "somewhere", "Made", "tests", None), cls, ())


def catalogue(*plugins: Registered, **consumer_schemas: PluginSchema) -> Catalogue:
    schemas = {plugin.installed.name: PluginSchema(OBJECT, "a test") for plugin in plugins}
    metadata = {"first": PluginSchema({**OBJECT, "title": "of metadata"}, "a test")}
    return Catalogue(Registry(plugins, {}, PluginSchemas(schemas, metadata, consumer_schemas=consumer_schemas)))


def test_names_are_in_the_order_in_which_plugins_run() -> None:
    made = catalogue(registered("last", -5), registered("first", 10), registered("b", 7), registered("a", 7))
    assert made.names == ("first", "a", "b", "last")
    assert NO_CATALOGUE.names == ()


def test_what_a_plugin_does_not_have_is_not_there() -> None:
    made = catalogue(registered("first", 10), registered("last", 1))
    assert made.all["last"] == {"priority": 1, "version": 0.1, "schema": OBJECT}
    assert made.all["first"]["metadata_schema"]["title"] == "of metadata"


@pytest.mark.parametrize(
    ("of_class", "field", "told"),
    [
        ({"version": "1.2"}, "version", 1.2),
        ({"version": "1.2.3"}, "version", "1.2.3"),
        ({"type": "auth"}, "type", "auth"),
        ({"credential_field": "key"}, "type", "auth"),
        ({"scope": "global"}, "scope", "global"),
    ],
)
def test_facts_of_a_class(of_class: dict[str, Any], field: str, told: object) -> None:
    assert catalogue(registered("mine", 1, **of_class)).all["mine"][field] == told




def test_the_schema_of_consumers_is_told_where_they_have_one_of_their_own() -> None:
    of_consumers = PluginSchema({**OBJECT, "title": "of consumers"}, "a test")
    made = catalogue(registered("mine", 1), registered("other", 2), mine=of_consumers)
    assert made.schema_of("mine", "consumer") == made.all["mine"]["consumer_schema"] == of_consumers.schema
    assert made.schema_of("mine") == OBJECT
    assert made.schema_of("other", "consumer") is None
    assert "consumer_schema" not in made.all["other"]
    with pytest.raises(KeyError):
        made.schema_of("nobody")
