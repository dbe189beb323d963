"""What the configuration allows a client, and how connections are used: each setting by what a real worker does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.upstream import Upstream, running_upstream
from tests.support.workers import Workers


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


def test_an_upstreams_connections_are_used_as_often_as_said_there_or_else_here(tmp_path: Path, upstream: Upstream):
    config = {"nginx_config": {"http": {"upstream": {"keepalive_requests": 2}}}}
    nodes = {f"127.0.0.1:{upstream.port}": 1}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.publish(
            {
                "1": {"uri": "/default", "upstream": {"nodes": nodes}},
                "2": {"uri": "/own", "upstream": {"nodes": nodes, "keepalive_pool": {"requests": 1}}},
            }
        )
        workers.wait_ready()
        ports = [workers.request("/default").json()["peer_port"] for _ in range(4)]
        assert ports[0] == ports[1] != ports[2] == ports[3]
        assert len({workers.request("/own").json()["peer_port"] for _ in range(2)}) == 2
