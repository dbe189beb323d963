"""What the tests of shared memory share: resources of a few bytes, a clock set by hand, and a check of what is read."""

from collections.abc import Iterable, Mapping
from typing import Any

from gw.model.digest import content_hash, decode_resource, digest_of, encode_resource
from gw.model.keys import ResourceKey
from gw.shm.base_writer import BaseWriter, WrittenBase
from gw.shm.layout import AgentState
from gw.shm.log import Change
from gw.shm.names import SegmentNames
from gw.shm.reader import Changes, Loaded
from gw.shm.segment import SegmentSpace
from gw.shm.snapshot import Entry
from gw.shm.writer import Publisher
from tests.support.memory_space import MemorySegment, MemorySpace
from tests.support.shm import unique_name

WATCHING = AgentState.WATCHING
# The smallest log: a ring of 960 bytes, so a record may have 240 and a base is renewed after 480.
SMALL_LOG_BYTES = 1024
NAMES = SegmentNames("test")

Content = Mapping[ResourceKey, Any]


class HandClock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def cpu(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now_s


def unique_names() -> SegmentNames:
    """Names in the real /dev/shm that no other test has."""
    return SegmentNames(unique_name())


def key(id: str, kind: str = "routes") -> ResourceKey:
    return ResourceKey(kind, id)


def put(id: str, value: object = 1, kind: str = "routes") -> Change:
    """A put of the resource {"v": value}, with its id as routing."""
    blob = encode_resource({"v": value})
    return Change(key(id, kind), content_hash(key(id, kind), blob), blob, (id,))


def delete(id: str, kind: str = "routes") -> Change:
    return Change(key(id, kind), 0, None, None)


def entries_of(changes: Iterable[Change]) -> dict[ResourceKey, Entry]:
    return {
        change.key: Entry(change.hash, change.blob, change.routing) for change in changes if change.blob is not None
    }


def attach(space: SegmentSpace, clock: HandClock, names: SegmentNames = NAMES, **options: Any) -> Publisher:
    return Publisher.attach(space, names, clock=clock, **{"log_size_bytes": SMALL_LOG_BYTES, **options})


def base_of(
    entries: Mapping[ResourceKey, Entry], number: int, version: int, digest: int
) -> tuple[MemorySegment, WrittenBase]:
    """A base in memory, and what a slot says of it."""
    names = SegmentNames("base")
    space = MemorySpace()
    writer = BaseWriter(space, names)
    writer.note_number(number - 1)
    base = writer.write(entries, version, digest)
    return space.open(names.snapshot(number), writable=True), base


def renew(publisher: Publisher) -> None:
    """A new base, if one is due, with nothing in between."""
    while publisher.renew_step():
        pass


def content_of(loaded: Loaded) -> Content:
    """The resources of a load, after checking that each has its routing and that all add up to the slot's digest."""
    entries = loaded.read()
    assert digest_of(entry.hash for entry in entries.values()) == loaded.slot.digest
    assert all(entry.routing == (key.id,) for key, entry in entries.items())
    return {key: decode_resource(entry.blob)["v"] for key, entry in entries.items()}


def published(publisher: Publisher) -> Content:
    """The same for what the publisher holds."""
    assert digest_of(entry.hash for entry in publisher.entries.values()) == publisher.digest
    return {key: decode_resource(entry.blob)["v"] for key, entry in publisher.entries.items()}


def updated(content: Content, changes: Changes) -> Content:
    """A content after the changes that a reader was given."""
    result = dict(content)
    for change in changes.changes:
        if change.blob is None:
            result.pop(change.key, None)  # what came and went since is deleted, too
        else:
            result[change.key] = decode_resource(change.blob)["v"]
    return result
