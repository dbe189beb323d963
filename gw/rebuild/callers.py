"""Finds who a request comes from: the consumer behind a credential, or one by name. See gw.plugins.api.Consumers.

What is held of each consumer is an entry and a hash; what plugins get is made when it is first asked for, and let go of
when many others were asked for since.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Any, Final

from gw.model.keys import ResourceKey
from gw.model.references import reference
from gw.pipeline.caller import Caller
from gw.rebuild.credentials import KNOWN_AUTH_PLUGINS, resolved
from gw.rebuild.entry import CREDENTIALS, CredentialEntry
from gw.rebuild.tables import Tables

# As many as APISIX keeps (consumers_count_for_lrucache in apisix/consumer.lua): some 6 MB.
MAX_REMEMBERED: Final = 4096
CUSTOM_ID: Final = "custom_id"


class Callers:
    """`tables` gives what is served now; `fields`: by auth plugin, the field by which it finds a credential."""

    def __init__(self, tables: Callable[[], Tables], fields: Mapping[str, str]) -> None:
        self._tables = tables
        self._fields = fields
        self._credential_plugins = KNOWN_AUTH_PLUGINS.union(fields)
        self._remembered: dict[CredentialEntry, None] = {}

    def by_credential(self, plugin: str, value: str) -> Caller | None:
        """Who shows this to an auth plugin, None when nobody does. Raises SegmentError."""
        field = self._fields[plugin]
        shown = value.encode("utf-8", "surrogateescape")
        for entry in self._tables().credentials.find(plugin, value):
            caller = self._caller(entry)
            if caller is not None and compare_digest(_field_of(caller, plugin, field), shown):
                return caller
        return None

    def by_name(self, name: str) -> Caller | None:
        """The consumer of this name, None when there is none. Raises SegmentError."""
        entry = self._tables().find(ResourceKey("consumers", name))
        return self._caller(entry) if isinstance(entry, CredentialEntry) else None

    def _caller(self, entry: CredentialEntry) -> Caller | None:
        """None for a credential whose consumer is gone."""
        consumer = entry if entry.kind != CREDENTIALS else self._consumer_of(entry)
        if consumer is None:
            return None
        caller = entry.caller
        if caller is None or caller.entry is not consumer:
            caller = entry.caller = self._made(entry, consumer)
            self._remember(entry)
        return caller

    def _consumer_of(self, entry: CredentialEntry) -> CredentialEntry | None:
        found = self._tables().find(ResourceKey("consumers", entry.id.partition("/")[0]))
        return found if isinstance(found, CredentialEntry) else None

    def _made(self, entry: CredentialEntry, consumer: CredentialEntry) -> Caller:
        resource: Mapping[str, Any] = consumer.decode()
        plugins: Mapping[str, Any] = resource.get("plugins") or {}
        held: Mapping[str, Any] = plugins
        if entry is not consumer:
            of_credential: Mapping[str, Any] = entry.decode()
            held = of_credential.get("plugins") or {}
        group_id = reference(resource, "group_id") or ""
        return Caller(
            consumer.id,
            consumer,
            group_id=group_id,
            custom_id=(resource.get("labels") or {}).get(CUSTOM_ID, ""),
            credential_id="" if entry is consumer else entry.id.partition("/")[2],
            credentials={
                plugin: conf for plugin in self._fields if (conf := resolved(held.get(plugin), entry.key)) is not None
            },
            brings_plugins=bool(group_id) or any(plugin not in self._credential_plugins for plugin in plugins),
        )

    def _remember(self, entry: CredentialEntry) -> None:
        remembered = self._remembered
        remembered[entry] = None
        if len(remembered) > MAX_REMEMBERED:
            oldest = next(iter(remembered))
            del remembered[oldest]
            oldest.caller = None


def _field_of(caller: Caller, plugin: str, field: str) -> bytes:
    value = caller.credentials.get(plugin, {}).get(field)
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else b""
