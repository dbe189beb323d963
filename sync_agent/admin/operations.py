"""The admin operations on resources, against the store as it stands. Knows no sockets and no HTTP.

- Whoever asks, the key comes first: `perform` is the only way in, and it authorises every operation but Status
  and Head, which tell nothing of a resource: whom the socket lets in may ask them.
- A write is conditional on the revision that was read for it. When somebody else wrote in between, everything is read
  and judged again, a bounded number of times: no update is lost, and no write rests on what is no longer so.
- What is written is admitted by the same function that later admits it for publishing, on the same bytes.
- Defaults are not filled in: what is stored is what was sent, `id`, and the two times (as in APISIX since 3.14). Of
  plugin_metadata it is what was sent alone, since all of it is the plugin's.
- Secrets are sealed on their way into the store and opened on their way out (`sync_agent.encryption`): what is merged,
  compared and checked here is in clear.
- No two consumers get one identity; whom to ask about, duplicates.py knows.
- A plugin that is not enabled is refused. Publishing lets it pass: an existing store must not lose a route over it.
- Writes of one resource take turns on this host, so that the condition fails for a writer elsewhere only. So do writes
  whose outcome depends on other resources; see references.py for what that does not stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from gw.clock import Clock
from gw.errors import InvalidResource, StoreError
from gw.model.keys import KINDS, ResourceKey, credential_key, parse_store_key, store_keys
from gw.model.operations import (
    NOUNS,
    UNSUPPORTED,
    Answer,
    Authorize,
    CheckDocument,
    Create,
    Delete,
    Get,
    GetDocument,
    Head,
    Item,
    List,
    Operation,
    Outcome,
    Patch,
    Put,
    PutDocument,
    Request,
    Status,
)
from gw.schema import NO_PLUGINS, PluginSchemas, check_id
from sync_agent.admin import references
from sync_agent.admin.bodies import InvalidBody, forbid_managed, id_of, object_of
from sync_agent.admin.configs import Configs
from sync_agent.admin.duplicates import Duplicates
from sync_agent.admin.judging import UNFIT, Judge, worded
from sync_agent.admin.keys import AdminKeys
from sync_agent.admin.listing import InvalidFilter, Shown
from sync_agent.admin.patch import InvalidSubPath, merge, place
from sync_agent.admin.stored import StoredValueError, encode_stored, parse_stored
from sync_agent.encryption import PLAIN, Protection
from sync_agent.identities import Identities
from sync_agent.stores.base import Head as StoreHead
from sync_agent.stores.base import KeyValue, ReadOnly, Store, Written
from sync_agent.stores.standalone.whole import WholeStore

log = logging.getLogger(__name__)

# A lost round means that a writer on another host got through. Losing to twenty of them in a row is not administration.
WRITE_ATTEMPTS: Final = 20
# Grows with each lost round. About a round trip to the store, so that two hosts which write in step fall out of it.
LOST_ROUND_PAUSE_S: Final = 0.002
# A store that has not answered by then is away. Longer than a store's own time-outs, so that its own reason is heard.
OPERATION_TIMEOUT_S: Final = 30.0
# Keys of a list looked at without a break (about 40 us each): how long a change that is to be published may wait.
LISTED_KEYS: Final = 50

# Kinds whose resources are stored as they come: every member is somebody else's to name.
UNSTAMPED: Final = frozenset({"plugin_metadata"})

Emit = Callable[[Sequence[Item]], Awaitable[None]]


class _Refused(Exception):
    """Ends an operation with this answer."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.answer = Answer(outcome, reason)


@dataclass(frozen=True, slots=True)
class AdminLimits:
    """Bounds of resources and of the socket. Sizes in bytes; the defaults are those of the settings."""

    resource_bytes: int = 1024 * 1024
    body_bytes: int = 1536 * 1024  # of the Admin API: what workers let through
    document_bytes: int = 32 * 1024 * 1024  # of all resources as one document
    # Operations of one agent under way at once. They mostly wait for the store; more would only wait longer.
    concurrent_operations: int = 64
    # The workers of a host, and a few `gw status`.
    connections: int = 256

    @property
    def frame_bytes(self) -> int:
        """Longest request: msgpack takes 9 bytes for a number that JSON writes in 4 (`1e1,`); and the rest of it.

        A document travels as the text that it is.
        """
        return max(self.body_bytes * 9 // 4, self.document_bytes) + 64 * 1024


class Operations:
    """Performs operations. `prefix` is the store's, and stands before the keys that callers are shown.

    `processed` is the store's revision up to which everything is published, and `identities` (when there are any) are
    those of all that the store held then.
    """

    def __init__(
        self,
        store: Store,
        keys: AdminKeys,
        clock: Clock,
        *,
        prefix: str,
        resource_bytes: int,
        status: Callable[[], Mapping[str, Any]],
        processed: Callable[[], int],
        rng: random.Random | None = None,
        plugins: PluginSchemas = NO_PLUGINS,
        protection: Protection = PLAIN,
        allow_code: bool = False,
        identities: Identities | None = None,
        document_bytes: int = 32 * 1024 * 1024,
    ) -> None:
        self._judge = Judge(resource_bytes, plugins, protection, allow_code)
        self._configs = Configs(store, clock, self._judge, document_bytes=document_bytes)
        self._store = store
        self._protection = protection
        self._rng = rng or random.SystemRandom()
        self._keys = keys
        self._clock = clock
        self._prefix = prefix.rstrip("/")
        self._status = status
        self._processed = processed
        # An index is falsy while nobody has an identity, as at every start.
        known = Identities() if identities is None else identities
        self._duplicates = Duplicates(store, known, processed, self._opened)
        self._references_turn = asyncio.Lock()
        self._turns: WeakValueDictionary[ResourceKey, asyncio.Lock] = WeakValueDictionary()

    async def perform(self, request: Request, emit: Emit) -> Answer:
        """Do what is asked, if the key allows it. Long lists go to `emit` in parts. Raises nothing but cancellation."""
        operation = request.operation
        try:
            if isinstance(operation, Status):
                return Answer(Outcome.OK, status=self._status())
            refusal = None if isinstance(operation, Head) else self._keys.refusal(request.api_key, operation)
            if refusal is not None:
                return Answer(Outcome.UNAUTHORIZED, refusal)
            async with asyncio.timeout(OPERATION_TIMEOUT_S):
                return await self._dispatch(operation, emit)
        except _Refused as refused:
            return refused.answer
        except (InvalidBody, ReadOnly) as error:
            return Answer(Outcome.INVALID, str(error))
        except StoreError as error:
            return Answer(Outcome.UNAVAILABLE, f"the configuration store did not do it: {error}")
        except TimeoutError:
            return Answer(
                Outcome.UNAVAILABLE,
                f"the configuration store did not answer within {OPERATION_TIMEOUT_S:g} s; a write may still be made",
            )
        except Exception:
            log.exception("an admin operation (%s) failed in a way that was not foreseen", operation.op)
            return Answer(Outcome.FAILED, "internal error of the agent, see its log")

    async def _dispatch(self, operation: Operation, emit: Emit) -> Answer:
        if isinstance(operation, Authorize | Status):
            return Answer(Outcome.OK)
        if isinstance(operation, Head):
            return Answer(Outcome.OK, revision=await self._newest_of_ours())
        match operation:
            case GetDocument():
                return await self._configs.get(operation)
            case PutDocument():
                return await self._configs.put(operation)
            case CheckDocument():
                return await self._configs.check(operation)
        if operation.kind not in KINDS:
            raise _Refused(Outcome.INVALID, f"Unsupported resource type: {operation.kind}")
        if operation.op in UNSUPPORTED.get(operation.kind, ()):
            raise _Refused(Outcome.INVALID, f"not supported `{operation.op}` for {NOUNS[operation.kind]}")
        if isinstance(self._store, WholeStore) and isinstance(operation, Create | Put | Patch | Delete):
            raise self._store.read_only()  # first: what else may be wrong with it does not matter
        match operation:
            case Get(kind, id):
                return await self._get(_key(kind, id))
            case List():
                return await self._list(operation, emit)
            case Create():
                return await self._create(operation)
            case Put():
                return await self._put(operation)
            case Patch():
                return await self._patch(operation)
            case Delete():
                return await self._delete(operation)

    async def _newest_of_ours(self) -> int:
        """The store's revision of now; what is processed, when nothing of ours has come since.

        Others may write to the same etcd. The watch hears of their revisions every ten minutes, so nobody should wait
        for one of those to be processed.
        """
        head = await self._store.head()
        processed = self._processed()
        if processed < head.revision and not await self._store.may_have_changed(processed):
            return processed
        return head.revision

    async def _get(self, key: ResourceKey) -> Answer:
        found, head = await self._find(key)
        if found is None:
            return _not_found(head)
        return Answer(Outcome.OK, items=(self._item(key, found, _parse(found)),), revision=head.revision)

    async def _list(self, wanted: List, emit: Emit) -> Answer:
        if wanted.parent is not None:
            _key("consumers", wanted.parent)
        try:
            shown = Shown(wanted, self._item)
        except InvalidFilter as error:
            raise _Refused(Outcome.INVALID, str(error)) from None
        revision = 0
        async with contextlib.aclosing(self._store.list(below=shown.below)) as pages:
            async for stored in pages:
                revision = stored.head.revision
                for start in range(0, len(stored.items), LISTED_KEYS):
                    await emit(shown.take(stored.items[start : start + LISTED_KEYS]))
                    await asyncio.sleep(0)
        if wanted.kind == "credentials" and shown.is_empty:
            return Answer(Outcome.NOT_FOUND, "Key not found", revision=revision)  # as in APISIX, for this kind alone
        items, total = shown.finish()
        for store_key in shown.keys_to_read():
            found, _ = await self._store.get(store_key)
            if found is not None and (item := shown.take_again(found)) is not None:
                await emit([item])
        return Answer(Outcome.OK, items=items, total=total, revision=revision)

    async def _create(self, wanted: Create) -> Answer:
        body = object_of(wanted.kind, wanted.body)
        forbid_managed(body)
        if "id" in body:
            raise _Refused(Outcome.INVALID, f"wrong {NOUNS[wanted.kind]} id, do not need it")
        last = 0
        for lost in range(WRITE_ATTEMPTS):
            await self._pause_after(lost)
            # As in APISIX the id is a revision. One below that of the write itself cannot have been taken by a POST
            # before, unless the store was restored from a backup: hence the condition, and the step past a taken one.
            head = await self._store.head()
            last = max(head.revision, last) + 1
            key = ResourceKey(wanted.kind, f"{last:020d}")
            value = self._stamped(key, body, None)
            async with self._checked(key, value) as encoded:
                written = await self._store.put(str(key), encoded, expect=0, ttl_s=wanted.ttl_s)
            if written.succeeded:
                return self._written(written, key, value, encoded, Outcome.CREATED)
        raise _lost_to_others()

    async def _put(self, wanted: Put) -> Answer:
        body = object_of(wanted.kind, wanted.body)
        key = _key(wanted.kind, id_of(wanted.kind, wanted.id, body, wanted.parent))
        forbid_managed(body)
        async with self._turn(key):
            for lost in range(WRITE_ATTEMPTS):
                await self._pause_after(lost)
                found, _head = await self._find(key)
                value = self._stamped(key, body, found, keeps_id=wanted.id is None)
                async with self._checked(key, value) as encoded:
                    expect = 0 if found is None else found.mod_revision
                    name = str(key) if found is None else found.key
                    written = await self._store.put(name, encoded, expect=expect, ttl_s=wanted.ttl_s)
                if written.succeeded:
                    return self._written(written, key, value, encoded, Outcome.CREATED if found is None else Outcome.OK)
        raise _lost_to_others()

    async def _patch(self, wanted: Patch) -> Answer:
        key = _key(wanted.kind, wanted.id)
        if not wanted.sub_path and not isinstance(wanted.body, dict):
            raise _Refused(Outcome.INVALID, "invalid configuration")
        async with self._turn(key):
            for lost in range(WRITE_ATTEMPTS):
                await self._pause_after(lost)
                found, head = await self._find(key)
                if found is None:
                    return _not_found(head)
                value = self._patched(key, self._protection.opened_for_editing(key, _parse(found)), wanted)
                async with self._checked(key, value) as encoded:
                    written = await self._store.put(found.key, encoded, expect=found.mod_revision, ttl_s=wanted.ttl_s)
                if written.succeeded:
                    return self._written(written, key, value, encoded, Outcome.OK)
        raise _lost_to_others()

    async def _delete(self, wanted: Delete) -> Answer:
        key = _key(wanted.kind, wanted.id)
        turn = self._references_turn if references.can_be_referred_to(key.kind) else contextlib.nullcontext()
        async with turn:
            if not wanted.force and references.can_be_referred_to(key.kind):
                use = await references.find_user(self._store, key)
                if use is not None:
                    raise _Refused(Outcome.IN_USE, use)
            if key.kind == "consumers":
                await self._delete_credentials(key.id)
            return await self._delete_all(key)

    async def _delete_credentials(self, username: str) -> None:
        """A consumer's credentials go with it, and before it: none may pass to a later consumer of its name."""
        below = str(credential_key(username, ""))
        async with contextlib.aclosing(self._store.list(below=below)) as pages:
            names = [kv.key async for page in pages for kv in page.items]
        for name in names:
            if (key := parse_store_key(name)) is not None:
                await self._delete_all(key)

    async def _delete_all(self, key: ResourceKey) -> Answer:
        """Delete a resource under each name it may have, the one that counts last."""
        deleted = None
        for name in reversed(store_keys(key)):
            written = await self._store.delete(name)
            if written.succeeded:
                deleted = name
        if deleted is None:
            return _not_found(written.head)
        self._duplicates.wrote(key, None, written.head.revision)
        return Answer(Outcome.OK, items=(Item(self._shown(deleted), b"{}"),), revision=written.head.revision)

    async def _find(self, key: ResourceKey) -> tuple[KeyValue | None, StoreHead]:
        """A resource under the first of its names that it is found under."""
        for name in store_keys(key):
            found, head = await self._store.get(name)
            if found is not None:
                break
        return found, head

    async def _pause_after(self, lost: int) -> None:
        if lost:
            await asyncio.sleep(self._rng.uniform(0, lost * LOST_ROUND_PAUSE_S))

    @contextlib.asynccontextmanager
    async def _checked(self, key: ResourceKey, value: dict[str, Any]) -> AsyncIterator[bytes]:
        """The bytes to write, while what the resource names is there and stays: write inside."""
        try:
            encoded = encode_stored(self._protection.sealed(key, value))
            self._judge.admit(key, encoded)
        except UNFIT as error:
            raise _Refused(Outcome.INVALID, worded(error)) from None
        if not references.depends_on_others(key, value) and not self._duplicates.concern(key, value):
            yield encoded
            return
        async with self._references_turn:
            missing = await references.find_missing(self._store, key, value)
            if missing is not None:
                raise _Refused(missing.outcome, missing.reason)
            conflict = await references.find_conflict(self._store, key, value)
            conflict = conflict or await self._duplicates.find(key, value)
            if conflict is not None:
                raise _Refused(Outcome.INVALID, conflict)
            yield encoded

    def _turn(self, key: ResourceKey) -> asyncio.Lock:
        return self._turns.setdefault(key, asyncio.Lock())

    def _stamped(
        self, key: ResourceKey, body: Mapping[str, Any], found: KeyValue | None, *, keeps_id: bool = False
    ) -> dict[str, Any]:
        """The resource as it is stored: the body, its id, and the times. What is replaced gives its `create_time`.

        `keeps_id`: the body alone said the id, which stays a number where it is one, as in APISIX.
        """
        if key.kind in UNSTAMPED:
            return dict(body)
        now = int(self._clock.wall())
        create_time = now
        if found is not None:
            with contextlib.suppress(StoredValueError):
                before = parse_stored(found.value).get("create_time")
                create_time = before if type(before) is int else now
        id = {} if key.written_id is None or keeps_id else {"id": key.written_id}
        return {**body, **id, "create_time": create_time, "update_time": now}

    def _patched(self, key: ResourceKey, before: dict[str, Any], wanted: Patch) -> dict[str, Any]:
        if wanted.sub_path:
            try:
                after = place(before, wanted.sub_path, wanted.body)
            except InvalidSubPath as error:
                raise _Refused(Outcome.INVALID, str(error)) from None
            sets_time = wanted.sub_path == ("update_time",)
        else:
            after = merge(before, wanted.body)
            sets_time = wanted.body.get("update_time") is not None
        now = int(self._clock.wall())
        if key.written_id is not None:
            id_of(key.kind, key.written_id, after)
            after["id"] = key.written_id
        after.setdefault("create_time", now)
        if not sets_time:
            after["update_time"] = now
        return after

    def _item(self, key: ResourceKey, kv: KeyValue, resource: dict[str, Any]) -> Item:
        value = self._shown_value(key, kv.value, resource)
        return Item(self._shown(kv.key), value, kv.create_revision, kv.mod_revision)

    def _written(
        self, written: Written, key: ResourceKey, value: Mapping[str, Any], encoded: bytes, outcome: Outcome
    ) -> Answer:
        """The answer to a write that was made, under the name in the store that it was made to."""
        assert written.current is not None, "a put that succeeded leaves a value"
        self._duplicates.wrote(key, value, written.head.revision)
        shown = self._shown_value(key, encoded, parse_stored(encoded))
        return Answer(outcome, items=(Item(self._shown(written.current.key), shown),), revision=written.head.revision)

    def _opened(self, key: ResourceKey, stored: bytes) -> dict[str, Any]:
        """A resource of the store with its secrets in clear, those that can be. Raises StoredValueError."""
        return self._protection.opened_for_editing(key, parse_stored(stored))

    def _shown_value(self, key: ResourceKey, stored: bytes, resource: dict[str, Any]) -> bytes:
        """What an answer has for a stored value: its very bytes where there is no secret in it."""
        shown = self._protection.shown(key, resource)
        return stored if shown is resource else encode_stored(shown)

    def _shown(self, key: str) -> str:
        return f"{self._prefix}/{key}"


def _key(kind: str, id: str) -> ResourceKey:
    try:
        check_id(kind, id)
    except InvalidResource as error:
        raise _Refused(Outcome.INVALID, worded(error)) from None
    return ResourceKey(kind, id)


def _parse(found: KeyValue) -> dict[str, Any]:
    try:
        return parse_stored(found.value)
    except StoredValueError as error:
        raise _Refused(Outcome.FAILED, f"{error}; PUT or DELETE {found.key} to mend it") from None


def _not_found(head: StoreHead) -> Answer:
    return Answer(Outcome.NOT_FOUND, "Key not found", revision=head.revision)


def _lost_to_others() -> _Refused:
    return _Refused(Outcome.CONFLICT, "value changed before overwritten")
