"""What plugins ask of their configurations: the schemas of those that are enabled, and the check against them.

A configuration is an object under the plugin's name; `_meta` in it is the same for all plugins, and added to each
schema. The words of a refusal are APISIX's (check_single_plugin_schema in apisix/plugin.lua). A plugin whose schema
cannot be used counts as one that is not there: nobody can say what a configuration of it means.

`encrypt_fields` at the top of a schema names, as in APISIX, the fields that are stored encrypted: dotted paths, through
objects and the items of arrays. What stands at the end of one is a text, or an array or object of texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import fastjsonschema

from gw.schema.compiled import Check, compile_check
from gw.schema.explain import Complaint, Schema, explain
from gw.schema.expressions import expression_complaint
from gw.schema.installed import InstalledPlugin, choose_plugins, installed_plugins
from gw.schema.load import load_plugin_meta
from gw.schema.plugin_rules import own_words, rule_complaint
from gw.schema.referring import holds_reference, referring
from gw.schema.wording import bare, quote_value

FINGERPRINT_BYTES: Final = 32
# Kinds whose field `plugins` holds configurations of plugins.
HOLDERS: Final = frozenset(
    {
        "routes",
        "services",
        "consumers",
        "consumer_groups",
        "credentials",
        "global_rules",
        "plugin_configs",
        "stream_routes",
    }
)
# Of these kinds APISIX says so (apisix/admin/consumers.lua, credentials.lua).
_BEFORE_REASONS: Final = dict.fromkeys(("consumers", "credentials"), "invalid plugins configuration: ")
# Of a plugin_metadata resource, and no part of what the plugin gets.
_STORE_FIELDS: Final = ("id", "create_time", "update_time")
_ANY_METADATA: Final[Schema] = {"type": "object"}
_DRAFT_7: Final = "http://json-schema.org/draft-07/schema"
# Kinds whose plugins are credentials, with a schema of their own where the plugin has one (TYPE_CONSUMER in APISIX).
_OF_CONSUMERS: Final = frozenset({"consumers", "credentials"})
# How APISIX marks a schema that `_meta` was added to (plugin_injected_schema in apisix/schema_def.lua).
_MARK: Final = "this is a mark for our injected plugin schema"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
# A field that no answer and no error may show; a word of draft 7, and an annotation there.
_HIDDEN: Final = "writeOnly"


class UnusableSchema(ValueError):
    """A schema file is missing or no schema. Its text says which, and why."""


class PluginSchema:
    """The schema of one plugin's configurations, or of its metadata, ready to check with."""

    def __init__(self, schema: Schema, source: object, *, is_sound: bool = False) -> None:
        """`source` is for the error. Raises UnusableSchema.

        One that is known to be sound is compiled when it is first used: that takes 12 ms, most of an agent's start.
        """
        try:
            self.encrypt_fields = _encrypt_fields(schema)
            self.schema: dict[str, Any] = _written_out(schema, schema, ())
            _mark_secrets(self.schema, {path[-1] for path in self.encrypt_fields})
            if not is_sound:
                self._check  # noqa: B018 - compiled now
        except UnusableSchema as error:
            raise UnusableSchema(f"{source}: {error}") from None
        except Exception as error:  # fastjsonschema lets through whatever a wrong schema trips it over
            raise UnusableSchema(f"{source} is not a JSON Schema of draft 7: {error}") from None

    @cached_property
    def _check(self) -> Check:
        return compile_check(self.schema, knows_const=True)

    @cached_property
    def _of_references(self) -> tuple[Schema, Check]:
        schema = referring(self.schema)
        return schema, compile_check(schema, knows_const=True)

    def own_complaint(self, value: dict[str, Any]) -> Complaint | None:
        """What is wrong with values as they are. Defaults are filled into them."""
        return _complaint(self.schema, self._check, value)

    def complaint(self, value: dict[str, Any]) -> Complaint | None:
        """What is wrong with a configuration, whatever its references name. Defaults are filled into it."""
        complaint = self.own_complaint(value)
        if complaint is not None and holds_reference(value):
            complaint = _complaint(*self._of_references, value)
        return complaint


def _complaint(schema: Schema, check: Check, value: dict[str, Any]) -> Complaint | None:
    try:
        check(value)
    except fastjsonschema.JsonSchemaException as failure:
        return explain(schema, value) or Complaint((), bare(str(failure)))
    return None


class PluginSchemas:
    """The schemas of the plugins in use. `problems` names the enabled ones that are not among them, and why.

    `fingerprint` is another one whenever a schema or the choice of plugins is, so whenever it matters to a judgement.
    """

    def __init__(
        self,
        schemas: Mapping[str, PluginSchema],
        metadata_schemas: Mapping[str, PluginSchema] | None = None,
        problems: Mapping[str, str] | None = None,
        *,
        consumer_schemas: Mapping[str, PluginSchema] | None = None,
    ) -> None:
        self._schemas = schemas
        self._metadata_schemas = metadata_schemas or {}
        self._consumer_schemas = consumer_schemas or {}
        self.problems: Mapping[str, str] = problems or {}
        self.fingerprint = _fingerprint(self._schemas, self._metadata_schemas, self._consumer_schemas)

    @property
    def names(self) -> frozenset[str]:
        """The plugins whose configurations can be checked."""
        return frozenset(self._schemas)

    def schema_of(self, name: str) -> Schema:
        """A plugin's schema, with `_meta`, standing alone: not to be changed. Raises KeyError."""
        return self._schemas[name].schema

    def schema_for(self, kind: str, name: str) -> PluginSchema | None:
        """The schema of what a resource of this kind has for a plugin; None for a plugin that is not among these.

        In consumers and credentials that is the consumer schema where there is one, as in APISIX; for plugin_metadata
        the one of the metadata, None where there is none.
        """
        if kind == "plugin_metadata":
            return self._metadata_schemas.get(name)
        if kind in _OF_CONSUMERS and name in self._schemas and name in self._consumer_schemas:
            return self._consumer_schemas[name]
        return self._schemas.get(name)

    def complaint(self, kind: str, id: str, resource: dict[str, Any], *, refuse_unknown: bool) -> Complaint | None:
        """What is wrong with the plugins of a resource that fits its own schema. Defaults are filled into it."""
        if kind == "plugin_metadata":
            return self._metadata_complaint(id, resource, refuse_unknown=refuse_unknown)
        if kind not in HOLDERS:
            return None
        for name, conf in resource.get("plugins", {}).items():
            if misfit := _misfit(kind, name, conf, quotes=refuse_unknown):
                return misfit
            schema = self.schema_for(kind, name)
            if schema is None:
                if refuse_unknown:
                    reason = f"{_BEFORE_REASONS.get(kind, '')}unknown plugin [{bare(name)}]"
                    return Complaint(("plugins", name), reason, stands_alone=True)
            elif refuse_unknown and kind == "credentials" and name not in self._consumer_schemas:
                reason = "only supports auth type plugins in consumer credential"
                return Complaint(("plugins", name), reason, stands_alone=True)
            elif complaint := _conf_complaint(name, conf, schema, refuse_unknown=refuse_unknown):
                reason = _BEFORE_REASONS.get(kind, "") + complaint.reason
                return Complaint(("plugins", name, *complaint.place), reason, stands_alone=True)
            elif refuse_unknown and (complaint := _filter_complaint(conf)):
                # APISIX's words name no plugin: where there are several it would not be clear whose filter is meant.
                named = f" (plugin {name})" if len(resource["plugins"]) > 1 else ""
                reason = f"{_BEFORE_REASONS.get(kind, '')}{complaint.reason}{named}"
                return Complaint(("plugins", name, *complaint.place), reason, stands_alone=True)
        return None

    def _metadata_complaint(self, name: str, resource: dict[str, Any], *, refuse_unknown: bool) -> Complaint | None:
        if name not in self._schemas:
            return Complaint(("id",), "invalid plugin name", stands_alone=True) if refuse_unknown else None
        schema = self._metadata_schemas.get(name)
        if schema is None:
            return None
        metadata = {field: value for field, value in resource.items() if field not in _STORE_FIELDS}
        complaint = schema.own_complaint(metadata)
        resource.update(metadata)
        return complaint


def _misfit(kind: str, name: str, conf: object, *, quotes: bool) -> Complaint | None:
    """What is wrong with a member of `plugins`, whatever plugin it is of.

    With `quotes` the value is shown, as in APISIX: to whoever sent it, and in no log, since it may be a secret.
    """
    if not isinstance(conf, dict):
        shown = f" {quote_value(conf)}" if quotes else ""
        reason = f"invalid plugin conf{shown} for plugin [{bare(name)}]"
    elif _CONTROL.search(name):
        reason = f"invalid plugin name [{bare(name)}]: control characters"
    else:
        return None
    return Complaint(("plugins", name), _BEFORE_REASONS.get(kind, "") + reason, stands_alone=True)


def _conf_complaint(
    name: str, conf: dict[str, Any], schema: PluginSchema, *, refuse_unknown: bool
) -> Complaint | None:
    """What is wrong with one configuration. Defaults are filled into it."""
    complaint = schema.complaint(conf)
    if complaint is not None:
        complaint = complaint._replace(reason=own_words(name, conf) or complaint.reason)
    elif refuse_unknown and not holds_reference(conf):
        complaint = rule_complaint(name, conf)
    if complaint is None:
        return None
    return complaint._replace(reason=f"failed to check the configuration of plugin {name} err: {complaint.reason}")


def _filter_complaint(conf: Mapping[str, Any]) -> Complaint | None:
    """What is wrong with `_meta.filter` of a configuration that fits its schema."""
    meta = conf.get("_meta", {})
    return expression_complaint(("_meta", "filter"), meta["filter"]) if "filter" in meta else None


def load_plugin_schemas(
    enabled: Sequence[str], installed: Iterable[InstalledPlugin] | None = None
) -> PluginSchemas:
    """The schemas of the enabled plugins, from the files of their packages; no code of theirs is run.

    `installed` is for whoever has looked already. Raises ConfigError as `choose_plugins`.
    """
    chosen = choose_plugins(enabled, installed_plugins() if installed is None else installed)
    schemas: dict[str, PluginSchema] = {}
    beside: dict[str, dict[str, PluginSchema]] = {"metadata": {}, "consumer": {}}
    problems = {name: "is not installed" for name in enabled if name not in chosen}
    for name, plugin in chosen.items():
        try:
            # The tests compile all of ours.
            schema = _with_meta(_read(_place(plugin)), plugin.schema_path, is_sound=plugin.is_ours)
            for path, found, finish in (
                (plugin.metadata_schema_path, beside["metadata"], PluginSchema),
                (plugin.consumer_schema_path, beside["consumer"], _with_meta),
            ):
                assert path is not None, "it lies beside the schema"
                if path.is_file():
                    found[name] = finish(_read(path), path, is_sound=plugin.is_ours)
            schemas[name] = schema
        except UnusableSchema as error:
            problems[name] = f"({plugin}) has no schema that can be used: {error}"
    return PluginSchemas(schemas, beside["metadata"], problems, consumer_schemas=beside["consumer"])


def _place(plugin: InstalledPlugin) -> Path:
    if plugin.schema_path is None:
        raise UnusableSchema(
            "its name must be letters, digits, - and _, and its module must be there and lie in a package, with "
            f"schemas/{bare(plugin.name)}.json beside it"
        )
    return plugin.schema_path


def _read(path: Path) -> Schema:
    try:
        schema = json.loads(path.read_bytes())
    except OSError as error:
        raise UnusableSchema(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UnusableSchema(f"{path} is not JSON: {error}") from None
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        raise UnusableSchema(f"{path} must be the schema of an object")
    if not str(schema.get("$schema", _DRAFT_7)).startswith(_DRAFT_7):
        raise UnusableSchema(f"{path} is of another draft than 7")
    return {"type": "object"} | schema


def _with_meta(schema: Schema, source: object, *, is_sound: bool = False) -> PluginSchema:
    properties = schema.get("properties", {})
    if not isinstance(properties, dict) or "_meta" in properties:
        raise UnusableSchema(f"{source}: its properties must be an object without _meta, which is added to each plugin")
    schema = {**schema, "$comment": _MARK, "properties": {**properties, "_meta": load_plugin_meta()}}
    return PluginSchema(schema, source, is_sound=is_sound)


def _encrypt_fields(schema: Schema) -> tuple[tuple[str, ...], ...]:
    """The paths of the fields that are stored encrypted, in steps."""
    written = schema.get("encrypt_fields", [])
    paths = [tuple(path.split(".")) for path in written if isinstance(path, str)] if isinstance(written, list) else []
    if not isinstance(written, list) or len(paths) != len(written) or not all(all(path) for path in paths):
        raise UnusableSchema("its encrypt_fields must be an array of paths such as `password` or `auth.password`")
    return tuple(paths)


def _mark_secrets(node: Any, names: Collection[str]) -> None:
    """Mark what is declared under one of these names, wherever it is: one too many only makes an error poorer."""
    if isinstance(node, list):
        for item in node:
            _mark_secrets(item, names)
    if not isinstance(node, dict) or not names:
        return
    for name, declared in node.get("properties", {}).items():
        if name in names:
            _mark_all(declared)
    for value in node.values():
        _mark_secrets(value, names)


def _mark_all(node: Any) -> None:
    """Mark a schema and all that stand in it: the texts in an array or object of secrets are secrets, too."""
    if isinstance(node, list):
        for item in node:
            _mark_all(item)
    elif isinstance(node, dict):
        node[_HIDDEN] = True
        for value in list(node.values()):
            _mark_all(value)


def _written_out(node: Any, root: Schema, within: tuple[str, ...]) -> Any:
    """The schema with each `$ref` (within the same file; nothing is ever fetched) replaced by what it names.

    Words beside it are added to that, as in our own files.
    """
    if isinstance(node, list):
        return [_written_out(item, root, within) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    # What is defined apart stands where it is used.
    left_out = {"$ref"} if isinstance(reference, str) else {"definitions"} if node is root else set()
    beside = {word: _written_out(value, root, within) for word, value in node.items() if word not in left_out}
    if not isinstance(reference, str):
        return beside
    if reference in within:
        raise UnusableSchema(f"$ref {reference} leads back to itself")
    target = _written_out(_target(reference, root), root, (*within, reference))
    return {**target, **beside} if isinstance(target, dict) else target


def _target(reference: str, root: Schema) -> Any:
    place, _, path = reference.partition("#")
    target: Any = root
    for step in filter(None, path.split("/")):
        target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
    if place or target is None:
        raise UnusableSchema(f"$ref {reference} names nothing in this file")
    return target


def _fingerprint(*groups: Mapping[str, PluginSchema]) -> bytes:
    seen = blake2b(digest_size=FINGERPRINT_BYTES)
    for part in _parts(groups):
        seen.update(f"{len(part)}\0".encode() + part)
    return seen.digest()


def _parts(groups: Iterable[Mapping[str, PluginSchema]]) -> Iterator[bytes]:
    for group in groups:
        yield b"group"
        for name in sorted(group):
            yield name.encode()
            yield json.dumps(group[name].schema, sort_keys=True).encode()


# Of whoever checks resources and leaves their plugins alone.
NO_PLUGINS: Final = PluginSchemas({})
