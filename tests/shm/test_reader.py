"""What a reader does when the writer is faster, gone, or wrong."""

from collections.abc import Generator

import pytest

from gw.errors import SegmentError
from gw.model.digest import content_hash
from gw.shm.layout import HEADER_BYTES, SLOT_BYTES
from gw.shm.log import Change
from gw.shm.reader import Loaded, SnapshotReader, run_to_end
from gw.shm.writer import Publisher
from tests.shm.world import NAMES, WATCHING, HandClock, attach, content_of, key, published, put, updated
from tests.support.memory_space import MemorySegment, MemorySpace


@pytest.fixture
def space() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def publisher(space, clock) -> Publisher:
    publisher = attach(space, clock)
    publisher.publish([put("1", 0)], 1, WATCHING)
    return publisher


@pytest.fixture
def reader(space, clock, publisher) -> SnapshotReader:
    return SnapshotReader(space, NAMES, clock)


def test_before_the_first_agent_there_is_nothing(space, clock):
    reader = SnapshotReader(space, NAMES, clock)
    assert reader.peek() is None
    with pytest.raises(SegmentError, match=r"control does not exist"):
        reader.load()
    publisher = attach(space, clock)
    publisher.publish([put("1")], 1, WATCHING)
    assert reader.peek() is None  # looked a moment ago
    clock.now_s += 0.2
    assert reader.peek().version == 1


def test_changes_come_in_order_and_end_at_the_slot(publisher, reader):
    cursor = reader.load().cursor
    assert reader.changes(cursor).changes == ()
    publisher.publish([put("1", 1)], 2, WATCHING)
    publisher.publish([put("2", 2)], 3, WATCHING)
    found = reader.changes(cursor)
    assert [change.key.id for change in found.changes] == ["1", "2"]
    assert found.slot.version == found.cursor.version == 3
    assert updated({key("1"): 0}, found) == published(publisher)
    assert reader.changes(found.cursor).changes == ()


def test_a_reader_too_far_behind_is_told_to_load(publisher, reader):
    cursor = reader.load().cursor
    for value in range(30):
        publisher.publish([put("1", value)], value, WATCHING)
    assert reader.changes(cursor) is None
    assert content_of(reader.load()) == published(publisher)


@pytest.mark.parametrize(
    "wrong", [{"epoch": 1}, {"position": 10**9}, {"position": 3}, {"version": 7, "position": 0}, {"version": 0}]
)
def test_a_cursor_that_leads_nowhere_is_told_to_load(publisher, reader, wrong):
    cursor = reader.load().cursor
    publisher.publish([put("1", 1)], 2, WATCHING)
    assert reader.changes(cursor._replace(**wrong)) is None


@pytest.mark.parametrize("when", ["before the copy", "after the copy"])
def test_what_was_overwritten_meanwhile_is_not_believed(publisher, reader, monkeypatch, when):
    """The writer laps the reader between its look at the slot and its second look."""
    cursor = reader.load().cursor
    publisher.publish([put("1", 1)], 2, WATCHING)
    steps = reader.changes_steps(cursor)
    if when == "after the copy":
        next(steps)
        lap(publisher)
    else:
        copy_steps = reader._ring(cursor.epoch).copy_steps

        def copy_late(start: int, end: int) -> Generator[None, None, bytes]:
            lap(publisher)
            return (yield from copy_steps(start, end))

        monkeypatch.setattr(reader._ring(cursor.epoch), "copy_steps", copy_late)
    assert run_to_end(steps) is None


def lap(publisher: Publisher) -> None:
    for value in range(40):
        publisher.publish([put("1", value)], value, WATCHING)


def test_a_load_that_was_overrun_begins_again(publisher, reader, space, monkeypatch):
    """The base goes away between the slot and the opening: the newer slot is read instead."""
    open_segment = space.open
    passed = []

    def open_late(name: str, **options: bool) -> MemorySegment:
        if name.startswith(NAMES.prefix + "snapshot") and len(passed) < 3:
            passed.append(name)
            publisher.publish([put("1", "x" * (300 + len(passed)))], 1, WATCHING)
            publisher.sweep(set())
        return open_segment(name, **options)

    monkeypatch.setattr(space, "open", open_late)
    assert content_of(reader.load()) == published(publisher)
    assert passed == [NAMES.snapshot(number) for number in (1, 2, 3)]


def test_a_load_in_steps_ends_with_the_state_it_began_with(space, clock):
    publisher = attach(space, clock, log_size_bytes=65536)
    publisher.publish([put(str(number)) for number in range(1000)], 1, WATCHING)
    publisher.publish([put("1", "later")], 2, WATCHING)
    publisher.publish([put(str(number), "later") for number in range(200)], 2, WATCHING)
    expected = published(publisher)
    steps = SnapshotReader(space, NAMES, clock).load_steps()
    count = 0
    try:
        while True:
            next(steps)
            count += 1
            publisher.publish([put(str(count), "new")], 3, WATCHING)
            publisher.sweep(set())
    except StopIteration as done:
        loaded: Loaded = done.value
    assert count > 5
    assert loaded.slot.version == 3
    assert content_of(loaded) == expected


def test_a_load_given_up_lets_go_of_its_base(publisher, reader):
    steps = reader.load_steps()
    next(steps)
    steps.close()
    assert content_of(reader.load()) == published(publisher)


def test_entries_outlive_reader_and_name(publisher, reader, space):
    loaded = reader.load()
    reader.close()
    space.unlink(NAMES.snapshot(1))
    assert content_of(loaded) == {key("1"): 0}


def test_a_torn_newer_slot_leaves_the_older(publisher, reader, space):
    publisher.publish([put("1", 1)], 2, WATCHING)
    at = HEADER_BYTES + SLOT_BYTES * (publisher.slot.generation % 2 == 0)
    control = space.content(NAMES.control)
    assert reader.peek().version == 2
    control[at + 20] ^= 1
    assert reader.peek() is None  # went back behind what was seen: not to be believed
    assert SnapshotReader(space, NAMES, HandClock()).peek().version == 1


def test_both_slots_torn_is_nothing_to_go_by(publisher, reader, space):
    control = space.content(NAMES.control)
    control[HEADER_BYTES + 20] ^= 1
    control[HEADER_BYTES + SLOT_BYTES + 20] ^= 1
    assert reader.peek() is None
    with pytest.raises(SegmentError, match="no valid slot"):
        reader.load()


def test_a_blob_that_is_not_what_its_hash_says_is_refused(publisher, reader):
    cursor = reader.load().cursor
    publisher.publish([Change(key("2"), content_hash(key("2"), b"other"), b"blob", ("2",))], 2, WATCHING)
    assert reader.changes(cursor) is None
    with pytest.raises(SegmentError, match="content hash"):
        reader.load()


def test_a_stale_heartbeat_alone_changes_nothing(publisher, reader, clock):
    slot = reader.peek()
    clock.now_s += 3600
    assert reader.peek() == slot
    assert content_of(reader.load()) == published(publisher)
