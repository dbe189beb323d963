"""One agent per run directory and name."""

from __future__ import annotations

import os
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
