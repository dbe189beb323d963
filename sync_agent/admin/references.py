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


# The words before the user's noun and id: of each kind its own, as APISIX has them. It lets SSLs go.
_REFUSALS: Final[Mapping[str, str]] = {
    "services": "can not delete this service directly, ",
    "upstreams": "can not delete this upstream, ",
    "plugin_configs": "can not delete this plugin config, ",
    "consumer_groups": "can not delete this consumer group, ",
    "protos": "can not delete this proto,",
    "ssls": "can not delete this ssl, ",
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
        if not reference.is_required or reference.key == key:
            continue
        found = await _find(store, reference.key)
        if found is None and key.kind == "credentials":
            return Missing(Outcome.NO_PARENT, "consumer not found")
        if found is None:
            return Missing(Outcome.INVALID, f"{_failure(reference)}, response code: 404")
        if reference.key.kind == "ssls" and not _is_client_certificate(found):
            return Missing(Outcome.INVALID, f"{_failure(reference)}, wrong ssl type")
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
                if user is None or user == key or user.kind == "credentials":
                    continue
                with contextlib.suppress(StoredValueError):
                    use = _use_of(key, user, parse_stored(kv.value))
                    if use:
                        return f"{_REFUSALS[key.kind]}{use} [{user.id}] is still using it now"
    return None


def _use_of(key: ResourceKey, user_key: ResourceKey, user: Mapping[str, Any]) -> str | None:
    """How `user` names the resource: `route`, `service`, `plugin in route`; None when it does not."""
    noun = _USER_NOUNS.get(user_key.kind, NOUNS[user_key.kind])
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
    noun = NOUNS[reference.key.kind]
    return f"failed to fetch {noun} info by {noun} id [{reference.key.id}]"


def _is_client_certificate(found: KeyValue) -> bool:
    with contextlib.suppress(StoredValueError):
        return parse_stored(found.value).get("type") == "client"
    return False


def _plugin_names(value: Mapping[str, Any]) -> set[str]:
    plugins = value.get("plugins")
    return set(plugins) if isinstance(plugins, dict) else set()
