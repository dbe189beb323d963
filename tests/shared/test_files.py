"""Where the state lies: who may share it, what is refused, what is replaced."""

import os
import random
import stat

import pytest

from gw.errors import SegmentError
from gw.shared.files import StateFiles, remove_state, state_directory
from gw.shared.records import stored_key
from gw.shared.store import SharedStore
from gw.shm.names import SegmentNames
from gw.shm.segment import UntrustedSegment
from gw.shm.trust import Trust
from tests.shm.world import HandClock

SIZE_BYTES = 4 << 20
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files")


def opened(directory, size_bytes=SIZE_BYTES, clock=None, trust=None):
    return SharedStore.open(directory, size_bytes, clock or HandClock(), trust)


def data_file(directory):
    return StateFiles(directory, SIZE_BYTES, Trust()).path


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_it_lies_beside_the_segments():
    names = SegmentNames("jitterway")
    assert str(state_directory(names)) == "/dev/shm/jitterway.v2.state"
    assert not names.owns("/jitterway.v2.state")


def test_directory_and_files_are_the_groups_whatever_the_umask(directory):
    before = os.umask(0o077)
    try:
        opened(directory).close()
    finally:
        os.umask(before)
    assert mode(directory) == 0o770
    assert {mode(path) for path in directory.iterdir()} == {0o660}
    assert len(list(directory.iterdir())) == 3


@needs_root
def test_the_group_is_the_one_that_is_named(directory):
    opened(directory, trust=Trust(group=NOBODY)).close()
    assert {path.lstat().st_gid for path in (directory, *directory.iterdir())} == {NOBODY}


@needs_root
def test_another_user_of_the_group_counts_in_the_same_state(directory):
    """As two users whose workers share a group do."""
    mine = opened(directory, trust=Trust(owners=[NOBODY], group=NOBODY))
    assert mine.increment(b"counter", 1, ttl_s=60).value == 1
    mine.close()  # an environment must not be open across a fork
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            theirs = opened(directory)
            os._exit(theirs.increment(b"counter", 1, ttl_s=60).value)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    mine = opened(directory, trust=Trust(owners=[NOBODY], group=NOBODY))
    assert mine.increment(b"counter", 1, ttl_s=60).value == 3
    mine.close()


def test_it_is_reserved_in_full(directory):
    opened(directory).close()
    found = data_file(directory).lstat()
    assert found.st_size == SIZE_BYTES
    assert found.st_blocks * 512 >= SIZE_BYTES


def test_no_room_is_an_error_that_says_what_to_do_and_leaves_nothing(directory):
    with pytest.raises(SegmentError, match=r"no room for shared state .* lower gw\.shared_state\.size"):
        opened(directory, size_bytes=1 << 44)
    assert [path.name for path in directory.iterdir()] == ["open.lock"]


@needs_root
@pytest.mark.parametrize("what", ["directory", "data", "lock"])
def test_a_strangers_is_refused_and_left_alone(directory, what):
    opened(directory).close()
    data = data_file(directory)
    path = {"directory": directory, "data": data, "lock": data.with_name(data.name + "-lock")}[what]
    os.chown(path, NOBODY, -1)
    with pytest.raises(UntrustedSegment, match="owner 65534"):
        opened(directory)
    assert path.lstat().st_uid == NOBODY
    opened(directory, trust=Trust(owners=[NOBODY])).close()


@pytest.mark.parametrize("what", ["directory", "data"])
def test_what_everybody_may_write_is_refused(directory, what):
    opened(directory).close()
    path = directory if what == "directory" else data_file(directory)
    path.chmod(0o777)
    if what == "directory":
        os.chown(path, os.geteuid(), -1)
    with pytest.raises(UntrustedSegment, match="others than its owner may write"):
        opened(directory)


def test_a_link_in_its_place_is_refused(directory, tmp_path):
    directory.symlink_to(tmp_path)
    try:
        with pytest.raises(SegmentError):
            opened(directory)
        assert list(tmp_path.iterdir()) == []
    finally:
        directory.unlink()


def test_leftovers_of_another_boot_are_taken_away(directory):
    opened(directory).close()
    current = data_file(directory)
    boot = current.name.split(".")[-2]
    old = [current.with_name(current.name.replace(boot, "0" * 32) + end) for end in ("", "-lock")]
    for path in old:
        path.write_bytes(b"of another boot")
    store = opened(directory)
    assert not any(path.exists() for path in old)
    assert store.usage().entries == 0
    store.close()


def ruin_head(path):
    with path.open("r+b") as file:
        file.write(b"\xa5" * 8192)


def cut(path):
    os.truncate(path, 16384)


def empty(path):
    os.truncate(path, 0)


def remove_lock(path):
    path.with_name(path.name + "-lock").unlink()


@pytest.mark.parametrize("ruin", [ruin_head, cut, empty, remove_lock])
def test_what_is_damaged_is_replaced_and_said(directory, caplog, ruin):
    store = opened(directory)
    store.put(b"key", b"value")
    store.close()
    ruin(data_file(directory))
    store = opened(directory)
    assert store.get(b"key") is None
    store.put(b"key", b"new")
    assert store.get(b"key") == b"new"
    assert "beginning with an empty one" in caplog.text
    store.close()


def test_another_size_waits_until_nobody_has_it_open(directory):
    """All must map the same: who comes later takes what is there."""
    store = opened(directory)
    store.put(b"key", b"value")
    store.close()
    store = opened(directory, size_bytes=2 * SIZE_BYTES)
    assert store.get(b"key") == b"value"
    assert store.usage().size_bytes == SIZE_BYTES
    store.close()


def test_who_has_the_old_files_follows_within_a_second(directory):
    clock = HandClock()
    store = opened(directory, clock=clock)
    store.put(b"key", b"old")
    for path in directory.iterdir():
        path.unlink()
    assert store.get(b"key") == b"old"
    clock.now_s += 1
    assert store.get(b"key") is None
    assert store.increment(b"counter", 1, ttl_s=9).value == 1
    assert data_file(directory).exists()
    store.close()


def test_an_environment_that_fails_is_replaced_under_the_operation(directory):
    """As LMDB's own error does; here the environment was closed under it."""
    store = opened(directory)
    store.put(b"key", b"value")
    inode = data_file(directory).lstat().st_ino
    store._env.close()
    assert store.increment(b"counter", 1, ttl_s=9).value == 1
    assert data_file(directory).lstat().st_ino != inode
    store.close()


@pytest.mark.parametrize("seed", range(4))
def test_pages_that_somebody_overwrote_are_met_and_replaced(directory, caplog, seed):
    """Garbage at random in the map of an open state: no operation fails, and it counts on."""
    store, rng = opened(directory), random.Random(seed)
    for number in range(3000):
        store.increment(b"%d" % number, 1, ttl_s=60)
    with data_file(directory).open("r+b") as file:
        for _ in range(40):
            file.seek(rng.randrange(2, 120) * 4096)
            file.write(rng.randbytes(4096))
    for number in range(3000):
        store.increment(b"%d" % rng.randrange(6000), 1, ttl_s=60)
        store.get(b"%d" % number)
    store.items(b"")
    assert "does not work any more" in caplog.text
    store.close()


@pytest.mark.parametrize("key", [b"key", b"k" * 600])
def test_an_entry_that_is_none_of_ours_is_met_and_replaced(directory, key):
    store = opened(directory)
    with store._env.begin(write=True) as transaction:
        transaction.put(stored_key(key), b"?")
    assert store.get(key) is None
    with store._env.begin(write=True) as transaction:
        transaction.put(stored_key(key), b"?")
    assert store.increment(key, 1, ttl_s=9).value == 1
    with store._env.begin(write=True) as transaction:
        transaction.put(b"x?", b"?")
    store.put(b"other", b"value")
    assert store.get(b"other") == b"value"
    store.close()


def test_who_comes_late_to_a_closed_store_takes_nothing_from_the_others(directory):
    clock = HandClock()
    store = opened(directory, clock=clock)
    store.put(b"key", b"value")
    store.close()
    inode = data_file(directory).lstat().st_ino
    for _ in range(2):
        for operation in (lambda: store.get(b"key"), lambda: store.increment(b"counter", 1, 1), store.usage):
            with pytest.raises(SegmentError, match="was closed"):
                operation()
        clock.now_s += 2
    assert data_file(directory).lstat().st_ino == inode
    again = opened(directory)
    assert again.get(b"key") == b"value"
    again.close()


def test_opening_it_twice_in_a_process_is_refused_and_changes_nothing(directory):
    """LMDB's locks belong to the process: a second opening would give up those of the first."""
    store = opened(directory)
    store.put(b"key", b"value")
    with pytest.raises(SegmentError, match="already open"):
        opened(directory)
    assert store.get(b"key") == b"value"
    store.close()


def test_when_it_cannot_be_made_anew_each_operation_says_so_and_the_first_that_can_recovers(directory, caplog):
    store = opened(directory)
    store._env.close()
    away = directory.with_name(directory.name + ".away")
    directory.rename(away)
    directory.write_bytes(b"no directory")
    try:
        for _ in range(3):
            with pytest.raises(SegmentError):
                store.get(b"key")
        assert caplog.text.count("does not work any more") == 1
    finally:
        directory.unlink()
        away.rename(directory)
    store.put(b"key", b"value")
    assert store.get(b"key") == b"value"
    store.close()


def test_remove_state_takes_all_of_it(directory):
    opened(directory).close()
    assert remove_state(directory, Trust())
    assert not directory.exists()
    assert not remove_state(directory, Trust())


@needs_root
def test_remove_state_leaves_a_strangers(directory):
    opened(directory).close()
    os.chown(directory, NOBODY, -1)
    with pytest.raises(UntrustedSegment):
        remove_state(directory, Trust())
    assert data_file(directory).exists()
