"""What a publisher promises its caller, in memory. What it promises its readers when it is killed: test_replay.py."""

import random

import pytest

from gw.errors import SegmentError
from gw.shm.layout import HEADER_BYTES, SLOTS_END, AgentState, newest_slot
from gw.shm.log import Ring
from gw.shm.reader import SnapshotReader
from gw.shm.writer import Publisher
from tests.shm.world import (
    NAMES,
    SMALL_LOG_BYTES,
    WATCHING,
    HandClock,
    attach,
    content_of,
    delete,
    entries_of,
    key,
    published,
    put,
    renew,
)
from tests.support.memory_space import MemorySpace, Stored


@pytest.fixture
def space() -> MemorySpace:
    return MemorySpace()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def publisher(space, clock) -> Publisher:
    return attach(space, clock)


@pytest.fixture
def reader(space, clock) -> SnapshotReader:
    return SnapshotReader(space, NAMES, clock)


def test_a_new_epoch_holds_no_configuration(publisher, reader):
    assert (publisher.version, publisher.recovered, dict(publisher.entries)) == (0, False, {})
    assert reader.peek().version == 0
    assert reader.peek().state is AgentState.STARTING
    with pytest.raises(SegmentError, match="no configuration yet"):
        reader.load()


def test_the_empty_configuration_is_one(publisher, reader):
    assert publisher.publish([], 5, WATCHING) == 1
    assert content_of(reader.load()) == {}
    assert reader.peek().revision == 5
    assert publisher.publish([], 6, WATCHING) == 1


def test_versions_count_changes_in_substance_only(publisher, reader):
    assert publisher.publish([put("1"), put("2")], 5, WATCHING) == 1
    assert publisher.publish([put("1")], 6, WATCHING) == 1
    assert publisher.publish([delete("9")], 7, AgentState.BACKING_OFF) == 1
    slot = reader.peek()
    assert (slot.version, slot.revision, slot.state) == (1, 7, AgentState.BACKING_OFF)
    assert publisher.publish([put("1", "new"), delete("2")], 8, WATCHING) == 2
    assert content_of(reader.load()) == published(publisher) == {key("1"): "new"}


def test_of_several_changes_to_one_resource_the_last_counts(publisher):
    publisher.publish([put("1", "a")], 1, WATCHING)
    assert publisher.publish([put("1", "b"), put("1", "a")], 2, WATCHING) == 1
    publisher.publish([put("1", "b"), delete("1"), put("2", "x"), put("2", "y")], 3, WATCHING)
    assert published(publisher) == {key("2"): "y"}


def test_a_publish_costs_what_changed(publisher, space):
    publisher.publish([put(str(number)) for number in range(1000)], 1, WATCHING)
    del space.steps[:]
    publisher.publish([put("5", "new")], 2, WATCHING)
    record, slot = space.steps
    assert isinstance(record, Stored)
    assert len(record.data) < 100
    assert len(slot.data) == 256


def test_touch_moves_heartbeat_state_and_revision_under_the_same_version(publisher, reader, clock):
    publisher.publish([put("1")], 5, WATCHING)
    identity = reader.peek().identity
    clock.now_s += 1
    publisher.touch(AgentState.BACKING_OFF)
    assert reader.peek().revision == 5
    publisher.touch(WATCHING, 9)
    slot = reader.peek()
    assert (slot.identity, slot.revision, slot.state) == (identity, 9, WATCHING)
    assert slot.heartbeat_ns == int(clock.monotonic() * 1e9)
    assert slot.published_wall_ns == int((clock.wall() - 1) * 1e9)


def test_the_next_agent_carries_on(publisher, space, clock, reader):
    publisher.publish([put("1")], 5, WATCHING)
    publisher.publish([put("2")], 6, WATCHING)
    publisher.close()
    del space.steps[:]
    heir = attach(space, clock)
    assert len(space.steps) == 1  # one slot, to say who is there now
    assert heir.recovered
    assert (heir.epoch, heir.version, heir.digest, heir.revision) == (*publisher.slot.identity, 6)
    assert published(heir) == {key("1"): 1, key("2"): 1}
    assert heir.publish([put("1"), put("2")], 7, WATCHING) == 2
    assert heir.publish([put("3")], 8, WATCHING) == 3
    assert content_of(reader.load()) == published(heir)


def test_another_log_size_is_a_new_epoch_with_the_same_content(publisher, space, clock, reader):
    publisher.publish([put("1")], 5, WATCHING)
    publisher.publish([put("2")], 6, WATCHING)
    assert reader.peek().epoch == publisher.epoch
    heir = attach(space, clock, log_size_bytes=4096)
    assert heir.recovered
    assert heir.epoch != publisher.epoch
    assert (heir.version, heir.digest, heir.revision) == (2, publisher.digest, 6)
    assert len(space.content(NAMES.log)) == 4096
    clock.now_s += 0.2
    assert reader.peek().epoch == heir.epoch  # the old segment says at once that nobody beats in it
    assert content_of(reader.load()) == published(heir)


def test_another_log_size_without_room_keeps_the_old(publisher, space, clock):
    publisher.publish([put("1")], 5, WATCHING)
    space.limit_bytes = space.used_bytes
    heir = attach(space, clock, log_size_bytes=4096)
    assert (heir.epoch, heir.version) == (publisher.epoch, 1)
    assert heir.publish([put("2")], 6, WATCHING) == 2


def test_a_log_too_small_is_refused(space, clock):
    with pytest.raises(ValueError, match="1024"):
        attach(space, clock, log_size_bytes=1023)


@pytest.mark.parametrize("segment", [NAMES.log, NAMES.snapshot(1)])
@pytest.mark.parametrize("damage", ["garbage", "gone"])
def test_damaged_content_is_a_new_epoch_whose_versions_go_on(publisher, space, clock, reader, segment, damage):
    for number in range(3):
        publisher.publish([put(str(number))], number, WATCHING)
    if damage == "gone":
        space.unlink(segment)
    else:
        space.content(segment)[HEADER_BYTES + 8 :] = b"\xa5" * (len(space.content(segment)) - HEADER_BYTES - 8)
    for _ in range(2):  # an agent that dies before it published anything leaves the same to the next
        heir = attach(space, clock)
        assert not heir.recovered
        assert heir.epoch != publisher.epoch
        assert (heir.version, dict(heir.entries)) == (0, {})
    assert heir.publish([put("x")], 9, WATCHING) == 4
    assert content_of(reader.load()) == {key("x"): 1}


@pytest.mark.parametrize("size", [0, 1, 63, 575, 576, 4096])
def test_a_control_segment_of_garbage_is_replaced(space, clock, reader, size):
    space.create(NAMES.control, size, 0o640)
    space.content(NAMES.control)[:] = b"\xa5" * size
    publisher = attach(space, clock)
    publisher.publish([put("1")], 1, WATCHING)
    assert content_of(reader.load()) == {key("1"): 1}


def test_a_damaged_history_before_the_base_costs_an_epoch_but_no_content(publisher, space, clock):
    value = 0
    while publisher.slot.log_base in (0, publisher.slot.log_end):
        value += 1
        publisher.publish([put("1", value)], value, WATCHING)
        renew(publisher)
    assert publisher.slot.log_start < publisher.slot.log_base
    space.content(NAMES.log)[HEADER_BYTES + publisher.slot.log_start % (SMALL_LOG_BYTES - HEADER_BYTES)] ^= 1
    heir = attach(space, clock)
    assert heir.recovered
    assert heir.epoch != publisher.epoch
    assert published(heir) == published(publisher)


def test_restore_publishes_a_configuration_under_its_own_version(publisher, reader):
    assert publisher.restore(entries_of([put("1"), put("2")]), 57, 11) == 57
    assert (publisher.version, publisher.revision) == (57, 11)
    assert content_of(reader.load()) == published(publisher) == {key("1"): 1, key("2"): 1}
    assert publisher.publish([put("1")], 12, WATCHING) == 57
    assert publisher.publish([put("3")], 13, WATCHING) == 58


def test_restore_never_gives_a_version_out_again(publisher):
    entries = publisher.entries
    publisher.publish([put("1")], 5, WATCHING)
    publisher.publish([put("2")], 6, WATCHING)
    assert publisher.restore(entries_of([put("9")]), 2, 3) == 3
    assert list(entries) == [key("9")]


def test_a_record_larger_than_a_quarter_of_the_ring_is_a_new_base(publisher, reader):
    publisher.publish([put("1")], 1, WATCHING)
    publisher.publish([put("2")], 2, WATCHING)
    cursor = reader.load().cursor
    publisher.publish([put("3", "x" * 300)], 3, WATCHING)
    slot = reader.peek()
    assert slot.snapshot_version == 3
    assert slot.log_start == slot.log_base == slot.log_end
    assert reader.changes(cursor) is None
    assert content_of(reader.load()) == published(publisher)


def test_the_base_is_renewed_and_the_history_before_it_stays(publisher, reader):
    publisher.publish([put("1", 0)], 1, WATCHING)
    cursor = reader.load().cursor
    version = 0
    while publisher.slot.snapshot_version == 1:
        version = publisher.publish([put("1", version)], 1, WATCHING)
        renew(publisher)
    assert publisher.slot.log_base == publisher.slot.log_end
    found = reader.changes(cursor)
    assert found.cursor.version == version
    assert [change.key for change in found.changes] == [key("1")]


def until_due(publisher: Publisher) -> int:
    """Publish until a renewal is due, and begin it; the version it is of."""
    version = publisher.publish([put("1", 0)], 1, WATCHING)
    while not publisher.renew_step():
        version = publisher.publish([put("1", version)], 1, WATCHING)
    return version


def test_what_is_published_during_a_renewal_is_replayed_after_its_base(publisher, reader):
    version = until_due(publisher)
    after = 0
    while publisher.renew_step():
        publisher.publish([put("2", after), put("3") if after % 2 else delete("3")], 1, WATCHING)
        after += 1
        assert content_of(reader.load()) == published(publisher)
    slot = reader.peek()
    assert (slot.snapshot_version, slot.version) == (version, version + after)
    assert after > 3
    assert slot.log_base < slot.log_end
    assert content_of(reader.load()) == published(publisher)


def test_a_renewal_costs_a_publish_nothing(space, clock):
    publisher = attach(space, clock, log_size_bytes=16 * 1024)
    publisher.publish([put(str(number)) for number in range(1000)], 1, WATCHING)
    value = until_due(publisher)
    while publisher.renew_step():
        del space.steps[:]
        value += 1
        publisher.publish([put("5", value)], 2, WATCHING)
        stored = [len(step.data) for step in space.steps if isinstance(step, Stored)]
        assert 256 < sum(stored) < 1000


def test_a_ring_that_is_used_up_meanwhile_waits_for_the_renewal(publisher, reader):
    """The publish that needs the room of records after the base writes what is left of it."""
    version = until_due(publisher)
    while publisher.slot.snapshot_version < version:
        publisher.publish([put("1", publisher.version)], 1, WATCHING)
        assert content_of(reader.load()) == published(publisher)
    assert publisher.slot.snapshot_version == version


@pytest.mark.parametrize("other", ["large change", "restore", "rm"])
def test_a_renewal_is_given_up_for_another_base(publisher, space, other):
    until_due(publisher)
    while len(space.list(NAMES.prefix + "snapshot")) < 2:
        publisher.renew_step()
    if other == "large change":
        publisher.publish([put("3", "x" * 300)], 3, WATCHING)
    elif other == "restore":
        publisher.restore(entries_of([put("9")]), 2, 3)
    else:
        space.unlink(NAMES.log)
        publisher.touch(WATCHING)
    assert not publisher.renew_step()
    publisher.sweep(set())
    assert space.list(NAMES.prefix + "snapshot") == [NAMES.snapshot(publisher.slot.snapshot_number)]


def test_sweep_leaves_a_base_that_is_being_written(publisher, space, reader):
    until_due(publisher)
    swept = []
    while publisher.renew_step():
        swept += publisher.sweep(set())
    assert swept == []
    assert content_of(reader.load()) == published(publisher)
    assert publisher.sweep(set()) == [1]


def test_a_closed_publisher_leaves_no_unfinished_base(publisher, space):
    until_due(publisher)
    while len(space.list(NAMES.prefix + "snapshot")) < 2:
        publisher.renew_step()
    publisher.close()
    assert space.list(NAMES.prefix + "snapshot") == [NAMES.snapshot(1)]


def test_a_renewal_without_room_is_tried_again_after_more_changes(publisher, space, caplog):
    space.limit_bytes = space.used_bytes + 200
    until_due(publisher)
    renew(publisher)
    assert "not renewed yet" in caplog.text
    assert not publisher.renew_step()
    space.limit_bytes = None
    for value in range(3):
        publisher.publish([put("1", value)], 1, WATCHING)
    renew(publisher)
    assert publisher.slot.log_base == publisher.slot.log_end


def test_the_ring_is_overwritten_only_behind_its_start(publisher, space):
    """Watches each store: a record must lie wholly outside of what the newest slot names at that moment."""
    publisher.publish([put("1", 0)], 1, WATCHING)
    del space.steps[:]
    for value in range(1, 60):
        publisher.publish([put("1", value), put(str(value % 7), value)], value, WATCHING)
    log_serial = space.inode(NAMES.log)
    ring_bytes = SMALL_LOG_BYTES - HEADER_BYTES
    control = bytearray(bytes(SLOTS_END - HEADER_BYTES))
    start, end = 0, 0
    for step in space.steps:
        assert isinstance(step, Stored) or step.name.startswith(NAMES.prefix + "snapshot")
        if isinstance(step, Stored) and step.serial == space.inode(NAMES.control):
            control[step.offset - HEADER_BYTES : step.offset - HEADER_BYTES + len(step.data)] = step.data
            slot = newest_slot(bytes(control))[1]
            start, end = slot.log_start, slot.log_end
        elif isinstance(step, Stored) and step.serial == log_serial:
            named = {position % ring_bytes for position in range(start, end)}
            written = {step.offset - HEADER_BYTES + at for at in range(len(step.data))}
            assert not named & written


def test_sweep_unlinks_what_nobody_uses(publisher, space):
    for number in range(4):
        publisher.publish([put("1", "x" * (300 + number))], number, WATCHING)
    space.create(NAMES.snapshot(77), 10, 0o640)  # left by an agent killed before it named it
    space.create("/test.v2.snapshot.x", 10, 0o640)
    assert publisher.slot.snapshot_number == 4
    assert publisher.sweep({2}) == [1, 3, 77]
    assert publisher.sweep(set()) == [2]
    assert space.list("/") == [NAMES.control, NAMES.log, NAMES.snapshot(4), "/test.v2.snapshot.x"]


def test_an_orphan_snapshot_is_never_written_over(publisher, space, clock, reader):
    publisher.publish([put("1")], 1, WATCHING)
    space.create(NAMES.snapshot(5), 10, 0o640)
    heir = attach(space, clock)
    space.create(NAMES.snapshot(6), 10, 0o640)  # appeared since
    heir.publish([put("1", "x" * 300)], 2, WATCHING)
    assert heir.slot.snapshot_number == 7
    assert content_of(reader.load()) == published(heir)


def test_names_that_are_all_taken_are_an_error_not_a_loop(publisher, space):
    for number in range(1, 50):
        space.create(NAMES.snapshot(number), 1, 0o640)
    with pytest.raises(SegmentError, match="taken"):
        publisher.publish([put("1")], 1, WATCHING)


# No room.


def test_no_room_to_begin_is_an_error_that_leaves_nothing(space, clock):
    space.limit_bytes = SMALL_LOG_BYTES + 100
    with pytest.raises(SegmentError, match=r"/test.v2.control.new: 576 bytes wanted, 100 free"):
        attach(space, clock)
    assert space.list("/") == []


def test_a_publish_without_room_changes_nothing_and_may_be_repeated(publisher, space, reader):
    publisher.publish([put("1")], 1, WATCHING)
    space.limit_bytes = space.used_bytes
    big = [put("2", "x" * 500), delete("1")]
    before = (publisher.slot.identity, published(publisher))
    for _ in range(2):
        with pytest.raises(SegmentError, match=r"no room for .*snapshot\.2: \d+ bytes wanted, 0 free"):
            publisher.publish(big, 2, WATCHING)
        assert (publisher.slot.identity, published(publisher)) == before
        assert content_of(reader.load()) == published(publisher)
    space.limit_bytes = None
    assert publisher.publish(big, 2, WATCHING) == 2
    assert content_of(reader.load()) == published(publisher) == {key("2"): "x" * 500}


def test_without_room_for_a_base_the_ring_is_used_up_first(publisher, space, reader):
    publisher.publish([put("1", 0)], 1, WATCHING)
    space.limit_bytes = space.used_bytes
    value = 0

    def publish_many() -> None:
        nonlocal value
        for value in range(1, 100):
            publisher.publish([put("1", value)], value, WATCHING)

    with pytest.raises(SegmentError, match="no room"):
        publish_many()
    assert value > 480 / 60
    assert content_of(reader.load()) == published(publisher) == {key("1"): value - 1}
    publisher.touch(AgentState.BACKING_OFF)
    assert reader.peek().state is AgentState.BACKING_OFF
    space.limit_bytes = None
    publisher.publish([put("1", value)], value, WATCHING)
    assert content_of(reader.load()) == published(publisher) == {key("1"): value}


def test_restore_without_room_changes_nothing(publisher, space):
    publisher.publish([put("1")], 1, WATCHING)
    space.limit_bytes = space.used_bytes
    with pytest.raises(SegmentError, match="no room"):
        publisher.restore(entries_of([put("2")]), 9, 9)
    assert (publisher.version, published(publisher)) == (1, {key("1"): 1})


# Somebody's rm.


@pytest.mark.parametrize("segment", [NAMES.control, NAMES.log, NAMES.snapshot(1)])
def test_what_somebody_removed_is_written_anew(publisher, space, clock, reader, segment):
    publisher.publish([put("1")], 1, WATCHING)
    publisher.publish([put("2")], 2, WATCHING)
    cursor = reader.load().cursor
    epoch = publisher.epoch
    space.unlink(segment)
    publisher.touch(WATCHING)
    assert publisher.epoch != epoch
    assert publisher.version == 2
    clock.now_s += 0.2
    assert reader.peek().epoch == publisher.epoch
    assert reader.changes(cursor) is None
    assert content_of(reader.load()) == content_of(SnapshotReader(space, NAMES, clock).load()) == published(publisher)
    assert publisher.publish([put("3")], 3, WATCHING) == 3
    assert content_of(reader.load()) == published(publisher)


def test_the_epoch_comes_from_the_given_chance_and_is_never_zero(space, clock):
    class Zero(random.Random):
        def getrandbits(self, bits: int) -> int:
            return 0

    assert attach(space, clock, rng=Zero()).epoch == 1
    assert Ring.of(space.open(NAMES.log)).epoch == 1
