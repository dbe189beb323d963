"""Segments in the real /dev/shm: reserved, with the right mode and owner, and no stranger's."""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from gw.errors import SegmentError
from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames, aside
from gw.shm.reader import SnapshotReader
from gw.shm.segment import (
    AGENT_MODE,
    RESERVED_BYTES,
    SHM_DIR,
    TABLE_MODE,
    PosixNewSegment,
    PosixSpace,
    SegmentExists,
    SegmentMissing,
    UntrustedSegment,
    unlink_all,
)
from tests.shm.world import WATCHING, HandClock, attach, content_of, key, published, put

ROOT = Path(__file__).resolve().parents[2]
STRANGER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can plant a stranger's segment")


@pytest.fixture
def space() -> PosixSpace:
    return PosixSpace()


def path(name: str) -> Path:
    return SHM_DIR / name.removeprefix("/")


@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077, 0o777])
def test_the_mode_is_what_was_asked_for_whatever_the_umask(space, names, umask):
    before = os.umask(umask)
    try:
        space.create(names.log, 4096, AGENT_MODE).close()
        space.create(names.workers, 4096, TABLE_MODE).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path(names.log).stat().st_mode) == 0o640
    assert stat.S_IMODE(path(names.workers).stat().st_mode) == 0o660


def test_every_page_is_reserved(space, names):
    space.create(names.log, 1_000_001, AGENT_MODE).close()
    found = path(names.log).stat()
    assert found.st_size == 1_000_001
    assert found.st_blocks * 512 >= 1_000_001


@needs_root
def test_the_group_is_set(names):
    PosixSpace(group=4242).create(names.log, 64, AGENT_MODE).close()
    assert path(names.log).stat().st_gid == 4242


def test_a_second_of_the_same_name_is_refused(space, names):
    space.create(names.log, 64, AGENT_MODE).close()
    with pytest.raises(SegmentExists):
        space.create(names.log, 64, AGENT_MODE)


def test_what_is_stored_is_seen_by_who_opened_it_before(space, names):
    writer = space.create(names.log, 64, AGENT_MODE)
    reader = space.open(names.log)
    writer.store(8, b"abc")
    writer.store_u64(16, 2**64 - 2)
    assert bytes(reader.view[8:11]) == b"abc"
    assert reader.load_u64(16) == 2**64 - 2
    with pytest.raises(TypeError):
        reader.store(8, b"x")
    space.unlink(names.log)
    writer.store(8, b"def")
    assert bytes(reader.view[8:11]) == b"def"
    for segment in (writer, reader, reader):
        segment.close()


def test_a_renamed_segment_takes_the_place_of_the_other(space, names):
    old, new = space.create(names.log, 64, AGENT_MODE), space.create(aside(names.log), 64, AGENT_MODE)
    space.rename(aside(names.log), names.log)
    assert space.inode(names.log) == new.inode != old.inode
    assert space.inode(aside(names.log)) is None
    assert space.list(names.prefix) == [names.log]


def test_a_missing_segment_is_named(space, names):
    with pytest.raises(SegmentMissing, match=f"{names.log} does not exist"):
        space.open(names.log)
    assert space.inode(names.log) is None
    assert not space.unlink(names.log)


def test_an_empty_segment_is_refused(space, names):
    path(names.log).touch(mode=0o600)
    with pytest.raises(SegmentError, match="is empty"):
        space.open(names.log)


def test_a_link_is_not_followed(space, names, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(bytes(64))
    path(names.log).symlink_to(target)
    with pytest.raises(SegmentError, match=names.log):
        space.open(names.log)
    with pytest.raises(SegmentExists):
        space.create(names.log, 64, AGENT_MODE)


def test_no_room_is_an_error_that_says_what_and_how_much(space, names):
    wanted = 1 << 45  # more than any /dev/shm
    with pytest.raises(SegmentError, match=rf"no room for .*{names.log}: {wanted} bytes wanted, \d+ free in /dev/shm"):
        space.create(names.log, wanted, AGENT_MODE)
    assert space.list(names.prefix) == []


# Created in steps.


def finished(steps: Generator[None, None, PosixNewSegment]) -> PosixNewSegment:
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def test_a_segment_created_in_steps_is_reserved_in_full_before_anything_is_stored(space, names):
    size = 3 * RESERVED_BYTES + 1
    steps = space.create_steps(names.snapshot(1), size, AGENT_MODE)
    next(steps)
    assert path(names.snapshot(1)).stat().st_size == RESERVED_BYTES
    segment = finished(steps)
    found = path(names.snapshot(1)).stat()
    assert (found.st_size, stat.S_IMODE(found.st_mode)) == (size, AGENT_MODE)
    assert found.st_blocks * 512 >= size
    segment.store(size - 3, b"end")
    segment.close()
    segment.close()
    reader = space.open(names.snapshot(1))
    assert bytes(reader.view[-4:]) == b"\0end"
    reader.close()


def test_a_creation_that_is_given_up_leaves_nothing(space, names):
    steps = space.create_steps(names.snapshot(1), 3 * RESERVED_BYTES, AGENT_MODE)
    next(steps)
    with pytest.raises(SegmentExists):
        next(space.create_steps(names.snapshot(1), 10, AGENT_MODE))
    steps.close()
    assert space.list(names.prefix) == []


def test_no_room_is_noticed_before_any_is_taken(space, names):
    wanted = 1 << 45  # more than any /dev/shm
    with pytest.raises(SegmentError, match=rf"no room for .*snapshot.1: {wanted} bytes wanted, \d+ free in /dev/shm"):
        next(space.create_steps(names.snapshot(1), wanted, AGENT_MODE))
    assert space.list(names.prefix) == []


def test_room_that_others_take_meanwhile_is_an_error_that_leaves_nothing(space, names, monkeypatch):
    steps = space.create_steps(names.snapshot(1), 3 * RESERVED_BYTES, AGENT_MODE)
    next(steps)

    def reserve(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    with pytest.raises(SegmentError, match="no room for"):
        finished(steps)
    assert space.list(names.prefix) == []


@pytest.mark.parametrize("mode", [0o660, 0o602, 0o642, 0o666])
def test_what_others_may_write_to_is_refused(space, names, mode):
    space.create(names.control, 64, AGENT_MODE).close()
    path(names.control).chmod(mode)
    with pytest.raises(UntrustedSegment, match=rf"{names.control} is refused \(owner {os.geteuid()}, .*{mode:04o}"):
        space.open(names.control)


@pytest.mark.parametrize(("mode", "is_refused"), [(0o660, False), (0o600, False), (0o662, True), (0o666, True)])
def test_the_table_may_be_written_by_its_group_only(space, names, mode, is_refused):
    WorkerTable.open_or_create(space, names).close()
    path(names.workers).chmod(mode)
    if is_refused:
        with pytest.raises(UntrustedSegment):
            WorkerTable.open_or_create(space, names)
    else:
        WorkerTable.open_or_create(space, names).close()


def plant(name: str) -> None:
    """A stranger's segment with a mode that would do."""
    path(name).write_bytes(bytes(4096))
    path(name).chmod(0o640)
    os.chown(path(name), STRANGER, STRANGER)


@needs_root
@pytest.mark.parametrize("which", ["control", "log", "control.new", "log.new"])
def test_the_agent_refuses_what_a_stranger_planted(space, names, which):
    plant(names.prefix + which)
    with pytest.raises(UntrustedSegment, match=rf"{which} is refused \(owner {STRANGER}, .*; mode 0640\)"):
        attach(space, HandClock(), names)
    assert space.list(names.prefix) == [names.prefix + which]


@needs_root
def test_workers_refuse_what_a_stranger_planted(space, names):
    clock = HandClock()
    plant(names.control)
    reader = SnapshotReader(space, names, clock)
    assert reader.peek() is None
    assert f"owner {STRANGER}" in reader.problem
    with pytest.raises(SegmentError, match=f"owner {STRANGER}"):
        reader.load()
    path(names.control).unlink()
    publisher = attach(space, clock, names)
    publisher.publish([put("1")], 1, WATCHING)
    os.chown(path(names.snapshot(1)), STRANGER, -1)
    with pytest.raises(UntrustedSegment, match=r"snapshot\.1"):
        reader.load()
    os.chown(path(names.snapshot(1)), 0, -1)
    assert content_of(reader.load()) == published(publisher)
    assert reader.problem is None
    plant(names.workers)
    with pytest.raises(UntrustedSegment, match="workers"):
        WorkerTable.open_or_create(space, names)
    reader.close()
    publisher.close()


@needs_root
def test_owners_that_were_named_are_trusted(names):
    plant(names.control)
    PosixSpace(owners=[str(STRANGER)]).open(names.control).close()
    PosixSpace(owners=["nobody", STRANGER]).open(names.control).close()


@pytest.mark.parametrize("arguments", [{"owners": ["no-such-user"]}, {"group": "no-such-group"}])
def test_an_owner_that_the_host_does_not_know_is_an_error(arguments):
    with pytest.raises(SegmentError, match="no-such"):
        PosixSpace(**arguments)


@needs_root
def test_strangers_segments_stand_in_nobodys_way(space, names):
    publisher = attach(space, HandClock(), names)
    plant(names.snapshot(1))
    publisher.publish([put("1")], 1, WATCHING)
    assert publisher.slot.snapshot_number == 2
    assert publisher.sweep(set()) == []
    publisher.close()
    assert unlink_all(space, names) == [names.control, names.log, names.snapshot(2)]
    assert space.list(names.prefix) == [names.snapshot(1)]


def test_all_of_one_gateway_is_unlinked_and_nothing_of_another(space, names):
    other = SegmentNames(f"{names.name}.v2.b")
    for gateway in (names, other):
        publisher = attach(space, HandClock(), gateway)
        publisher.publish([put("1")], 1, WATCHING)
        publisher.close()
        WorkerTable.open_or_create(space, gateway).close()
    path(names.snapshot(9)).touch()
    assert len(unlink_all(space, names)) == 5
    assert [name for name in space.list(names.prefix) if not other.owns(name)] == []
    assert len(unlink_all(space, other)) == 4
    assert unlink_all(space, names) == []


@pytest.mark.parametrize("size", [1, 63, 64, 576, 5000])
def test_garbage_of_ours_is_refused_by_readers_and_replaced_by_the_agent(space, names, size):
    clock = HandClock()
    for name in (names.control, names.log, names.workers):
        path(name).write_bytes(b"\xa5" * size)
        path(name).chmod(0o640)
    reader = SnapshotReader(space, names, clock)
    assert reader.peek() is None
    with pytest.raises(SegmentError):
        reader.load()
    publisher = attach(space, clock, names)
    publisher.publish([put("1")], 1, WATCHING)
    table = WorkerTable.open_or_create(space, names)
    assert table.read_all() == []
    assert content_of(reader.load()) == {key("1"): 1}
    for opened in (reader, publisher, table):
        opened.close()


def test_a_reader_moves_to_the_segment_that_took_the_place_of_its_own(space, names):
    clock = HandClock()
    publisher = attach(space, clock, names)
    publisher.publish([put("1")], 1, WATCHING)
    reader = SnapshotReader(space, names, clock)
    cursor = reader.load().cursor
    publisher.close()
    unlink_all(space, names)  # a rm, or RemoveIPC, while nobody beats
    clock.now_s += 2.9
    assert reader.peek().epoch == cursor.epoch
    heir = attach(space, clock, names)
    heir.restore(publisher.entries, 1, 1)
    assert reader.peek().epoch == cursor.epoch  # not stale yet: no look at the name
    clock.now_s += 0.2
    assert reader.peek().epoch == heir.epoch != cursor.epoch
    assert reader.changes(cursor) is None
    assert content_of(reader.load()) == published(heir)
    reader.close()
    heir.close()


IN_A_SMALL_DEV_SHM = """
from tests.shm.test_segment import fill_up
fill_up()
"""


def test_a_dev_shm_of_one_megabyte():
    """In a mount namespace of its own, where that is allowed: the kernel's own ENOSPC, and no SIGBUS."""
    mounted = "mount -t tmpfs -o size=1m tmpfs /dev/shm"
    if subprocess.run(["unshare", "-m", "sh", "-c", mounted], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace here")
    script = f'{mounted} && exec "$0" -c "$1"'
    subprocess.run(["unshare", "-m", "sh", "-c", script, sys.executable, IN_A_SMALL_DEV_SHM], check=True, cwd=ROOT)


def fill_up() -> None:
    """Runs in a process of its own: publish until nothing fits, be told so, make room, go on."""
    space, names, clock = PosixSpace(), SegmentNames("small"), HandClock()
    publisher = attach(space, clock, names, log_size_bytes=64 * 1024)
    publisher.publish([put("1", "x" * 300_000)], 1, WATCHING)
    reader = SnapshotReader(space, names, clock)
    held = reader.load()
    too_much = [put("2", "y" * 400_000)]
    with pytest.raises(SegmentError, match=rf"no room for .*{names.snapshot(2)}: 700\d\d\d bytes wanted, \d+ free"):
        publisher.publish(too_much, 2, WATCHING)
    assert publisher.publish([put("3", "small")], 3, WATCHING) == 2  # what fits into the log still goes
    assert content_of(reader.load()) == published(publisher)
    assert publisher.publish([put("1", "short")], 4, WATCHING) == 3  # room, as soon as a base can be without it
    assert publisher.publish(too_much, 5, WATCHING) == 4
    assert content_of(reader.load()) == published(publisher)
    assert len(held.read()[key("1")].blob) > 300_000
