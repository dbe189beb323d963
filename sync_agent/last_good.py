"""The last good snapshot on disk, so that a host starts and serves with its store down.

A file that becomes configuration is trusted no more than an Admin API write: it is read only if it belongs to us and
nobody else may write it, its checksums hold, and each resource passes its schema again.

The file is the bytes of a snapshot segment (see docs/segment.md) behind a header of its own:

    offset  size  what
    0       8     magic, b"JWLGOOD1"
    8       8     version, u64 little endian
    16      8     store revision, u64
    24      8     digest, u64
    32      4     crc32 of bytes 0 to 31
    36      4     zero
    40      ...   the snapshot
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from gw.errors import InvalidResource, SegmentError
from gw.model.digest import decode_resource, digest_of
from gw.model.keys import KINDS, ResourceKey
from gw.schema import validate
from gw.shm.snapshot import decode_snapshot, encode_snapshot
from gw.shm.writer import Entry
from sync_agent.intake import change_of

log = logging.getLogger(__name__)

MAGIC: Final = b"JWLGOOD1"
HEADER: Final = struct.Struct("<8sQQQ")
CHECKED: Final = struct.Struct("<II")
HEADER_BYTES: Final = HEADER.size + CHECKED.size


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

    def load(self) -> Kept | None:
        """What the file holds, or None if there is none or it cannot be believed (which is logged)."""
        try:
            content = self._read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.error("the last good snapshot at %s is not used: %s", self.path, error)
            return None
        try:
            kept = _decode(content)
        except (SegmentError, ValueError) as error:
            log.error("the last good snapshot at %s is not used: %s", self.path, error)
            return None
        self.version = kept.version
        return kept

    def save(self, entries: Mapping[ResourceKey, Entry], version: int, revision: int) -> None:
        """Write the file anew: aside, to the disk, and renamed, so that there is always a whole one.

        Raises OSError.
        """
        digest = digest_of((key, entry.hash) for key, entry in entries.items())
        head = HEADER.pack(MAGIC, version, revision, digest)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside = self.path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as file:
            file.write(head)
            file.write(CHECKED.pack(zlib.crc32(head), 0))
            file.write(encode_snapshot(entries))
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


def _decode(content: bytes) -> Kept:
    """Raises ValueError or SegmentError for what cannot be believed as a whole; one bad resource is left out."""
    if len(content) < HEADER_BYTES:
        raise ValueError("it is cut short")
    magic, version, revision, digest = HEADER.unpack_from(content)
    checksum, _ = CHECKED.unpack_from(content, HEADER.size)
    if magic != MAGIC or checksum != zlib.crc32(content[: HEADER.size]):
        raise ValueError("its header is damaged, or it is no last good snapshot")
    stored = decode_snapshot(memoryview(content)[HEADER_BYTES:])
    if digest_of((key, ref.hash) for key, ref in stored.items()) != digest:
        raise ValueError("its digest does not fit its content")
    entries: dict[ResourceKey, Entry] = {}
    for key, ref in stored.items():
        if key.kind not in KINDS:
            continue
        try:
            change = change_of(key, validate(key.kind, key.id, decode_resource(ref.blob())))
        except InvalidResource as error:
            log.error("left out of the last good snapshot: %s", error)
            continue
        assert change.blob is not None
        entries[key] = Entry(change.hash, change.blob, change.routing)
    return Kept(entries, version, revision)


def _sync_directory(path: Path) -> None:
    """Make a rename in it outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
