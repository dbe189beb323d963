"""Configurations as real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    """Write a configuration file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write
