"""The last good configuration on disk, so that a host starts and serves with its store down.

A file that becomes configuration is trusted no more than an Admin API write: it is read only if it belongs to us and
nobody else may write it, its hash holds, and each resource passes its schema. The last is most of the time that a start
takes, so a file says who judged what is in it: where that was an agent of this host with the very same schemas and code
(see `judge`), nothing is judged twice. It proves it with a key that is kept beside the file and only we may read.

    offset  size  what
    0       8     magic, b"JWLGOOD2"
    8       32    blake2b (256 bits) of everything from offset 104 on
    40      32    fingerprint of the judge of all of it; zeros: of a part nobody is known to have judged it
    72      32    blake2b of bytes 0 to 71, keyed; zeros where the fingerprint is
    104     ...   msgpack: [version, store revision, [[kind, id, content hash, canonical bytes, routing], ...]]

Content hash and routing are believed together with the judgement, and else made anew from the canonical bytes.
"""

from __future__ import annotations

import hmac
import logging
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import msgpack

from gw.errors import InvalidResource
from gw.model.digest import decode_resource
from gw.model.keys import KINDS, ResourceKey
from gw.schema import NO_PLUGINS, PluginSchemas, validate
from gw.shm.snapshot import Entry
from sync_agent.intake import change_of
from sync_agent.judge import FINGERPRINT_BYTES, judge_fingerprint
from sync_agent.owned_file import read_ours, written_anew

log = logging.getLogger(__name__)

MAGIC: Final = b"JWLGOOD2"
HASH_BYTES: Final = 32
KEY_BYTES: Final = 32
SIGNED_BYTES: Final = len(MAGIC) + HASH_BYTES + FINGERPRINT_BYTES
HEADER_BYTES: Final = SIGNED_BYTES + HASH_BYTES
# A save runs beside the event loop, which waits while it holds the interpreter: for this many rows, some 0.2 ms.
PIECE_ROWS: Final = 200
# Between two pieces, so that the loop gets its turn: to let go of the interpreter for a moment is not enough for a
# thread that waits for it to wake up in time. 100,000 resources then take half a second longer.
PIECE_PAUSE_S: Final = 0.0005

# ResourceKey(...) and Entry(...) without their Python frames: half of the time of believing a large file.
_make_key: Final = cast("partial[ResourceKey]", partial(tuple.__new__, ResourceKey))
_make_entry: Final = cast("partial[Entry]", partial(tuple.__new__, Entry))


class Kept(NamedTuple):
    """What the file holds."""

    entries: dict[ResourceKey, Entry]
    version: int
    revision: int


class LastGood:
    """The file at `path`. `version` is the newest one known to be in it, 0 when there is none.

    `plugins` are those that the resources in it are judged with.
    """

    def __init__(self, path: Path, plugins: PluginSchemas = NO_PLUGINS) -> None:
        self.path = path
        self._plugins = plugins
        self.version = 0
        # Names with a dot in front: of this gateway alone, while another one may keep its file in the same directory.
        self.key_path = path.with_name(f".{path.name}.key")

    def load(self, newer_than: int = -1) -> Kept | None:
        """What the file holds, or None if there is none, it is no newer than that version, or it cannot be believed.

        The last is logged. All that is returned has been judged: just now, or before by the same judge.
        """
        try:
            content = read_ours(self.path, stat.S_IWGRP | stat.S_IWOTH)
            version, revision, rows = _unpack(content)
            self.version = version
            if version <= newer_than:
                return None
            is_vouched_for = self._is_vouched_for(content[:HEADER_BYTES])
            entries = _believe(rows) if is_vouched_for else _judge(rows, self._plugins)
            return Kept(entries, version, revision)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            log.error("the last good configuration at %s is not used: %s", self.path, error)
            return None

    def save(self, entries: Mapping[ResourceKey, Entry], version: int, revision: int, *, is_judged: bool) -> None:
        """Write the file anew: aside, to the disk, and renamed, so that there is always a whole one.

        `is_judged` says that all entries were judged by this process, or read by `load`. For a thread of its own:
        blocks, and lets others run in between. Raises OSError.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = self._find_key(make=True) if is_judged else None
        with written_anew(self.path) as file:
            file.write(bytes(HEADER_BYTES))
            body = blake2b(digest_size=HASH_BYTES)
            for piece in _pieces(entries, version, revision):
                body.update(piece)
                file.write(piece)
                time.sleep(PIECE_PAUSE_S)
            file.seek(0)
            file.write(self._header(body.digest(), key))
        self.version = version

    def _is_vouched_for(self, header: bytes) -> bool:
        key = self._find_key(make=False)
        return key is not None and hmac.compare_digest(
            header, self._header(header[len(MAGIC) :][:HASH_BYTES], key)
        )

    def _header(self, body_hash: bytes, key: bytes | None) -> bytes:
        if key is None:
            return MAGIC + body_hash + bytes(FINGERPRINT_BYTES + HASH_BYTES)
        signed = MAGIC + body_hash + judge_fingerprint(self._plugins)
        return signed + blake2b(signed, digest_size=HASH_BYTES, key=key).digest()

    def _find_key(self, *, make: bool) -> bytes | None:
        """The key beside the file; None when there is none or somebody else may know it, and then all is judged."""
        key = b""
        try:
            key = read_ours(self.key_path, stat.S_IRWXG | stat.S_IRWXO)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("%s is not used: %s", self.key_path, error)
            return None
        if len(key) == KEY_BYTES:
            return key
        if not make:
            return None
        key = os.urandom(KEY_BYTES)
        with written_anew(self.key_path) as file:
            file.write(key)
        return key


def _pieces(entries: Mapping[ResourceKey, Entry], version: int, revision: int) -> Iterator[bytes]:
    packer = msgpack.Packer(unicode_errors="surrogatepass", autoreset=False)
    packer.pack_array_header(3)
    packer.pack(version)
    packer.pack(revision)
    packer.pack_array_header(len(entries))
    items = iter(entries.items())
    while some := list(islice(items, PIECE_ROWS)):
        for (kind, id), (content_hash, blob, routing) in some:
            packer.pack((kind, id, content_hash, blob, routing))
        yield packer.bytes()
        packer.reset()
    yield packer.bytes()


def _unpack(content: bytes) -> tuple[int, int, Any]:
    """Version, revision and the rows. Raises ValueError for what cannot be believed as a whole."""
    body = memoryview(content)[HEADER_BYTES:]
    if content[: len(MAGIC) + HASH_BYTES] != MAGIC + blake2b(body, digest_size=HASH_BYTES).digest():
        raise ValueError("it is damaged, cut short, or something else")
    try:
        version, revision, rows = msgpack.unpackb(body, use_list=False, unicode_errors="surrogatepass")
    except (msgpack.UnpackException, TypeError) as error:
        raise ValueError(f"it cannot be decoded: {error}") from None
    return version, revision, rows


def _believe(rows: Iterable[tuple[Any, ...]]) -> dict[ResourceKey, Entry]:
    """All of them, as they were judged before."""
    return {_make_key(row[:2]): _make_entry(row[2:]) for row in rows}


def _judge(rows: Iterable[tuple[str, str, int, bytes, Any]], plugins: PluginSchemas) -> dict[ResourceKey, Entry]:
    """The resources that pass; one that does not is left out."""
    entries: dict[ResourceKey, Entry] = {}
    for kind, id, _, blob, _ in rows:
        key = ResourceKey(kind, id)
        if kind not in KINDS:
            continue
        try:
            change = change_of(key, validate(kind, id, decode_resource(blob), plugins))
        except (InvalidResource, ValueError, TypeError) as error:
            log.error("left out of the last good configuration: %s", error)
            continue
        assert change.blob is not None
        entries[key] = Entry(change.hash, change.blob, change.routing)
    return entries
