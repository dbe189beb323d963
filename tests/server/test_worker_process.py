"""Real gunicorn, two workers, and the test as the publisher: no agent."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gw.shm.layout import CellState, RebuildKind
from tests.support.metrics import METRICS_PATH
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, Workers


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


def route_to(upstream: Upstream, uri: str, **more: Any) -> dict[str, Any]:
    return {"uri": uri, "upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}, **more}


def served_by_all(workers: Workers, path: str, status: int) -> None:
    """After convergence every answer, whichever worker gives it, is of the new version."""
    workers.wait_converged()
    assert {workers.request(path).status for _ in range(20)} == {status}


def test_roles_readiness_changes_and_a_killed_worker(tmp_path: Path, upstream: Upstream):
    with Workers(tmp_path) as workers:
        # Without shared memory: everything but traffic.
        assert workers.wait_status("/status", 200).json() == {"status": "ok"}
        wait_until(lambda: len(workers.cells()) == 2, what="both workers to report")
        for cell in workers.cells().values():
            # The first request to a route with a pattern does not wait for them.
            mapped = Path(f"/proc/{cell.pid}/maps").read_text()
            assert "_re2" in mapped
            assert "_regex" in mapped
        not_ready = workers.wait_status("/status/ready", 503).json()
        assert not_ready["status"] == "error"
        assert not_ready["error"].endswith("has not received configuration")
        with pytest.raises(TimeoutError):
            workers.request("/hello", timeout=0.3)

        workers.publish({"1": route_to(upstream, "/hello")})
        workers.wait_ready()
        assert workers.request("/hello").json()["upstream"] == "upstream"

        # Each listener has its own application, and only that.
        assert workers.request("/status", workers.port).status == 404
        assert workers.request("/hello", workers.status_port).status == 404
        assert workers.request("/hello", workers.control_port).json() == {"error_msg": "404 Route Not Found"}
        assert workers.request("/apisix/admin/routes", workers.admin_port).status == 503
        table = workers.request("/v1/convergence", workers.control_port).json()
        assert table["converged"] is True
        assert [worker["cell"] for worker in table["workers"]] == [0, 1]

        workers.publish({"2": route_to(upstream, "/second"), "1": None})
        served_by_all(workers, "/second", 200)
        assert {workers.request("/hello").status for _ in range(20)} == {404}
        assert {cell.rebuild_kind for cell in workers.cells().values()} == {RebuildKind.UPDATE}

        victim = workers.cells()[0].pid
        os.kill(victim, signal.SIGKILL)
        workers.publish({"3": route_to(upstream, "/third")})
        wait_until(
            lambda: 0 in workers.cells() and workers.cells()[0].pid != victim and workers.is_converged(),
            what="a new worker in the lowest free cell that has caught up",
        )
        assert sorted(workers.cells()) == [0, 1]
        served_by_all(workers, "/third", 200)

        # An agent that starts anew goes on where the last one was.
        workers.attach()
        workers.publish({"4": route_to(upstream, "/fourth")})
        served_by_all(workers, "/fourth", 200)

        assert workers.stop() == 0
        assert workers.cells() == {}


def test_a_foreign_host_is_refused_where_the_world_has_no_business(tmp_path: Path):
    with Workers(tmp_path, workers=1) as workers:
        workers.wait_status("/status", 200)
        for port, path in (
            (workers.status_port, "/status"),
            (workers.control_port, "/v1/convergence"),
            (workers.metrics_port, METRICS_PATH),
        ):
            for host, status in [("evil.example", 403), ("localhost:1", 200), ("[::1]:1", 200), ("a@127.0.0.1", 403)]:
                assert workers.request(path, port, headers={"Host": host}).status == status, host
        assert "gunicorn" not in workers.request("/status", workers.status_port).headers["server"]


def test_a_graceful_stop_finishes_requests_and_does_not_wait_for_idle_connections(tmp_path: Path, upstream: Upstream):
    with Workers(tmp_path) as workers, concurrent.futures.ThreadPoolExecutor() as pool:
        workers.publish({"1": route_to(upstream, "/slow")})
        workers.wait_ready()
        idle = http.client.HTTPConnection("127.0.0.1", workers.port, timeout=10)
        idle.request("GET", "/none")
        assert idle.getresponse().read()
        slow = pool.submit(workers.request, "/slow")
        assert upstream.arrived.wait(10)
        assert workers.process is not None
        workers.process.send_signal(signal.SIGTERM)
        wait_until(
            lambda: {cell.state for cell in workers.cells().values()} <= {CellState.DRAINING},
            what="the workers to drain",
        )
        # The idle one is closed while the slow one still runs: the keep-alive time (60 s) plays no part.
        idle.sock.settimeout(10)
        assert idle.sock.recv(1) == b""
        idle.close()
        assert not slow.done()
        upstream.release.set()
        reply = slow.result(10)
        assert reply.status == 200
        assert workers.process.wait(10) == 0


def test_the_grace_period_ends(tmp_path: Path, upstream: Upstream):
    config = {"nginx_config": {"worker_shutdown_timeout": "1s"}}
    with Workers(tmp_path, config, workers=1) as workers, concurrent.futures.ThreadPoolExecutor() as pool:
        workers.publish({"1": route_to(upstream, "/slow")})
        workers.wait_ready()
        slow = pool.submit(workers.request, "/slow")
        assert upstream.arrived.wait(10)
        assert workers.stop() == 0
        with pytest.raises((OSError, http.client.HTTPException)):
            slow.result(10)
    assert "Forcing close of 1 connections" in workers.output()


def test_sigquit_is_quick(tmp_path: Path, upstream: Upstream):
    with Workers(tmp_path) as workers, concurrent.futures.ThreadPoolExecutor() as pool:
        workers.publish({"1": route_to(upstream, "/slow")})
        workers.wait_ready()
        slow = pool.submit(workers.request, "/slow")
        assert upstream.arrived.wait(10)
        # The grace period is 240 s.
        assert workers.stop(signal.SIGQUIT, deadline_s=10) == 0
        with pytest.raises((OSError, http.client.HTTPException)):
            slow.result(10)


@pytest.mark.parametrize("booting", [1, 2])
def test_a_stop_is_heard_by_workers_that_are_still_booting(tmp_path: Path, booting: int):
    with Workers(tmp_path) as workers:
        wait_until(
            lambda: workers.output().count("Booting worker") >= booting, what="workers to boot", every_s=0.001
        )
        # A signal that is lost would cost the grace period, 240 s.
        assert workers.stop(deadline_s=20) == 0


def test_a_reload_replaces_the_workers_without_a_gap(tmp_path: Path, upstream: Upstream):
    with Workers(tmp_path) as workers:
        workers.publish({"1": route_to(upstream, "/hello")})
        workers.wait_ready()
        before = {cell.pid for cell in workers.cells().values()}
        assert workers.process is not None
        workers.process.send_signal(signal.SIGHUP)

        def replaced() -> bool:
            assert workers.request("/hello").status == 200
            cells = workers.cells().values()
            return len(cells) == 2 and not before & {cell.pid for cell in cells} and workers.is_converged()

        wait_until(replaced, what="both workers to be others")
        assert workers.stop() == 0


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"", b""), (b"GET / HTTP/1.1\r\nHo", b"HTTP/1.1 408 "), (b"GET", b"HTTP/1.1 408 ")],
)
def test_a_client_that_does_not_finish_its_head_is_cut_off(tmp_path: Path, sent: bytes, answer: bytes):
    config = {"nginx_config": {"http": {"client_header_timeout": "200ms"}}}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.publish({})
        workers.wait_ready()
        with socket.create_connection(("127.0.0.1", workers.port), timeout=10) as client:
            client.sendall(sent)
            received = b""
            while piece := client.recv(4096):
                received += piece
        assert received.startswith(answer)
        assert bool(received) == bool(answer)


ARGUMENTS = ["-m", "gunicorn", "-c", "python:gw.server.gunicorn_conf", "gw.app:app"]


def test_connections_are_limited_on_the_traffic_listener_alone(tmp_path: Path):
    workers = Workers(tmp_path, workers=1)
    try:
        workers.start(environ={"GUNICORN_CMD_ARGS": "--worker-connections=2"})
        workers.publish({})
        workers.wait_ready()
        clients = [http.client.HTTPConnection("127.0.0.1", workers.port, timeout=10) for _ in range(2)]
        for client in clients:
            client.request("GET", "/")
            assert client.getresponse().read()
        with pytest.raises((OSError, http.client.HTTPException)):
            workers.request("/")
        assert workers.request("/status", workers.status_port).status == 200
        clients[0].close()
        wait_until(lambda: workers.request("/").status == 404, what="room for another connection")
        clients[1].close()
    finally:
        workers.close()


def inherit(workers: Workers, order: list[int]) -> None:
    """Open the listeners here, and start gunicorn with them as systemd does."""
    ports = [workers.port, workers.admin_port, workers.control_port, workers.status_port, workers.metrics_port]
    sockets = [socket.create_server(("127.0.0.1", ports[at])) for at in order]
    launcher = (
        "import os, sys\n"
        "fds = [int(fd) for fd in sys.argv[1].split(',')]\n"
        # Out of the way first: the places from 3 on may be taken by one another.
        "fds = [os.dup2(fd, 100 + n) for n, fd in enumerate(fds)]\n"
        "for n, fd in enumerate(fds): os.dup2(fd, 3 + n)\n"
        "os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_PID=str(os.getpid()))\n"
        f"os.execv(sys.executable, [sys.executable, *{ARGUMENTS!r}])\n"
    )
    fds = [sock.fileno() for sock in sockets]
    with (workers.directory / "output.txt").open("ab") as output:
        workers.process = subprocess.Popen(
            [sys.executable, "-c", launcher, ",".join(map(str, fds))],
            cwd=ROOT,
            env={**os.environ, "JITTERWAY_CONFIG": str(workers.config_path)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=fds,
            start_new_session=True,
        )
    for sock in sockets:
        sock.close()


def test_inherited_sockets_get_their_roles_by_address(tmp_path: Path, upstream: Upstream):
    workers = Workers(tmp_path)
    try:
        inherit(workers, [3, 0, 4, 2, 1])
        workers.wait_status("/status", 200)
        workers.publish({"1": route_to(upstream, "/hello")})
        workers.wait_ready()
        assert workers.request("/hello").status == 200
        assert workers.request("/v1/convergence", workers.control_port).json()["converged"] is True
        assert workers.stop() == 0
    finally:
        workers.close()


def test_a_socket_too_few_stops_the_start_and_is_named(tmp_path: Path):
    workers = Workers(tmp_path)
    try:
        inherit(workers, [0, 1, 3, 4])
        assert workers.process is not None
        assert workers.process.wait(20) == 1
        assert f"no socket was passed for control 127.0.0.1:{workers.control_port}" in workers.output()
        assert "Traceback" not in workers.output()
    finally:
        workers.close()


def test_a_wrong_configuration_stops_the_start_with_its_reason(tmp_path: Path):
    workers = Workers(tmp_path, {"gw": {"workerz": 3}})
    workers.start()
    assert workers.process is not None
    assert workers.process.wait(20) == os.EX_CONFIG
    assert "workerz" in workers.output()
    assert "Traceback" not in workers.output()


HEAVY = (
    *("re2", "regex", "falcon", "httptools", "uvloop", "etcd3", "grpc", "prometheus_client"),
    *("gw.app", "gw.rebuild", "gw.router", "gw.pipeline", "gw.metrics"),
)


def test_the_master_imports_nothing_that_serves(tmp_path: Path):
    workers = Workers(tmp_path)
    code = (
        "import json, sys\n"
        "import gw.server.gunicorn_conf, gw.server.worker\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "JITTERWAY_CONFIG": str(workers.config_path)},
        capture_output=True,
        text=True,
    )
    assert json.loads(done.stdout) == [], done.stderr
