"""Stores whose content is replaced as a whole, behind one handle: open one, and say what it is to hold."""

import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import yaml

from gw.clock import SystemClock
from sync_agent.stores.standalone.file_store import FileStore
from sync_agent.stores.standalone.pushed_store import PushedStore
from sync_agent.stores.standalone.versions import Standing, succeed
from sync_agent.stores.standalone.whole import WholeStore

POLL_INTERVAL_S = 0.02


class WholeBackend(Protocol):
    """One place where a document is. Several stores may be opened on it, one after the other."""

    def opened(self) -> contextlib.AbstractAsyncContextManager[WholeStore]: ...

    async def replace(self, store: WholeStore, document: Mapping[str, Any]) -> None:
        """Make this the content; the store sees it now or soon."""
        ...


class FileBackend:
    """The file apisix.yaml or apisix.json of a directory, which holds nothing at first, or `text`."""

    def __init__(
        self, directory: Path, form: str, text: str | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.form = form
        self.path = directory / f"apisix.{form}"
        self.environ = environ or {}
        if text is None:
            self.write({})
        else:
            self.path.write_text(text)

    def write(self, document: Mapping[str, Any]) -> None:
        """As editors and `kubectl cp` do it: aside, and renamed over what is there."""
        text = yaml.safe_dump(dict(document)) + "#END\n" if self.form == "yaml" else json.dumps(document)
        aside = self.path.with_suffix(".new")
        aside.write_text(text)
        os.rename(aside, self.path)

    def store(self) -> FileStore:
        return FileStore(
            self.path,
            self.form,
            SystemClock(),
            limit_bytes=32 << 20,
            environ=self.environ,
            poll_interval_s=POLL_INTERVAL_S,
        )

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[FileStore]:
        store = self.store()
        try:
            yield store
        finally:
            await store.close()

    async def replace(self, store: WholeStore, document: Mapping[str, Any]) -> None:
        self.write(document)


class PushedBackend:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "data" / "standalone.json"
        self._digests = itertools.count()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[PushedStore]:
        store = PushedStore(self.path, SystemClock())
        try:
            yield store
        finally:
            await store.close()

    async def replace(self, store: WholeStore, document: Mapping[str, Any]) -> None:
        assert isinstance(store, PushedStore)
        digest = str(next(self._digests))

        def decide(standing: Standing) -> Standing:
            return succeed(standing, document, digest, SystemClock().wall())

        await store.update(decide)
