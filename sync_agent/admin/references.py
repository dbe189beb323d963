"""What follows from references between resources: is what is named there, and is it still named?

And does a global rule have a plugin to itself? All are asked of the store as it stands, never of what is published. The
answers hold only while no other write comes between, which the caller sees to for this host; a writer on another host,
or past the Admin API, is not stopped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from gw.model.keys import ResourceKey, parse_store_key, store_keys
from gw.model.operations import NOUNS, Outcome
from gw.model.references import REFERRED, Reference, references_of
from sync_agent.admin.stored import StoredValueError, parse_stored
from sync_agent.stores.base import KeyValue, Store


class Missing(NamedTuple):
    """Why a resource cannot be written: something that it names is not there. `reason` is in APISIX's words."""

    outcome: Outcome
    reason: str


# Why one of a kind cannot be deleted that `{user}` names, as APISIX has it. It lets SSLs go.
_REFUSALS: Final[Mapping[str, str]] = {
    "services": "can not delete this service directly, {user} is still using it now",
    "upstreams": "can not delete this upstream, {user} is still using it now",
    "plugin_configs": "can not delete this plugin config, {user} is still using it now",
    "consumer_groups": "can not delete this consumer group, {user} is still using it now",
    "protos": "can not delete this proto,{user} is still using it now",
    "ssls": "can not delete this ssl, {user} is still using it now",
    "stream_routes": "can not delete this stream route directly, {user} is still using it as superior_id",
}
# A user's noun in those messages, where it is not the kind's.
_USER_NOUNS: Final[Mapping[str, str]] = {
    "plugin_configs": "plugin_config",
    "consumer_groups": "consumer_group",
    "global_rules": "global_rules",
    "stream_routes": "stream_route",
}


def depends_on_others(key: ResourceKey, value: Mapping[str, Any]) -> bool:
    """Do other resources decide whether this one may be written?"""
    return key.kind == "global_rules" or any(each.is_required for each in references_of(key, value))


def can_be_referred_to(kind: str) -> bool:
    """May other resources name one of this kind?"""
    return kind in REFERRED


async def find_missing(store: Store, key: ResourceKey, value: Mapping[str, Any]) -> Missing | None:
    """The first resource that `value` names and the store lacks; None when all are there."""
    for reference in references_of(key, value):
        if not reference.is_required:
            continue
        if reference.key == key:
            return Missing(Outcome.INVALID, "stream route can not set itself as superior_id")
        found = await _find(store, reference.key)
        if found is None and key.kind == "credentials":
            return Missing(Outcome.NO_PARENT, "consumer not found")
        if found is None:
            return Missing(Outcome.INVALID, f"{_failure(reference)}, response code: 404")
        unfit = _unfitness(reference, value, found)
        if unfit is not None:
            return Missing(Outcome.INVALID, unfit)
    return None


async def find_conflict(store: Store, key: ResourceKey, value: Mapping[str, Any]) -> str | None:
    """The first plugin of a global rule that another global rule has, too, in the words of newer APISIX 3.x.

    None when there is none, and for every other kind. Reads all global rules.
    """
    if key.kind != "global_rules":
        return None
    async with contextlib.aclosing(store.list(below=f"{key.kind}/")) as pages:
        async for page in pages:
            for kv in page.items:
                other = parse_store_key(kv.key)
                if other is None or other == key:
                    continue
                with contextlib.suppress(StoredValueError):
                    shared = _plugin_names(parse_stored(kv.value)) & _plugin_names(value)
                    for name in sorted(shared):
                        return f"plugin '{name}' already exists in global rule with id '{other.id}'"
    return None


async def find_user(store: Store, key: ResourceKey) -> str | None:
    """Why this resource cannot be deleted: the first one that still names it. None: none does.

    A consumer's credentials do not keep it: they go with it. Reads the whole store.
    """
    if key.kind not in _REFUSALS:
        return None
    async with contextlib.aclosing(store.list()) as pages:
        async for page in pages:
            for kv in page.items:
                user = parse_store_key(kv.key)
                if user is None or user == key or user.kind == "credentials" or not _may_name(kv.value, key.id):
                    continue
                with contextlib.suppress(StoredValueError):
                    use = _use_of(key, user, parse_stored(kv.value))
                    if use:
                        return _REFUSALS[key.kind].format(user=f"{use} [{user.id}]")
    return None


def _may_name(value: bytes, id: str) -> bool:
    """Whether an id can stand in a stored value: as it is, since it is ASCII without quotes, or written in escapes.

    To look takes 1 us where to parse a route takes 26, and everybody who writes references waits meanwhile.
    """
    return id.encode() in value or b"\\u" in value


def _use_of(key: ResourceKey, user_key: ResourceKey, user: Mapping[str, Any]) -> str | None:
    """How `user` names the resource: `route`, `service`, `plugin in route`; None when it does not."""
    noun = NOUNS[user_key.kind]
    if key.kind != user_key.kind:
        noun = _USER_NOUNS.get(user_key.kind, noun)
    for reference in references_of(user_key, user):
        if reference.key == key:
            return f"plugin in {noun}" if reference.is_in_plugin and key.kind == "upstreams" else noun
    return None


async def _find(store: Store, key: ResourceKey) -> KeyValue | None:
    for name in store_keys(key):
        found, _ = await store.get(name)
        if found is not None:
            return found
    return None


def _failure(reference: Reference) -> str:
    kind, id = reference.key
    if kind == "stream_routes":
        return f"failed to fetch stream routes[{id}]"
    return f"failed to fetch {NOUNS[kind]} info by {NOUNS[kind]} id [{id}]"


def _unfitness(reference: Reference, value: Mapping[str, Any], found: KeyValue) -> str | None:
    """Why what is there is not what can be named here; None when it is."""
    named: Mapping[str, Any] = {}
    with contextlib.suppress(StoredValueError):
        named = parse_stored(found.value)
    if reference.key.kind == "ssls" and named.get("type") != "client":
        return f"{_failure(reference)}, wrong ssl type"
    superior = named.get("protocol")
    if reference.key.kind == "stream_routes" and isinstance(superior, dict):
        own = value["protocol"]["name"]
        if superior.get("name") != own:
            return (
                f"protocol mismatch: subordinate protocol [{own}] does not match superior protocol "
                f"[{superior.get('name')}]"
            )
    return None


def _plugin_names(value: Mapping[str, Any]) -> set[str]:
    plugins = value.get("plugins")
    return set(plugins) if isinstance(plugins, dict) else set()
