"""The operations on all resources as one document: get, put, check (apisix/admin/standalone.lua, config_validate.lua).

Get and put are of the store that takes documents, check of any. An item is judged as a PUT of it would be, without a
look at what it refers to: the document brings that itself, or not, in either order.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

import yaml

from gw.clock import Clock
from gw.model.operations import Answer, CheckDocument, GetDocument, Item, Outcome, PutDocument
from gw.schema.explain import lua_type
from sync_agent.admin.judging import UNFIT, Judge, worded
from sync_agent.stores.base import Head, Store
from sync_agent.stores.standalone.document import (
    LAST_MODIFIED,
    VERSION_SUFFIX,
    InvalidDocument,
    Named,
    encode_item,
    identity_of,
    named_items,
    read_document,
)
from sync_agent.stores.standalone.pushed_store import PushedStore
from sync_agent.stores.standalone.versions import Standing, check_versions, is_version, kinds_of_documents, succeed

# Items judged without a break (about 50 us each): how long others of the agent wait.
_JUDGED_ITEMS: Final = 50
# Errors of one document that are told. Who has more mends these first.
_MOST_ERRORS: Final = 1000

_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Configs:
    """Performs the three operations. `document_bytes` bounds a document, `judge` decides about its items."""

    def __init__(self, store: Store, clock: Clock, judge: Judge, *, document_bytes: int) -> None:
        self._store = store if isinstance(store, PushedStore) else None
        self._clock = clock
        self._judge = judge
        self._document_bytes = document_bytes

    async def get(self, wanted: GetDocument) -> Answer:
        """The document as it was put."""
        if self._store is None:
            return _no_documents()
        standing, head = await self._store.standing(), await self._store.head()
        items: tuple[Item, ...] = ()
        if not wanted.only_about:
            text = await asyncio.to_thread(_yaml_of if wanted.as_yaml else _json_of, standing.document)
            items = (Item("configs", text),)
        return Answer(Outcome.OK, items=items, revision=head.revision, about=_about(standing))

    async def put(self, wanted: PutDocument) -> Answer:
        """Put a document in the place of the one that stands. One with its digest is that one, and changes nothing."""
        if self._store is None:
            return _no_documents()
        try:
            body = await self._read(wanted.text, is_yaml=wanted.is_yaml)
            standing, head = await self._store.standing_or_nothing(), await self._store.head()
            if standing.digest == wanted.digest:
                return _put_answer(standing, head, is_new=False)
            check_versions(body)
            async with aclosing(self._errors(body)) as errors:
                async for wrong in errors:
                    return Answer(Outcome.INVALID, wrong["error"])
            return await self._replace(self._store, body, wanted.digest)
        except InvalidDocument as error:
            return Answer(Outcome.INVALID, str(error))

    async def check(self, wanted: CheckDocument) -> Answer:
        """What is wrong with a document, all of it (up to a bound)."""
        try:
            body = await self._read(wanted.text, is_yaml=wanted.is_yaml)
        except InvalidDocument as error:
            return Answer(Outcome.INVALID, str(error))
        found: list[Mapping[str, Any]] = [
            {"resource_type": kind, "error": f"{kind}{VERSION_SUFFIX} must be a number, got {lua_type(version)}"}
            for kind in kinds_of_documents()
            if (version := body.get(f"{kind}{VERSION_SUFFIX}")) is not None and not is_version(version)
        ]
        async with aclosing(self._errors(body)) as errors:
            async for wrong in errors:
                found.append(wrong)
                if len(found) >= _MOST_ERRORS:
                    break
        return Answer(Outcome.OK, about={"errors": found})

    async def _replace(self, store: PushedStore, body: Mapping[str, Any], digest: str) -> Answer:
        is_new = True

        def decide(standing: Standing) -> Standing | None:
            # Somebody else may have put the same while this one was judged.
            nonlocal is_new
            is_new = standing.digest != digest
            return succeed(standing, body, digest, self._clock.wall()) if is_new else None

        standing, head = await store.update(decide)
        return _put_answer(standing, head, is_new=is_new)

    async def _read(self, text: bytes, *, is_yaml: bool) -> dict[str, Any]:
        try:
            if not text:
                raise InvalidDocument("empty request body")
            # A thread, since a large text takes seconds; the parsers let the loop have its turn.
            form = "yaml" if is_yaml else "json"
            return await asyncio.to_thread(read_document, text, form, self._document_bytes)
        except InvalidDocument as error:
            raise InvalidDocument(f"invalid request body: {error}") from None

    async def _errors(self, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """What is wrong with each item, in APISIX's words, in the order of the document."""
        seen: set[tuple[str, str]] = set()
        for count, named in enumerate(named_items(body, lambda _: None)):
            if count % _JUDGED_ITEMS == _JUDGED_ITEMS - 1:
                await asyncio.sleep(0)
            reason = self._complaint(named)
            if reason is not None:
                yield _error_of(named, f"invalid {named.kind} at index {named.index}, err: {reason}")
            own = identity_of(named.item)
            if own is not None:
                if (named.kind, own) in seen:
                    yield _error_of(named, f"found duplicate {_identifier(named)} {own} in {named.kind}")
                seen.add((named.kind, own))

    def _complaint(self, named: Named) -> str | None:
        try:
            self._judge.admit(named.key, encode_item(named.key, named.item))
        except UNFIT as error:
            return worded(error)
        return None


def _identifier(named: Named) -> str:
    """What APISIX calls an item's name in its message."""
    if "id" not in named.item:
        return "username"
    return "credential id" if named.kind == "consumers" else "id"


def _error_of(named: Named, reason: str) -> dict[str, Any]:
    own = identity_of(named.item)
    return {
        "resource_type": named.kind,
        **({} if own is None else {"resource_id": own}),
        "index": named.index,
        "error": reason,
    }


def _put_answer(standing: Standing, head: Head, *, is_new: bool) -> Answer:
    return Answer(Outcome.OK, revision=head.revision, about={**_about(standing), "is_new": is_new})


def _about(standing: Standing) -> dict[str, Any]:
    return {"digest": standing.digest, "last_modified": standing.document.get(LAST_MODIFIED)}


def _json_of(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _yaml_of(document: Mapping[str, Any]) -> bytes:
    text = yaml.dump(dict(document), Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=4096)
    return str(text).encode()


def _no_documents() -> Answer:
    return Answer(Outcome.NOT_FOUND, "resources do not come as one document here (deployment.role_traditional)")
