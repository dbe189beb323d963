"""Where the state lies: who may share it, what is refused, what is replaced."""

import os
import stat

import pytest

from gw.errors import SegmentError
from gw.shared.files import StateFiles, remove_state, state_directory
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
    assert str(state_directory(names)) == "/dev/shm/jitterway.v1.state"
    assert not names.owns("/jitterway.v1.state")


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
