"""Turns between real processes: who holds one keeps the others out, and dies without leaving it behind."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gw.rebuild.turn import Turn
from gw.shm.turn_file import make_turn_file
from tests.support.waiting import wait_until

HOLD = """
import sys
from pathlib import Path
from gw.rebuild.turn import Turn
turn = Turn([Path(path) for path in sys.argv[1:]])
print(turn.take(), flush=True)
sys.stdin.read()
"""


@contextmanager
def other_process(*paths: Path) -> Iterator[tuple[subprocess.Popen[str], bool]]:
    """Another worker that asks once for a turn, and whether it has got one."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline() == "True\n"
        finally:
            process.kill()


@contextmanager
def turn(*paths: Path) -> Iterator[Turn]:
    it = Turn(paths)
    try:
        yield it
    finally:
        it.close()


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "gw.full.0.lock", tmp_path / "gw.full.1.lock"


def test_one_holds_until_it_is_killed(paths: tuple[Path, Path]):
    with other_process(paths[0]) as (other, has_turn), turn(paths[0]) as ours:
        assert has_turn
        assert not ours.take()
        assert not ours.is_held
        os.kill(other.pid, signal.SIGKILL)
        wait_until(ours.take, what="the kernel to drop the lock of a process that was killed")
        with other_process(paths[0]) as (_, has_turn):
            assert not has_turn
        ours.release()
        with other_process(paths[0]) as (_, has_turn):
            assert has_turn


def test_as_many_as_there_are_files(paths: tuple[Path, Path]):
    with turn(*paths) as ours, other_process(*paths) as (_, second):
        assert second
        assert ours.take()
        assert ours.take(), "asking again takes no second one"
        with other_process(*paths) as (_, third):
            assert not third


def test_without_the_files_there_is_no_cap_and_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "not-made-yet" / "gw.full.0.lock"
    with caplog.at_level(logging.WARNING), turn(path) as ours:
        for _ in range(2):
            assert ours.take()
            ours.release()
        assert caplog.text.count("does nothing") == 1
        assert str(path) in caplog.text
        # The agent comes later.
        path.parent.mkdir()
        with turn(path) as theirs:
            assert theirs.take()
            assert not ours.take()


def test_a_link_in_the_place_of_a_file_is_not_followed(paths: tuple[Path, Path], tmp_path: Path):
    paths[0].symlink_to(tmp_path / "elsewhere")
    with turn(paths[0]) as ours:
        assert ours.take()
    assert not (tmp_path / "elsewhere").exists()


def test_the_agent_makes_the_files_for_the_workers_group(paths: tuple[Path, Path]):
    before = os.umask(0o077)
    try:
        for _ in range(2):  # a file that is there already is put right
            make_turn_file(paths[0], os.getegid())
            found = paths[0].stat()
            assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o640, os.getegid())
            paths[0].chmod(0o600)
    finally:
        os.umask(before)
