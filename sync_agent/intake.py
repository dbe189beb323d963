"""From bytes in the store to what may be published. Decides only: no store, no shared memory.

Each value is decrypted and checked as strictly as an Admin API write, whoever wrote it. One that fails keeps its last
good value (or stays out, if it never had one), is remembered with the reason, and never blocks the ones behind it.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

from gw.errors import InvalidResource
from gw.model.digest import content_hash, decode_resource, encode_resource
from gw.model.keys import ResourceKey, has_old_name, parse_store_key
from gw.model.routing import route_key
from gw.schema import NO_PLUGINS, PluginSchemas, parse_json, validate
from gw.shm.log import Change
from sync_agent.encryption import PLAIN, Protection
from sync_agent.identities import KINDS_WITH_IDENTITIES, Digests, Identities
from sync_agent.old_names import OldNames
from sync_agent.stores.base import Event, KeyValue

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the newest value of a resource is not served."""

    key: ResourceKey
    revision: int
    reason: str


class _Verdict(NamedTuple):
    """What became of one value; `fingerprint` tells whether the same bytes come again."""

    fingerprint: bytes
    outcome: Change | Rejection
    identities: Digests


class Intake:
    """Checks values on arrival, and remembers what was refused.

    `published` is what is served now: where a refused resource is in it, its last good value goes on being served.
    """

    def __init__(
        self,
        published: Container[ResourceKey],
        resource_limit_bytes: int,
        plugins: PluginSchemas = NO_PLUGINS,
        protection: Protection = PLAIN,
    ) -> None:
        self.rejections: dict[ResourceKey, Rejection] = {}
        self.identities = Identities()
        self.ignored_keys = 0  # keys below the prefix that are not resources of ours, in the last full list
        self._published = published
        self._limit_bytes = resource_limit_bytes
        self._plugins = plugins
        self._protection = protection
        self._old_names = OldNames()
        # Hash of the raw bytes last judged, so that a reload after a compaction judges only what is new.
        self._judged: dict[ResourceKey, bytes] = {}

    def take_events(self, events: Iterable[Event]) -> list[Change]:
        """The changes behind a watch's events, in their order, without those that were refused or are not ours."""
        changes = []
        for event in filter(None, map(self._old_names.take, events)):
            key = parse_store_key(event.key)
            if key is None:
                continue
            change = self._remove(key) if event.kv is None else self._note(key, self._judge(key, event.kv))
            if change is not None:
                changes.append(change)
        return changes

    def report(self, most: int) -> list[dict[str, object]]:
        """The refused resources as `gw status --json` shows them, the newest `most` of them."""
        newest = sorted(self.rejections.values(), key=lambda rejection: -rejection.revision)[:most]
        return [
            {
                "kind": rejection.key.kind,
                "id": rejection.key.id,
                "revision": rejection.revision,
                "reason": rejection.reason,
                "serves_last_good": rejection.key in self._published,
            }
            for rejection in newest
        ]

    def begin_reload(self) -> Reload:
        """Start taking in a full list, page by page."""
        return Reload(self)

    def _judge(self, key: ResourceKey, kv: KeyValue) -> _Verdict:
        outcome = _admit_or_reject(key, kv, self._limit_bytes, self._plugins, self._protection)
        return _Verdict(_fingerprint(kv.value), outcome, self._identities(outcome))

    def _identities(self, outcome: Change | Rejection) -> Digests:
        """From what is published, where secrets are in clear."""
        if isinstance(outcome, Rejection) or outcome.key.kind not in KINDS_WITH_IDENTITIES or outcome.blob is None:
            return ()
        return self.identities.digests_of(outcome.key.kind, decode_resource(outcome.blob))

    def _note(self, key: ResourceKey, verdict: _Verdict) -> Change | None:
        """Remember a verdict whose change, if it is one, is handed on now."""
        self._judged[key] = verdict.fingerprint
        if isinstance(verdict.outcome, Rejection):
            self.rejections[key] = verdict.outcome
            return None
        self.rejections.pop(key, None)
        self.identities.note(key, verdict.identities)
        return verdict.outcome

    def _is_judged(self, key: ResourceKey, value: bytes) -> bool:
        return self._judged.get(key) == _fingerprint(value)

    def _remove(self, key: ResourceKey) -> Change:
        self.rejections.pop(key, None)
        self._judged.pop(key, None)
        self.identities.note(key, ())
        return deletion(key)


class Reload:
    """One full list being taken in. Pages come one at a time, so that other work goes on between them.

    A list that breaks off is dropped, and nothing may be remembered of it: what it judged was never handed on.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._verdicts: dict[ResourceKey, _Verdict] = {}
        self._present: set[ResourceKey] = set()
        self._old_names = OldNames()
        self._ignored = 0

    def add_page(self, items: Iterable[KeyValue]) -> None:
        """Judge what is new in a page."""
        for kv in items:
            key = parse_store_key(kv.key)
            if key is None:
                self._ignored += 1
                continue
            self._old_names.take(Event(kv.key, kv))
            if not has_old_name(kv.key):
                self._add(key, kv)

    def finish(self, published: Mapping[ResourceKey, object]) -> list[Change]:
        """All changes against what is published: what the pages brought, and the deletion of what they lack.

        What was judged but is not published (refused, or still waiting for room in shared memory) is deleted as well.
        """
        intake = self._intake
        # Whether a newer name stands before them is known only now. They are a handful.
        for kv in self._old_names.counting():
            key = parse_store_key(kv.key)
            assert key is not None, "it was a resource's when it was taken"
            self._add(key, kv)
        intake._old_names = self._old_names
        noted = (intake._note(key, verdict) for key, verdict in self._verdicts.items())
        changes = [change for change in noted if change is not None]
        gone = {*published, *intake._judged} - self._present
        intake.ignored_keys = self._ignored
        intake.identities.is_complete = True
        return changes + [intake._remove(key) for key in gone]

    def _add(self, key: ResourceKey, kv: KeyValue) -> None:
        self._present.add(key)
        if not self._intake._is_judged(key, kv.value):
            self._verdicts[key] = self._intake._judge(key, kv)


def admit(
    key: ResourceKey,
    value: bytes,
    limit_bytes: int,
    plugins: PluginSchemas = NO_PLUGINS,
    protection: Protection = PLAIN,
    *,
    refuse_unknown: bool = False,
    allow_code: bool = True,
) -> Change:
    """What is published for a value of the store, whose secrets `protection` opens.

    For the rest of the arguments see `gw.schema.validate`. Raises InvalidResource for a value over `limit_bytes`,
    one that is not strict JSON, has a secret that cannot be opened, breaks its schema, or holds what cannot be carried.
    """
    if len(value) > limit_bytes:
        raise InvalidResource(*key, "", f"it is {len(value)} bytes long, more than the limit of {limit_bytes}")
    try:
        parsed = parse_json(value)
    except (ValueError, RecursionError) as error:
        raise InvalidResource(*key, "", f"not JSON: {error}") from None
    if isinstance(parsed, dict):
        parsed = protection.opened(key, parsed)
    resource = validate(key.kind, key.id, parsed, plugins, refuse_unknown=refuse_unknown, allow_code=allow_code)
    return change_of(key, resource)


def _admit_or_reject(
    key: ResourceKey, kv: KeyValue, limit_bytes: int, plugins: PluginSchemas, protection: Protection
) -> Change | Rejection:
    """As `admit`. Never raises: a value that trips over a mistake of ours must not hold up the ones behind it."""
    try:
        return admit(key, kv.value, limit_bytes, plugins, protection)
    except InvalidResource as problem:
        reason = f"{problem.path}: {problem.reason}" if problem.path else problem.reason
    except Exception as error:
        log.exception("judging %s failed in a way that was not foreseen", key)
        reason = f"cannot be judged: {type(error).__name__}"
    return Rejection(key, kv.mod_revision, reason)


def change_of(key: ResourceKey, resource: Mapping[str, object]) -> Change:
    """The change that publishes a validated resource.

    Raises InvalidResource for what the canonical form cannot carry.
    """
    try:
        blob = encode_resource(resource)
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise InvalidResource(*key, "", f"cannot be published: {error}") from None
    return Change(key, content_hash(key, blob), blob, route_key(resource) if key.kind == "routes" else None)


def deletion(key: ResourceKey) -> Change:
    """The change that takes a resource away."""
    return Change(key, 0, None, None)


def _fingerprint(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()
