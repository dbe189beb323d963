"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd import Etcd, running_etcd


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """A real etcd of this test alone."""
    with running_etcd(tmp_path / "etcd") as server:
        yield server
