"""Several real processes on one state, and kill -9 at any moment of theirs."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gw.clock import SystemClock
from gw.shared.store import SharedStore
from tests.shared.counting import SIZE_BYTES

ROOT = Path(__file__).resolve().parents[2]
KILLS = 50


@contextlib.contextmanager
def counting(directory: Path, what: str, key: str = "counter") -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.shared.counting", str(directory), what, key]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def store(directory):
    store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
    yield store
    store.close()


def lines_until_killed(process: subprocess.Popen[bytes], wanted: int) -> list[int]:
    """What it printed, killed once it has printed so many lines."""
    numbers = [int(process.stdout.readline()) for _ in range(wanted)]
    process.kill()
    # What is cut was printed by halves only: the operation was over.
    return numbers + [int(line) for line in process.stdout.read().splitlines()]


def test_no_increment_of_several_processes_is_lost_or_told_twice(directory, store):
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(counting(directory, "increment")) for _ in range(3)]
        told = [store.increment(b"counter", 1, ttl_s=3600).value for _ in range(5000)]
        for process in processes:
            told += lines_until_killed(process, 2000)
    assert len(told) == len(set(told))
    reached = store.increment(b"counter", 0, ttl_s=3600).value
    # A process may have been killed between the operation and its line.
    assert len(told) <= reached <= len(told) + len(processes)


def test_50_kills_at_any_moment_lose_nothing_that_was_done(directory, store):
    """Increments and writes of new entries, killed while others work: nobody hangs, and each counter is what it was."""
    rng = random.Random(5)
    told = 0
    with counting(directory, "increment", "other") as other:
        for kill in range(KILLS):
            what = ("increment", "put")[kill % 2]
            with counting(directory, what) as process:
                if what == "put":
                    assert process.stdout.readline() == b"begun\n"
                    for number in range(rng.randrange(3000)):
                        store.put(b"mine %d" % number, b"value", ttl_s=60)
                    process.kill()
                else:
                    told = max(lines_until_killed(process, rng.randrange(1, 200)))
            reached = store.increment(b"counter", 0, ttl_s=3600).value
            assert told <= reached <= told + KILLS
            store.put(b"after", b"%d" % kill)
            assert store.get(b"after") == b"%d" % kill
        assert other.poll() is None
        assert lines_until_killed(other, 10)


def test_a_reader_that_was_killed_holds_nothing(directory, store):
    """Its slot would keep every page from being used again, until the map is full."""
    store.put(b"counter", b"value")
    for _ in range(3):
        with counting(directory, "read") as reader:
            assert reader.stdout.readline() == b"begun\n"
            reader.kill()
            reader.wait()
    inode = store._inode
    for number in range(20_000):
        store.put(b"%d" % number, bytes(1000), ttl_s=60)
    assert store._inode == inode
    assert store._env.info()["num_readers"] <= 2
    assert store.get(b"19999") is not None


@pytest.mark.parametrize("what", ["get", "open"])
def test_a_reader_that_is_stopped_costs_nobody_a_count(directory, store, what):
    """It would keep every page that is freed meanwhile: after 370 counts the full map was replaced, counts and all."""
    inode = store._inode
    assert store.increment(b"counter", 1, ttl_s=3600).value == 1
    with counting(directory, what) as reader:
        assert reader.stdout.readline() == b"begun\n"
        told = [store.increment(b"counter", 1, ttl_s=3600).value for _ in range(2000)]
        assert reader.stdout.readline() == b"over\n"
    assert told == list(range(2, 2002))
    assert store._inode == inode


def test_a_reader_that_does_not_end_is_outlasted_for_a_while_only(directory, store, monkeypatch):
    monkeypatch.setattr("gw.shared.store.OUTLAST_MS", 5)
    inode = store._inode
    with counting(directory, "read") as reader:
        assert reader.stdout.readline() == b"begun\n"
        for _ in range(500):
            store.increment(b"counter", 1, ttl_s=3600)
    assert store._inode != inode
    assert store.increment(b"counter", 1, ttl_s=3600).value < 501


def test_no_operation_reads_as_those_who_keep_pages(directory, store):
    """Their slots stay in the table when they have read, so who had read once, also to join, shows in it."""
    with counting(directory, "increment") as process:
        assert int(process.stdout.readline()) >= 1
        store.put(b"key", b"value", ttl_s=60)
        assert store.get(b"key") == b"value"
        assert store.items(b"k") == [(b"key", b"value")]
        assert store.usage().entries == 2
        store.delete(b"key")
        assert store._env.readers() == "(no active readers)\n"


def test_the_state_outlives_all_its_processes(directory):
    for expected in (1, 2, 3):
        store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
        assert store.increment(b"counter", 1, ttl_s=3600).value == expected
        store.close()
    with counting(directory, "increment") as process:
        assert int(process.stdout.readline()) == 4
        process.send_signal(signal.SIGKILL)
        process.wait()
    store = SharedStore.open(directory, SIZE_BYTES, SystemClock())
    assert store.increment(b"counter", 1, ttl_s=3600).value >= 5
    store.close()


def test_many_that_open_at_once_meet_in_one(directory):
    """As the workers of a host start: whoever comes first creates it, whole, and the others join."""
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(counting(directory, "increment")) for _ in range(6)]
        firsts = [int(process.stdout.readline()) for process in processes]
    assert len(set(firsts)) == len(firsts)
    files = [name for name in os.listdir(directory) if name.endswith(".mdb")]
    assert len(files) == 1
