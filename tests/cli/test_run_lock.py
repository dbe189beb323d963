"""One `gw start` for each gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gw.cli.run_lock import AlreadyRuns, run_lock
from gw.errors import JitterwayError

HOLD = """
import sys
from pathlib import Path
from gw.cli.run_lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_refused_and_names_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.gw.lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(AlreadyRuns, match=f"pid {first.pid} holds") as caught, run_lock(path):
            raise AssertionError
        assert caught.value.holder is not None
        assert caught.value.holder.pid == first.pid
        assert caught.value.holder.is_alive
        first.kill()
        first.wait(10)
        # The kernel dropped the lock; the file that is left does not count.
        assert path.exists()
        with run_lock(path):
            assert path.read_text().split()[0] == str(os.getpid())
    assert not path.exists()


def test_a_file_that_says_nothing_still_locks(tmp_path: Path) -> None:
    path = tmp_path / "a.gw.lock"
    with run_lock(path):
        os.truncate(path, 0)
        with pytest.raises(AlreadyRuns, match="another process") as caught, run_lock(path):
            raise AssertionError
        assert caught.value.holder is None


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(JitterwayError, match=f"cannot open {tmp_path}: Is a directory"), run_lock(tmp_path):
        raise AssertionError
