"""What a document of resources holds: one member per kind, a list of items each (APISIX: apisix/core/config_yaml.lua).

    routes:                   kinds by APISIX's plurals, gw.model.keys.KINDS
      - id: 1                 an item without an id is known by its username, else by its place: arr_1
        uri: /hello
    routes_conf_version: 7    means something over HTTP alone (versions.py)
    #END                      of a YAML file

Two parts. `read_document` takes bytes, and refuses a document as a whole: what cannot be read must not pass for an
empty configuration. `resources_of` takes its items apart, and what is wrong with one stays with that one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gw.model.keys import KINDS, ResourceKey, parse_store_key
from gw.schema import parse_json
from gw.settings import Refused
from sync_agent.stores.standalone.variables import resolve
from sync_agent.stores.standalone.yaml_text import parse_yaml

END_MARK: Final = b"#END"
VERSION_SUFFIX: Final = "_conf_version"
# Members of a document that are about the document (METADATA_* in apisix/admin/standalone.lua).
DIGEST: Final = "X-Digest"
LAST_MODIFIED: Final = "X-Last-Modified"
# Decides over HTTP whether an item is a newer one; no resource has such a field.
MODIFIED_INDEX: Final = "modifiedIndex"

# Ids of this kind are names of plugins, and all other members are the plugin's.
_NAMED_BY_PLUGIN: Final = "plugin_metadata"
_CREDENTIALS: Final = "credentials"


class InvalidDocument(ValueError):
    """The document cannot be used, as a whole. Its text names the place and quotes no value."""


@dataclass(frozen=True, slots=True)
class Value:
    """A resource's value in the form of a store, or (`refusal`) why there is none."""

    raw: bytes
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a document comes to: values by store key, and what people should know of the document."""

    values: dict[str, Value]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """An item with its place in the document and the store key of what it says. `item` is as it stands there."""

    kind: str
    index: int
    key: ResourceKey
    item: Any


def read_document(raw: bytes, form: str, limit_bytes: int, *, needs_end: bool = False) -> dict[str, Any]:
    """The document in a text, `form` being yaml or json. Its kinds hold lists, or are absent.

    `needs_end`: a YAML file whose last line does not end with `#END` is still being written, as in APISIX.
    Raises InvalidDocument.
    """
    if len(raw) > limit_bytes:
        raise InvalidDocument(f"is larger than {limit_bytes} bytes (gw.limits.document)")
    if needs_end and not raw.rstrip().endswith(END_MARK):
        raise InvalidDocument("has no #END on its last line, so it is still being written")
    try:
        document = parse_yaml(raw, limit_bytes) if form == "yaml" else parse_json(raw)
    except ValueError as error:
        raise InvalidDocument(str(error)) from None
    checked = check_document(document)
    if form == "yaml":
        _fill_left_out(checked)
    return checked


def check_document(document: Any) -> dict[str, Any]:
    """The document, when it is one: a mapping whose kinds hold lists. Raises InvalidDocument."""
    if not isinstance(document, dict):
        raise InvalidDocument("must hold a mapping of kinds (routes, upstreams, ...), each with a list")
    for name, items in document.items():
        if items is not None and not isinstance(items, list) and _is_list_of_resources(name):
            raise InvalidDocument(f"{name}: must be a list, not {_type_name(items)}")
    return document


def _fill_left_out(document: Mapping[str, Any]) -> None:
    """Put `{}` where YAML has a name and nothing behind it (`key-auth:`), as people write a plugin without settings.

    To lyaml, APISIX's reader, any such nothing is an empty table; here it is where an object is all that can be meant.
    """
    for items in document.values():
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                _fill(item, ("plugins", "labels"))
                plugins = item.get("plugins")
                if isinstance(plugins, dict):
                    _fill(plugins, tuple(plugins))


def _fill(mapping: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        if name in mapping and mapping[name] is None:
            mapping[name] = {}


def resources_of(document: Mapping[str, Any], environ: Mapping[str, str] | None) -> Resources:
    """The resources of a document. `environ` are the variables it may name; None: it may name none.

    Of several items with one id the last one counts, as in APISIX; that, and members that mean nothing, make notes.
    """
    values: dict[str, Value] = {}
    notes: list[str] = []
    for named in named_items(document, notes.append, environ):
        key = str(named.key)
        if key in values:
            notes.append(f"{named.kind}[{named.index}]: {key} stands there more than once; the last one counts")
        values[key] = value_of(named, environ)
    return Resources(values, tuple(notes))


def named_items(
    document: Mapping[str, Any], note: Callable[[str], None], environ: Mapping[str, str] | None = None
) -> Iterator[Named]:
    """The items of all kinds, in the order of the document. `note` is told of members that are not a kind."""
    for name, items in document.items():
        single = parse_store_key(name)
        if single is not None:
            if items is not None:
                yield Named(name, 0, single, items)
        elif _is_list_of_resources(name):
            for index, item in enumerate(items or ()):
                key = _key_of(name, index, item, environ)
                if parse_store_key(str(key)) == key:
                    yield Named(name, index, key, item)
                else:
                    note(f"{name}[{index}]: has no id of its kind, so it is left out")
        elif not _is_about_the_document(name):
            note(f"{name}: is no kind of resource that is served here, and does nothing")


def value_of(named: Named, environ: Mapping[str, str] | None) -> Value:
    """The value that is stored for an item."""
    try:
        item = named.item if environ is None else resolve(named.item, environ)
        return Value(encode_item(named.key, item))
    except Refused as refused:
        return Value(b"", f"{refused.at.removeprefix('.')}: {refused.reason}")
    except (ValueError, TypeError, RecursionError) as error:
        return Value(b"", f"cannot be kept as JSON: {error}")


def encode_item(key: ResourceKey, item: Any) -> bytes:
    """An item as JSON in UTF-8, without what is about the document alone.

    Raises ValueError, TypeError or RecursionError for what JSON cannot carry.
    """
    if isinstance(item, dict):
        without = {MODIFIED_INDEX}
        # The key says it already, and in the value it would mean something else.
        if key.kind == _NAMED_BY_PLUGIN or "/" in str(item.get("id")):
            without.add("id")
        item = {name: value for name, value in item.items() if name not in without}
    return json.dumps(item, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def identity_of(item: Any) -> str | None:
    """What an item calls itself: its id, else its username (APISIX: `item.id or item.username`). None: nothing."""
    if not isinstance(item, dict):
        return None
    for name in ("id", "username"):
        own = item.get(name)
        if isinstance(own, str | int) and not isinstance(own, bool) and own != "":
            return str(own)
    return None


def _key_of(name: str, index: int, item: Any, environ: Mapping[str, str] | None) -> ResourceKey:
    """The key of an item. One that no key can be made of goes by its place, and is refused for its id when judged."""
    own = identity_of(item)
    if own is not None and environ is not None and "${{" in own:
        try:
            own = str(resolve(own, environ))
        except Refused:
            own = None
    key = None if own is None else _key(name, own)
    return key or ResourceKey(_kind(name), f"arr_{index + 1}")


def _is_list_of_resources(name: str) -> bool:
    return (name == _CREDENTIALS and name in KINDS) or parse_store_key(f"{name}/1") is not None


def _key(name: str, id: str) -> ResourceKey | None:
    if name == _CREDENTIALS:  # by themselves, though a store has them below their consumers
        return parse_store_key(str(ResourceKey(name, id.replace(f"/{_CREDENTIALS}/", "/", 1))))
    return parse_store_key(f"{name}/{id}")


def _kind(name: str) -> str:
    """The kind that a member is about; it may be called by its name of APISIX 2.x."""
    key = parse_store_key(f"{name}/1")
    return name if key is None else key.kind


def _is_about_the_document(name: str) -> bool:
    # Members that begin with x- hold what is referred to by aliases.
    return name.endswith(VERSION_SUFFIX) or name.lower().startswith("x-")


def _type_name(value: object) -> str:
    names = {dict: "a mapping", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
