"""The enabled plugins as the Admin API, the control API and the OpenAPI document show them.

Forms and names are those of `get_all` in apisix/plugin.lua and of apisix/admin/plugins.lua. Made once per worker: what
is enabled, and with which schema, does not change while a worker lives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gw.plugins.api import Plugin
from gw.plugins.registry import Registered, Registry
from gw.schema.explain import Schema
from gw.schema.plugin_schemas import PluginSchema, PluginSchemas

# Of a plugin that runs without a schema, as tests make them.
_ANY: Final[Schema] = {"type": "object"}


class Catalogue:
    """What there is to tell of the plugins that can be run; nothing in it is to be changed.

    `names` are in the order in which they run, `schemas` are those that configurations are checked against.
    """

    def __init__(self, registry: Registry) -> None:
        self.schemas: PluginSchemas = registry.schemas
        self._facts = {plugin.installed.name: _facts(plugin, registry.schemas) for plugin in registry.plugins}
        self.names = tuple(self._facts)

    @property
    def all(self) -> Mapping[str, Mapping[str, Any]]:
        """By name: priority, version, schema; and where it has them metadata_schema, consumer_schema, type, scope."""
        return self._facts

    def schema_of(self, name: str, schema_type: str | None = None) -> Schema | None:
        """The schema of configurations, or with the type `consumer` of a consumer's; None when it has no such schema.

        Raises KeyError for a plugin that is not enabled or cannot be run.
        """
        facts = self._facts[name]
        return facts.get("consumer_schema") if schema_type == "consumer" else facts["schema"]


def _facts(plugin: Registered, schemas: PluginSchemas) -> Mapping[str, Any]:
    name, cls = plugin.installed.name, plugin.cls
    own, of_consumers = schemas.schema_for("routes", name), schemas.schema_for("consumers", name)
    optional = {
        "metadata_schema": _schema(schemas.schema_for("plugin_metadata", name)),
        "consumer_schema": None if of_consumers is own else _schema(of_consumers),
        "type": getattr(cls, "type", None) or _type(cls),
        "scope": getattr(cls, "scope", None),
    }
    return {
        "priority": cls.priority,
        "version": _version(cls.version),
        "schema": _schema(own) or _ANY,
        **{field: value for field, value in optional.items() if value is not None},
    }


def _type(cls: type[Plugin]) -> str | None:
    """A plugin that finds consumers by what they show is one of authentication."""
    return "auth" if getattr(cls, "credential_field", None) is not None else None


def _schema(schema: PluginSchema | None) -> Schema | None:
    return None if schema is None else schema.schema


def _version(text: str) -> float | str:
    """APISIX's versions are numbers; one with more than two parts stays a text."""
    try:
        return float(text)
    except ValueError:
        return text


NO_CATALOGUE: Final = Catalogue(Registry((), {}))
