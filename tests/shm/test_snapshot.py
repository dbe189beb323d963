import gc
from dataclasses import replace

import pytest

from gw.errors import SegmentError
from gw.model.digest import content_hash
from gw.model.keys import ResourceKey
from gw.shm.base import Base
from gw.shm.base_writer import STORED_BYTES
from gw.shm.layout import AgentState, Slot
from gw.shm.reader import Cursor, Loaded
from gw.shm.snapshot import CHUNK_RESOURCES, Entry
from tests.shm.world import base_of
from tests.support.memory_space import MemorySegment, MemorySpace


def entry(key: ResourceKey, blob: bytes, routing: object = None) -> Entry:
    return Entry(content_hash(key, blob), blob, routing)


def route(id: str, blob: bytes) -> tuple[ResourceKey, Entry]:
    key = ResourceKey("routes", id)
    return key, entry(key, blob)


def write(entries: dict[ResourceKey, Entry]) -> tuple[MemorySegment, Slot]:
    segment, base = base_of(entries, number=5, version=8, digest=77)
    slot = Slot(AgentState.WATCHING, version=9, **base._asdict())
    return segment, slot


def read(segment: MemorySegment, slot: Slot) -> dict[ResourceKey, Entry]:
    base = Base(segment, slot)
    for _ in base.check_steps():
        pass
    return Loaded(slot, base, (), Cursor(0, 0, 0, 0)).read()


def many() -> dict[ResourceKey, Entry]:
    """Kinds of one, of exactly a chunk, and of several chunks; ids of every sort; blobs larger than one store."""
    keys = [ResourceKey("routes", str(number)) for number in range(CHUNK_RESOURCES * 3, -1, -1)]
    keys += [ResourceKey("services", "s"), ResourceKey("odd", ""), ResourceKey("odd", "jack/credentials/\udcff x")]
    keys += [ResourceKey("upstreams", str(number)) for number in range(CHUNK_RESOURCES)]
    routing = ["routes", {"deep": [1, None, 2.5]}]
    entries = {key: entry(key, f"{key!r}".encode(), routing if key.kind == "routes" else None) for key in keys}
    for id, blob in (("big", bytes(range(256)) * (STORED_BYTES // 64)), ("empty", b"")):
        key = ResourceKey("services", id)
        entries[key] = entry(key, blob)
    return entries


@pytest.mark.parametrize("entries", [{}, many()], ids=["empty", "many"])
def test_what_was_written_is_read(entries):
    found = read(*write(entries))
    # Kinds that others refer to come first; beyond that, the order is the publisher's own.
    kinds = ["services", "odd", "upstreams", "routes"]
    assert list(found) == sorted(entries, key=lambda key: kinds.index(key.kind))
    for key, read_back in found.items():
        assert (read_back.hash, read_back.blob) == (entries[key].hash, entries[key].blob)
    if found:
        assert found[ResourceKey("routes", "1")].routing == ("routes", {"deep": (1, None, 2.5)})


def test_every_damaged_byte_of_the_head_is_noticed():
    segment, slot = write(dict([route("1", b"abc")]))
    head = slot.snapshot_length - len(b"abc")
    for at in range(head):
        segment.view[at] ^= 0x10
        with pytest.raises(SegmentError):
            read(segment, slot)
        segment.view[at] ^= 0x10
    read(segment, slot)


def test_a_damaged_blob_is_noticed_when_it_is_read():
    segment, slot = write(dict([route("1", b"abc"), route("2", b"def")]))
    segment.view[slot.snapshot_length - 1] ^= 1
    base = Base(segment, slot)
    (chunk,) = base.chunks()
    one, other = (
        (ResourceKey(chunk.kind, id), hash, place)
        for id, hash, place in zip(chunk.ids, chunk.hashes, chunk.places, strict=True)
    )
    assert base.blob(*one) == b"abc"
    with pytest.raises(SegmentError, match="content hash"):
        base.blob(*other)


def test_another_snapshot_than_the_one_named_is_refused():
    segment, slot = write({})
    for wrong in ({"snapshot_number": 6}, {"snapshot_version": 9}, {"snapshot_length": 1}):
        with pytest.raises(SegmentError, match="names"):
            read(segment, replace(slot, **wrong))


def test_a_truncated_snapshot_is_refused():
    segment, slot = write(many())
    for size in (1, 63, 64, slot.snapshot_length - 1):
        short = MemorySpace().create("/x", size, 0o640)
        short.store(0, bytes(segment.view[:size]))
        with pytest.raises(SegmentError):
            read(short, slot)


def test_a_closed_base_says_so():
    segment, slot = write(dict([route("1", b"abc")]))
    base = Base(segment, slot)
    (chunk,) = base.chunks()
    base.close()
    with pytest.raises(SegmentError, match="closed"):
        base.blob(ResourceKey("routes", "1"), chunk.hashes[0], chunk.places[0])


def test_loading_leaves_nothing_for_the_collector():
    written = write(many())
    read(*written)
    gc.collect()
    found = read(*written)
    del found
    assert gc.collect() == 0
