"""Every store there is, for the tests of what the Admin API answers."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from sync_agent.stores.base import Store
from tests.support.admin import MakeStore, sqlite_store


@pytest.fixture(params=["sqlite", "etcd"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    """Makes the store of a test; call it inside the event loop."""
    if request.param == "sqlite":
        return lambda: sqlite_store(tmp_path)
    endpoint = request.getfixturevalue("shared_etcd").endpoint

    def make() -> Store:
        from sync_agent.stores.etcd.options import EtcdOptions
        from sync_agent.stores.etcd.store import EtcdStore

        return EtcdStore(EtcdOptions(hosts=(endpoint,), prefix=f"/{uuid4().hex}"))

    return make
