"""The last good configuration on disk, so that a host starts and serves with its store down.

A file that becomes configuration is trusted no more than an Admin API write: it is read only if it belongs to us and
nobody else may write it, its hash holds, and each resource passes its schema again.

    offset  size  what
    0       8     magic, b"JWLGOOD1"
    8       32    blake2b (256 bits) of everything behind it
    40      ...   msgpack: [version, store revision, [[kind, id, canonical bytes of the resource], ...]]
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgpack

from gw.errors import InvalidResource
from gw.model.digest import decode_resource
from gw.model.keys import KINDS, ResourceKey
from gw.schema import validate
from gw.shm.snapshot import Entry
from sync_agent.intake import change_of

log = logging.getLogger(__name__)

MAGIC: Final = b"JWLGOOD1"
HASH_BYTES: Final = 32
HEADER_BYTES: Final = len(MAGIC) + HASH_BYTES


class Kept(NamedTuple):
    """What the file holds."""

    entries: dict[ResourceKey, Entry]
    version: int
    revision: int


class LastGood:
    """The file at `path`. `version` is the newest one known to be in it, 0 when there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.version = 0

    def load(self, newer_than: int = -1) -> Kept | None:
        """What the file holds, or None if there is none, it is no newer than that version, or it cannot be believed.

        The last is logged. Judging every resource is what takes time, so an old file is not judged.
        """
        try:
            version, revision, named = _unpack(self._read())
            self.version = version
            if version <= newer_than:
                return None
            return Kept(_judge(named), version, revision)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("the last good configuration at %s is not used: %s", self.path, error)
            return None

    def save(self, entries: Mapping[ResourceKey, Entry], version: int, revision: int) -> None:
        """Write the file anew: aside, to the disk, and renamed, so that there is always a whole one.

        Raises OSError.
        """
        named = [(key.kind, key.id, entry.blob) for key, entry in entries.items()]
        body = msgpack.packb((version, revision, named), unicode_errors="surrogatepass")
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Of this gateway alone: another one may keep its file in the same directory.
        aside = self.path.with_name(f".{self.path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(MAGIC + _hash(body))
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.rename(aside, self.path)
        _sync_directory(self.path.parent)
        self.version = version

    def _read(self) -> bytes:
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid not in (0, os.geteuid()):
                raise ValueError(f"it belongs to user {status.st_uid}, not to us")
            if stat.S_IMODE(status.st_mode) & 0o022:
                raise ValueError(f"others may write it (mode {stat.S_IMODE(status.st_mode):04o}); chmod it to 0600")
            return file.read()


def _unpack(content: bytes) -> tuple[int, int, Any]:
    """Version, revision and the resources by name. Raises ValueError for what cannot be believed as a whole."""
    body = content[HEADER_BYTES:]
    if content[:HEADER_BYTES] != MAGIC + _hash(body):
        raise ValueError("it is damaged, cut short, or something else")
    try:
        version, revision, named = msgpack.unpackb(body, use_list=False, unicode_errors="surrogatepass")
    except (msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"it cannot be decoded: {error}") from None
    return version, revision, named


def _judge(named: Iterable[tuple[str, str, bytes]]) -> dict[ResourceKey, Entry]:
    """The resources that pass; one that does not is left out."""
    entries: dict[ResourceKey, Entry] = {}
    for kind, id, blob in named:
        key = ResourceKey(kind, id)
        if kind not in KINDS:
            continue
        try:
            change = change_of(key, validate(kind, id, decode_resource(blob)))
        except (InvalidResource, ValueError) as error:
            log.error("left out of the last good configuration: %s", error)
            continue
        assert change.blob is not None
        entries[key] = Entry(change.hash, change.blob, change.routing)
    return entries


def _hash(body: bytes) -> bytes:
    return blake2b(body, digest_size=HASH_BYTES).digest()


def _sync_directory(path: Path) -> None:
    """Make a rename in it outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
