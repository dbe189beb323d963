"""The generated admin key: once, private, whole."""

from __future__ import annotations

import concurrent.futures
import os
import stat
from pathlib import Path

import pytest

from gw.errors import ConfigError
from sync_agent.admin_key import ensure_admin_key


def test_it_is_made_once_and_for_us_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "admin.key"
    before = os.umask(0)
    try:
        key = ensure_admin_key(path)
    finally:
        os.umask(before)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() == key + "\n"
    assert ensure_admin_key(path) == key
    assert os.listdir(path.parent) == ["admin.key"]


def test_two_gateways_get_two_keys(tmp_path: Path) -> None:
    assert ensure_admin_key(tmp_path / "a") != ensure_admin_key(tmp_path / "b")


def test_all_who_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: ensure_admin_key(tmp_path / "admin.key"), range(64)))
    assert len(set(keys)) == 1
    assert os.listdir(tmp_path) == ["admin.key"]


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("0123456789abcdef0123456789abcdef\n", 0o640, "mode is 0640"),
        ("", 0o600, "shorter than 16"),
        ("tiny\n", 0o600, "remove the file"),
        ("edd1c9f034335f136f87ad84b625c8f1\n", 0o600, "APISIX published"),
    ],
)
def test_a_file_that_will_not_do_is_refused(tmp_path: Path, content: str, mode: int, reason: str) -> None:
    path = tmp_path / "admin.key"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=reason) as caught:
        ensure_admin_key(path)
    assert not content.strip() or content.strip() not in str(caught.value)


def test_a_key_of_ones_own_choice_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text("  my-own-long-enough-key \n")
    path.chmod(0o600)
    assert ensure_admin_key(path) == "my-own-long-enough-key"


def test_no_link_is_followed_and_no_directory_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="cannot be kept"):
        ensure_admin_key(tmp_path / "link")
    (tmp_path / "directory").mkdir()
    with pytest.raises(ConfigError):
        ensure_admin_key(tmp_path / "directory")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be kept"):
        ensure_admin_key(tmp_path / "file" / "admin.key")
