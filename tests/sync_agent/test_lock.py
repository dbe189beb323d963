"""One agent per run directory and name."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gw.errors import ConfigError
from sync_agent.lock import held_lock


def test_a_second_one_is_refused_and_names_the_first_until_that_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.agent.lock"
    with held_lock(path), pytest.raises(ConfigError, match=f"pid {os.getpid()} holds {path}"), held_lock(path):
        raise AssertionError
    with held_lock(path):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"cannot open {tmp_path}: Is a directory"), held_lock(tmp_path):
        raise AssertionError


def test_a_holder_that_is_dying_is_waited_for(tmp_path: Path) -> None:
    """As after kill -9 of an agent: its pid is gone, and something of it still holds the lock for a moment."""
    path = tmp_path / "a.agent.lock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    path.write_text(f"{gone.pid}\n")
    holding = f"import fcntl, sys; f = open({str(path)!r}); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as last:
        assert last.stdin is not None
        assert last.stdout is not None
        last.stdout.readline()
        threading.Timer(0.2, last.stdin.close).start()
        with held_lock(path):
            assert path.read_text() == f"{os.getpid()}\n"
