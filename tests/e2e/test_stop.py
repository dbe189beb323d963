"""Stopping: what is in flight finishes, and nothing is left."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import signal
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until


@pytest.fixture
def gateway(tmp_path: Path):
    gateway = Gateway(tmp_path / "gateway")
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.kill()


def assert_nothing_left(gateway: Gateway) -> None:
    assert gateway.pids() == []
    assert gateway.left_in_shm() == []
    assert [path.name for path in (gateway.directory / "run").iterdir() if path.is_socket()] == []


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM])
def test_requests_in_flight_finish_and_nothing_is_left(gateway: Gateway, with_signal: int):
    with running_upstream() as upstream, concurrent.futures.ThreadPoolExecutor() as pool:
        upstream.release.set()
        gateway.put_route("1", "/slow", upstream.port)
        gateway.wait_served("/slow")
        upstream.release.clear()
        upstream.arrived.clear()
        slow = pool.submit(gateway.call, "/slow")
        assert upstream.arrived.wait(10)
        assert gateway.process is not None
        gateway.process.send_signal(with_signal)
        # It stops taking connections while the request is still held by the upstream.
        wait_until(lambda: refuses(gateway), what="the listener to close")
        assert not slow.done()
        upstream.release.set()
        assert slow.result(10).status == 200
        assert gateway.process.wait(20) == 0
    assert_nothing_left(gateway)


def refuses(gateway: Gateway) -> bool:
    try:
        gateway.call("/slow-not-a-route")
    except OSError:
        return True
    return False


def test_a_second_signal_is_the_quick_stop(gateway: Gateway):
    with running_upstream() as upstream, concurrent.futures.ThreadPoolExecutor() as pool:
        upstream.release.set()
        gateway.put_route("1", "/slow", upstream.port)
        gateway.wait_served("/slow")
        upstream.release.clear()
        upstream.arrived.clear()
        slow = pool.submit(gateway.call, "/slow")
        assert upstream.arrived.wait(10)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGINT)
        wait_until(lambda: refuses(gateway), what="the listener to close")
        gateway.process.send_signal(signal.SIGINT)
        gateway.process.wait(20)
        with pytest.raises((OSError, http.client.HTTPException)):
            slow.result(10)
    assert_nothing_left(gateway)


def test_gw_stop_stops_it_and_cleans_up_after_a_killed_start(gateway: Gateway):
    done = gateway.gw("stop")
    assert done.returncode == 0, done.stderr
    assert gateway.process is not None
    assert gateway.process.wait(10) == 0
    assert_nothing_left(gateway)

    gateway.start()
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.process.wait(10)
    wait_until(lambda: not gateway.pids(), what="the children to die with their parent")
    assert gateway.segments() != []
    assert gateway.gw("stop").returncode == 0
    assert_nothing_left(gateway)


def test_gw_start_takes_over_after_a_killed_start(gateway: Gateway):
    with running_upstream() as upstream:
        gateway.put_route("1", "/kept", upstream.port)
        gateway.wait_served("/kept")
        before = gateway.convergence()["agent"]["version"]
        assert gateway.process is not None
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait(10)
        wait_until(lambda: not gateway.pids(), what="the children to die with their parent")
        gateway.start()
        assert gateway.call("/kept").status == 200
        assert gateway.convergence()["agent"]["version"] >= before
        assert gateway.stop() == 0
    assert_nothing_left(gateway)


def test_a_second_start_of_the_same_name_is_refused_and_names_the_first(gateway: Gateway):
    second = gateway.gw("start")
    assert second.returncode != 0
    assert gateway.process is not None
    assert str(gateway.process.pid) in second.stderr
    assert gateway.call("/").status == 404
    assert gateway.stop() == 0
