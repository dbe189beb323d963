"""Any publishes on any small ring, with readers that lag by any amount: whole versions or an honest None."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gw.errors import SegmentError
from gw.shm.layout import HEADER_BYTES
from gw.shm.log import Ring, decode_records, encode_record
from gw.shm.reader import SnapshotReader, run_to_end
from tests.shm.world import NAMES, WATCHING, HandClock, attach, content_of, delete, published, put, updated
from tests.support.memory_space import MemorySpace

IDS = st.sampled_from("abcdef")
CHANGES = st.lists(st.one_of(st.builds(put, IDS, st.text("x", max_size=90)), st.builds(delete, IDS)), max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("publish"), CHANGES),
    st.tuples(st.just("publish"), CHANGES),
    st.tuples(st.just("follow"), st.integers(0, 2)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("room"), st.booleans()),
    st.tuples(st.just("sweep"), st.none()),
    st.tuples(st.just("renew"), st.integers(1, 9)),
)


class Follower:
    """A reader that looks only now and then."""

    def __init__(self, space: MemorySpace, clock: HandClock) -> None:
        self.reader = SnapshotReader(space, NAMES, clock)
        self.cursor = None
        self.content = {}

    def follow(self) -> None:
        found = None if self.cursor is None else self.reader.changes(self.cursor)
        if found is not None:
            self.content, self.cursor = updated(self.content, found), found.cursor
        else:
            loaded = self.reader.load()
            self.content, self.cursor = content_of(loaded), loaded.cursor


@settings(max_examples=150, deadline=None)
@given(log_size=st.integers(1024, 1500), steps=st.lists(STEPS, max_size=60))
def test_readers_follow_whatever_is_published(log_size, steps):
    space, clock = MemorySpace(), HandClock()
    publisher = attach(space, clock, log_size_bytes=log_size)
    publisher.publish([], 0, WATCHING)
    followers = [Follower(space, clock) for _ in range(3)]
    for what, how in steps:
        version = publisher.version
        if what == "publish":
            before = published(publisher)
            try:
                publisher.publish(how, 1, WATCHING)
            except SegmentError:
                assert space.limit_bytes is not None
                assert (publisher.version, published(publisher)) == (version, before)
        elif what == "renew":
            for _ in range(how):
                publisher.renew_step()
        elif what == "follow":
            followers[how].follow()
            assert followers[how].content == published(publisher)
            assert followers[how].cursor.version == publisher.version
        elif what == "restart":
            content = published(publisher)
            publisher = attach(space, clock, log_size_bytes=log_size)
            assert (publisher.version, published(publisher)) == (version, content)
        elif what == "room":
            space.limit_bytes = None if how else space.used_bytes
        else:
            publisher.sweep(set())
        assert publisher.version >= version
    for follower in followers:
        follower.follow()
        assert follower.content == published(publisher)


@given(size=st.integers(100, 200), lengths=st.lists(st.integers(0, 60), max_size=30))
def test_records_come_back_from_wherever_they_wrap(size, lengths):
    ring = Ring.prepare(MemorySpace().create("/log", HEADER_BYTES + size, 0o640), 1)
    end = 0
    for version, length in enumerate(lengths, 1):
        record = encode_record(version, end, 0, 0, [put("x" * length)])
        if len(record) > size:
            continue
        ring.write(end, record)
        (found,) = decode_records(run_to_end(ring.copy_steps(end, end + len(record))), end)
        assert (found.version, found.position, found.end) == (version, end, end + len(record))
        assert found.changes == [put("x" * length)]
        end = found.end
