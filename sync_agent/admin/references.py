"""Which resources refer to which, and the questions that follow: is what is named there, and is it still named?

And does a global rule have a plugin to itself? All are asked of the store as it stands, never of what is published. The
answers hold only while no other write comes
between, which the caller sees to for this host; a writer on another host, or past the Admin API, is not stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gw.model.keys import ResourceKey, parse_store_key
from gw.model.operations import NOUNS
from sync_agent.admin.stored import StoredValueError, parse_stored
from sync_agent.stores.base import Store


@dataclass(frozen=True, slots=True)
class _ReferenceField:
    """A field that names a resource of another kind. `noun` is the word for that kind in APISIX's messages."""

    field: str
    kind: str
    noun: str


_UPSTREAM: Final = _ReferenceField("upstream_id", "upstreams", "upstream")
# In the order in which APISIX checks them, so that of several missing ones the same is named.
_FIELDS: Final[Mapping[str, tuple[_ReferenceField, ...]]] = {
    "routes": (
        _UPSTREAM,
        _ReferenceField("service_id", "services", "service"),
        _ReferenceField("plugin_config_id", "plugin_configs", "plugin config"),
    ),
    "services": (_UPSTREAM,),
    "upstreams": (),
    "plugin_configs": (),
    "global_rules": (),
    "plugin_metadata": (),
}
# Kinds that others refer to, with the word that APISIX puts after "this service" alone.
_REFUSALS: Final[Mapping[str, str]] = {
    "services": "can not delete this service directly,",
    "upstreams": "can not delete this upstream,",
    "plugin_configs": "can not delete this plugin config,",
}


def depends_on_others(kind: str, value: Mapping[str, Any]) -> bool:
    """Do other resources decide whether this one may be written?"""
    return kind == "global_rules" or any(True for _ in _named_by(kind, value))


def can_be_referred_to(kind: str) -> bool:
    """May other resources name one of this kind?"""
    return kind in _REFUSALS


async def find_missing(store: Store, kind: str, value: Mapping[str, Any]) -> str | None:
    """The first resource that `value` names and the store lacks, in APISIX's words; None when all are there."""
    for reference, id in _named_by(kind, value):
        found, _ = await store.get(f"{reference.kind}/{id}")
        if found is None:
            noun = reference.noun
            return f"failed to fetch {noun} info by {noun} id [{id}], response code: 404"
    return None


async def find_conflict(store: Store, key: ResourceKey, value: Mapping[str, Any]) -> str | None:
    """The first plugin of a global rule that another global rule has, too, in the words of newer APISIX 3.x.

    None when there is none, and for every other kind. Reads the whole store.
    """
    if key.kind != "global_rules":
        return None
    async with contextlib.aclosing(store.list()) as pages:
        async for page in pages:
            for kv in page.items:
                other = parse_store_key(kv.key)
                if other is None or other.kind != key.kind or other == key:
                    continue
                with contextlib.suppress(StoredValueError):
                    shared = _plugin_names(parse_stored(kv.value)) & _plugin_names(value)
                    for name in sorted(shared):
                        return f"plugin '{name}' already exists in global rule with id '{other.id}'"
    return None


async def find_user(store: Store, kind: str, id: str) -> str | None:
    """Why this resource cannot be deleted: the first one (routes before services) that still names it. None: none does.

    Reads the whole store.
    """
    async with contextlib.aclosing(store.list()) as pages:
        async for page in pages:
            for kv in page.items:
                key = parse_store_key(kv.key)
                if key is None or key.kind not in _FIELDS:
                    continue
                with contextlib.suppress(StoredValueError):
                    use = _use_of(kind, id, key.kind, parse_stored(kv.value))
                    if use:
                        return f"{_REFUSALS[kind]} {use} [{key.id}] is still using it now"
    return None


def _use_of(kind: str, id: str, user_kind: str, user: Mapping[str, Any]) -> str | None:
    """How `user` names the resource: `route`, `service`, `plugin in route`; None when it does not."""
    if any(reference.kind == kind and named == id for reference, named in _named_by(user_kind, user)):
        return NOUNS[user_kind]
    if kind == "upstreams" and id in _split_to(user):
        return f"plugin in {NOUNS[user_kind]}"
    return None


def _named_by(kind: str, value: Mapping[str, Any]) -> Iterator[tuple[_ReferenceField, str]]:
    for reference in _FIELDS[kind]:
        id = value.get(reference.field)
        if id is not None:
            yield reference, str(id)


def _plugin_names(value: Mapping[str, Any]) -> set[str]:
    plugins = value.get("plugins")
    return set(plugins) if isinstance(plugins, dict) else set()


def _split_to(value: Mapping[str, Any]) -> set[str]:
    """Upstreams that the traffic-split plugin of a resource names. Other shapes than the plugin's name none."""
    named = set()
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        for rule in value["plugins"]["traffic-split"]["rules"]:
            named |= {str(each["upstream_id"]) for each in rule["weighted_upstreams"] if "upstream_id" in each}
    return named
