"""From bytes in the store to what may be published. Decides only: no store, no shared memory.

Each value is checked as strictly as an Admin API write, whoever wrote it. One that fails keeps its last good value (or
stays out, if it never had one), is remembered with the reason, and never blocks the ones behind it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from gw.errors import InvalidResource
from gw.model.digest import content_hash, encode_resource
from gw.model.keys import ResourceKey, parse_store_key
from gw.model.routing import route_key
from gw.schema import parse_json, validate
from gw.shm.log import Change
from sync_agent.stores.base import Event, KeyValue


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why the newest value of a resource is not served."""

    key: ResourceKey
    revision: int
    reason: str


class Intake:
    """Checks values on arrival, and remembers what was refused.

    `published` is what is served now: where a refused resource is in it, its last good value goes on being served.
    """

    def __init__(self, published: Container[ResourceKey], resource_limit_bytes: int) -> None:
        self.rejections: dict[ResourceKey, Rejection] = {}
        self.ignored_keys = 0  # keys below the prefix that are not resources of ours, in the last full list
        self._published = published
        self._limit_bytes = resource_limit_bytes
        # Hash of the raw bytes last judged, so that a reload after a compaction judges only what is new.
        self._judged: dict[ResourceKey, bytes] = {}

    def take_events(self, events: Iterable[Event]) -> list[Change]:
        """The changes behind a watch's events, in their order, without those that were refused or are not ours."""
        changes = []
        for event in events:
            key = parse_store_key(event.key)
            if key is None:
                continue
            change = self._remove(key) if event.kv is None else self._judge(key, event.kv)
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

    def _judge(self, key: ResourceKey, kv: KeyValue) -> Change | None:
        self._judged[key] = _fingerprint(kv.value)
        try:
            change = admit(key, kv.value, self._limit_bytes)
        except InvalidResource as problem:
            reason = f"{problem.path}: {problem.reason}" if problem.path else problem.reason
            self.rejections[key] = Rejection(key, kv.mod_revision, reason)
            return None
        self.rejections.pop(key, None)
        return change

    def _is_judged(self, key: ResourceKey, value: bytes) -> bool:
        return self._judged.get(key) == _fingerprint(value)

    def _remove(self, key: ResourceKey) -> Change:
        self.rejections.pop(key, None)
        self._judged.pop(key, None)
        return deletion(key)


class Reload:
    """One full list being taken in. Pages come one at a time, so that other work goes on between them."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._changes: list[Change] = []
        self._present: set[ResourceKey] = set()
        self._ignored = 0

    def add_page(self, items: Iterable[KeyValue]) -> None:
        """Judge what is new in a page."""
        for kv in items:
            key = parse_store_key(kv.key)
            if key is None:
                self._ignored += 1
                continue
            self._present.add(key)
            if self._intake._is_judged(key, kv.value):
                continue
            change = self._intake._judge(key, kv)
            if change is not None:
                self._changes.append(change)

    def finish(self, published: Mapping[ResourceKey, object]) -> list[Change]:
        """All changes against what is published: what the pages brought, and the deletion of what they lack."""
        gone = [key for key in published if key not in self._present]
        forgotten = [key for key in self._intake.rejections if key not in self._present]
        removed = [self._intake._remove(key) for key in {*gone, *forgotten}]
        self._intake.ignored_keys = self._ignored
        return self._changes + removed


def admit(key: ResourceKey, value: bytes, limit_bytes: int) -> Change:
    """What is published for a value of the store.

    Raises InvalidResource for a value over `limit_bytes`, one that is not strict JSON, breaks its schema, or holds what
    cannot be carried.
    """
    if len(value) > limit_bytes:
        raise InvalidResource(*key, "", f"it is {len(value)} bytes long, more than the limit of {limit_bytes}")
    try:
        parsed = parse_json(value)
    except (ValueError, RecursionError) as error:
        raise InvalidResource(*key, "", f"not JSON: {error}") from None
    return change_of(key, validate(key.kind, key.id, parsed))


def change_of(key: ResourceKey, resource: Mapping[str, object]) -> Change:
    """The change that publishes a validated resource.

    Raises InvalidResource for what the canonical form cannot carry.
    """
    try:
        blob = encode_resource(resource)
    except (ValueError, OverflowError, TypeError, RecursionError) as error:
        raise InvalidResource(*key, "", f"cannot be published: {error}") from None
    return Change(key, content_hash(blob), blob, route_key(resource) if key.kind == "routes" else None)


def deletion(key: ResourceKey) -> Change:
    """The change that takes a resource away."""
    return Change(key, 0, None, None)


def _fingerprint(value: bytes) -> bytes:
    return blake2b(value, digest_size=16).digest()
