"""`conf/apisix.yaml` or `conf/apisix.json` as a store: looked at each second, read when it has become another file.

A look is what stat says: inode, size, times. That sees an edit in place, a file renamed over it, and a symbolic link
that points elsewhere (as Kubernetes swaps ConfigMaps), on every file system; a library that waits for the kernel's
events (inotify) sees no other host's writes on NFS, and has to be told of every directory on the way. A file whose time
is as young as the clock of its file system is coarse is read again, since it may change once more without a trace.

A file that cannot be used takes nothing away: the last good one stays, and a watch ends with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Final, TypeAlias

from gw.clock import Clock
from gw.errors import StoreError
from sync_agent.stores.base import ReadOnly
from sync_agent.stores.standalone.document import InvalidDocument, Resources, Value, read_document, resources_of
from sync_agent.stores.standalone.whole import WholeStore

log = logging.getLogger(__name__)

# As APISIX (ngx.timer.every(1, read_apisix_config)).
POLL_INTERVAL_S: Final = 1.0
# Times of a file are exact to two seconds where they are coarsest (FAT; NFS and ext3 have one).
COARSEST_TIME_S: Final = 2.0
# Notes of one document that are told; a generator's mistake is the same on each of its lines.
_MOST_NOTES_TOLD: Final = 20

_Look: TypeAlias = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Read:
    """A file as it was read. `resources` is None where the text is that of before, or refused for a reason."""

    look: _Look
    text_hash: bytes
    modified_s: float
    resources: Resources | None = None
    changes: Mapping[str, Value | None] = field(default_factory=dict)
    refusal: str = ""


class FileStore(WholeStore):
    """The file at `path`, whose form is yaml or json. Nothing is read before the first use."""

    def __init__(
        self,
        path: Path,
        form: str,
        clock: Clock,
        *,
        limit_bytes: int,
        environ: Mapping[str, str],
        poll_interval_s: float = POLL_INTERVAL_S,
    ) -> None:
        super().__init__(f"{form}://{path}", clock, poll_interval_s)
        self._path = path
        self._form = form
        self._clock = clock
        self._limit_bytes = limit_bytes
        self._environ = environ
        self._turn = asyncio.Lock()
        self._seen: _Look | None = None  # of the file last read, until it must be read again whatever stat says
        self._text_hash: bytes | None = None  # of the file last accepted
        self._problem = ""

    async def _refresh(self) -> None:
        async with self._turn:
            try:
                if await asyncio.to_thread(_look, self._path) != self._seen:
                    await self._read()
            except OSError as error:
                self._seen = None
                self._refuse(f"cannot be read: {error.strerror or error}")
        # A list of what was accepted before would be true, but nobody would hear that it is not the newest.
        if self._problem:
            raise StoreError(self._problem)
        if self._text_hash is None:
            raise StoreError(f"{self._path} is being written")

    async def _read(self) -> None:
        read = await asyncio.to_thread(self._load)
        if read is None:
            return  # it changes right now
        is_settled = abs(self._clock.wall() - read.modified_s) > COARSEST_TIME_S
        self._seen = read.look if is_settled else None
        if read.refusal:
            self._refuse(read.refusal)
            return
        if self._problem:
            log.info("%s can be used again", self._path)
            self._problem = ""
        if read.resources is not None:
            self._contents.apply(read.changes)
            self._text_hash = read.text_hash
            self._tell(read.resources, len(read.changes))

    def _load(self) -> _Read | None:
        """Read the file; None when it changed meanwhile. For a thread. Raises OSError."""
        with self._path.open("rb") as file:
            before = os.fstat(file.fileno())
            raw = file.read(self._limit_bytes + 1)
            look = _look_of(os.fstat(file.fileno()))
        if look != _look_of(before):
            return None
        text_hash = blake2b(raw, digest_size=16).digest()
        if text_hash == self._text_hash:
            return _Read(look, text_hash, before.st_mtime)
        try:
            document = read_document(raw, self._form, self._limit_bytes, needs_end=self._form == "yaml")
        except InvalidDocument as error:
            return _Read(look, text_hash, before.st_mtime, refusal=str(error))
        resources = resources_of(document, self._environ)
        if before.st_mode & stat.S_IWOTH:
            note = "everybody on this host may write it, and so decide what the gateway does: chmod o-w"
            resources = replace(resources, notes=(note, *resources.notes))
        return _Read(look, text_hash, before.st_mtime, resources, self._contents.difference(resources.values))

    def _refuse(self, reason: str) -> None:
        problem = f"{self._path} is not used: {reason}"
        if problem != self._problem:
            log.error("%s; what was published before stays", problem)
            self._problem = problem

    def _tell(self, resources: Resources, changed: int) -> None:
        log.info("read %s: %d resources, %d of them changed or gone", self._path, len(resources.values), changed)
        for note in resources.notes[:_MOST_NOTES_TOLD]:
            log.warning("%s: %s", self._path, note)
        if len(resources.notes) > _MOST_NOTES_TOLD:
            log.warning("%s: %d more of such", self._path, len(resources.notes) - _MOST_NOTES_TOLD)

    def read_only(self) -> ReadOnly:
        """As WholeStore.read_only."""
        return ReadOnly(f"resources come from {self._path}: edit that file")


def _look(path: Path) -> _Look:
    return _look_of(os.stat(path))


def _look_of(status: os.stat_result) -> _Look:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
