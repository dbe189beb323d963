"""A document that a client puts as a whole over the Admin API (`/apisix/admin/configs`), kept in a file of ours.

APISIX keeps it in memory, and begins with nothing after a restart. Here it is on disk before it is accepted.

The file is JSON, mode 0600: `document` is what GET shows, `held` the values (JSON as text) that are served in the place
of some of its items (see `versions`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gw.clock import Clock
from gw.errors import StoreError
from gw.schema import parse_json
from sync_agent.owned_file import read_ours, written_anew
from sync_agent.stores.base import Head, ReadOnly
from sync_agent.stores.standalone.document import Value, check_document
from sync_agent.stores.standalone.versions import Standing, check_versions, held_back, nothing_yet, restored
from sync_agent.stores.standalone.whole import WholeStore

log = logging.getLogger(__name__)

# Readable by others, it would tell them the keys of consumers.
_FORBIDDEN: Final = stat.S_IRWXG | stat.S_IRWXO

# From what stands to what is to stand; None leaves it. Runs in a thread, and may raise.
Decide = Callable[[Standing], Standing | None]


class PushedStore(WholeStore):
    """The document in the file at `path`. Nothing is read before the first use."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(f"standalone://{path}", clock, None)
        self._path = path
        self._turn = asyncio.Lock()
        self._standing: Standing | None = None
        self._updates: set[asyncio.Task[tuple[Standing, Head]]] = set()
        self._problem = ""  # why the file is not used, once it has been told

    async def standing(self) -> Standing:
        """What has been accepted. Raises StoreError when the file is there and cannot be used."""
        self._check_open()
        async with self._turn:
            return await self._loaded()

    async def standing_or_nothing(self) -> Standing:
        """As `standing`; a file that cannot be used counts as none, since what is put next replaces it."""
        self._check_open()
        async with self._turn:
            return await self._loaded_or_nothing()

    async def update(self, decide: Decide) -> tuple[Standing, Head]:
        """Let `decide` replace what stands. What it makes is on disk and in the store when this returns.

        A file that cannot be used is replaced, as if there were none. Who gives up waiting stops nothing: what is on
        disk is also in the store. Raises what `decide` raises, and StoreError when the file cannot be written.
        """
        self._check_open()
        task = asyncio.create_task(self._update(decide), name="standalone-update")
        self._updates.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """As Store.close, after what is being put."""
        if self._updates:
            await asyncio.wait(self._updates)
        await super().close()

    def _forget(self, update: asyncio.Task[tuple[Standing, Head]]) -> None:
        self._updates.discard(update)
        if not update.cancelled():
            update.exception()  # seen, also where nobody waits any more

    async def _update(self, decide: Decide) -> tuple[Standing, Head]:
        async with self._turn:
            before = await self._loaded_or_nothing()
            after = await asyncio.to_thread(decide, before)
            if after is None:
                return before, self._contents.head
            try:
                await asyncio.to_thread(_save, self._path, after)
            except OSError as error:
                raise StoreError(f"{self._path} cannot be written: {error.strerror or error}") from None
            await self._take(after)
            return after, self._contents.head

    async def _refresh(self) -> None:
        await self.standing()

    async def _loaded_or_nothing(self) -> Standing:
        try:
            return await self._loaded()
        except StoreError:
            return nothing_yet()

    async def _loaded(self) -> Standing:
        if self._standing is None:
            try:
                standing = await asyncio.to_thread(_load, self._path)
            except FileNotFoundError:
                standing = nothing_yet()
            except (OSError, ValueError) as error:
                self._tell(f"{self._path} is not used: {error}")
                raise StoreError(self._problem) from None
            await self._take(standing)
            return standing
        return self._standing

    async def _take(self, standing: Standing) -> None:
        self._standing = standing
        self._contents.apply(await asyncio.to_thread(self._contents.difference, standing.values))

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            log.error("%s; what was published before stays, until a document is put", problem)
            self._problem = problem

    def read_only(self) -> ReadOnly:
        """As WholeStore.read_only."""
        return ReadOnly("resources are put as one document here: PUT /apisix/admin/configs")


def _load(path: Path) -> Standing:
    content = parse_json(read_ours(path, _FORBIDDEN))
    held = content.get("held") if isinstance(content, dict) else None
    if not isinstance(held, dict) or not all(isinstance(text, str) for text in held.values()):
        raise ValueError("it is damaged, or something else")
    document = check_document(content.get("document"))
    check_versions(document)
    return restored(document, {key: Value(text.encode()) for key, text in held.items()})


def _save(path: Path, standing: Standing) -> None:
    held = {key: value.raw.decode() for key, value in held_back(standing).items()}
    content: dict[str, Any] = {"document": standing.document, "held": held}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with written_anew(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, allow_nan=False).encode())
