"""`gw reload` under load: no request fails, and what is no good leaves the old workers serving."""

from __future__ import annotations

import concurrent.futures
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from tests.support.changing_code import Code
from tests.support.gateway import BIN, Gateway
from tests.support.steady_clients import Wire, request, steady_clients
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import DEADLINE_S, wait_until

DRAIN_S = 3


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Code:
    code = Code(tmp_path / "code")
    monkeypatch.setenv("PYTHONPATH", str(code.directory))
    return code


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


@pytest.fixture
def gateway(tmp_path: Path, code: Code, upstream: Upstream) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path / "gateway", {"gw": {"drain_timeout": f"{DRAIN_S}s", "reload_timeout": "60s"}})
    try:
        gateway.start()
        gateway.put_route("1", "/*", upstream.port)
        gateway.wait_served("/hello")
        yield gateway
        assert gateway.stop() == 0, gateway.output()
        assert gateway.pids() == []
        assert gateway.left_in_shm() == []
        # What `gw start` leaves in its directory are the lock files of full rebuilds, and nothing of its own.
        left = [path.name for path in (gateway.directory / "run").iterdir()]
        assert not [name for name in left if name.endswith((".gw.lock", ".sock"))], left
    except BaseException:
        print(gateway.output())
        raise
    finally:
        gateway.kill()


def master_pid(gateway: Gateway) -> int:
    table = WorkerTable.open(PosixSpace(), SegmentNames(gateway.name), writable=False)
    try:
        return table.master_pid
    finally:
        table.close()


def server_of(gateway: Gateway) -> str:
    return gateway.call("/hello").headers["server"]


def edit(gateway: Gateway, section: str, **values: object) -> str:
    """Change the configuration file; what it held before."""
    before = gateway.config_path.read_text()
    config = yaml.safe_load(before)
    config[section].update(values)
    gateway.config_path.write_text(yaml.safe_dump(config))
    return before


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_new_alone(gateway: Gateway, version: str) -> None:
    """Wait until the old workers have heard that they are to accept no more, and see that they do not."""

    def all_new() -> bool:
        return {server_of(gateway) for _ in range(10)} == {f"Jitterway/{version}"}

    wait_until(all_new, what=f"all new connections to go to {version}")
    assert all_new()


def wait_old_gone(gateway: Gateway, old: set[int]) -> None:
    wait_until(lambda: not old & set(gateway.pids()), what="the old gunicorn and its workers to end")


def test_five_reloads_under_load_lose_nothing(gateway: Gateway, code: Code, upstream: Upstream):
    assert gateway.process is not None
    before = descriptors(gateway.process.pid), len(gateway.pids()), sorted(gateway.segments())
    masters = {master_pid(gateway)}
    with steady_clients(gateway.port, "/hello") as tally, concurrent.futures.ThreadPoolExecutor() as pool:
        for number in range(5):
            code.set_version(f"2.{number}")
            upstream.arrived.clear()
            upstream.release.clear()
            slow = pool.submit(gateway.call, "/slow")
            assert upstream.arrived.wait(DEADLINE_S)
            last_before, old = tally.last, set(gateway.worker_pids()) | {master_pid(gateway)}
            done = gateway.gw("reload")
            assert done.returncode == 0, done.stderr
            assert "reloaded" in done.stdout
            # Whatever the old workers still hold, new connections are the new ones'.
            wait_new_alone(gateway, f"2.{number}")
            assert not slow.done()
            wait_until(lambda last=last_before: tally.last > last, what="an answer that says it is the last")
            upstream.release.set()
            assert slow.result(DEADLINE_S).status == 200
            wait_old_gone(gateway, old)
            masters.add(master_pid(gateway))
    assert tally.failures == []
    assert tally.answers > 100
    assert {f"Jitterway/{version}" for version in ("1.0", *(f"2.{n}" for n in range(5)))} == set(tally.servers)
    assert len(masters) == 6
    wait_until(
        lambda: (descriptors(gateway.process.pid), len(gateway.pids()), sorted(gateway.segments())) == before,
        what="as many descriptors, processes and segments as before",
    )
    assert {worker["state"] for worker in gateway.convergence()["workers"]} == {"serving"}
    gateway.apply({"routes_2": {"uri": "/new", "upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}})
    assert gateway.call("/new").status == 200


def test_an_idle_connection_is_answered_once_more_or_closed_when_its_time_is_over(gateway: Gateway, code: Code):
    old = set(gateway.worker_pids())
    with Wire(gateway.port) as idle, Wire(gateway.port) as never_used, Wire(gateway.port) as silent:
        for wire in (idle, silent):
            wire.send(request("/hello"))
            assert not wire.answer().is_last
        # The kernel completes a connection by itself: it is the old workers' only once one of them has accepted it.
        wait_until(lambda: accepted(gateway, old) >= 3, what="the old workers to have three connections")
        code.set_version("2.0")
        assert gateway.gw("reload").returncode == 0
        for wire in (idle, never_used):
            wire.send(request("/hello"))
            answer = wire.answer()
            assert answer.is_last
            assert answer.header("server") == "Jitterway/1.0"
            wire.expect_end()
        silent.expect_end()
    wait_old_gone(gateway, old)


def accepted(gateway: Gateway, pids: set[int]) -> int:
    """How many connections from clients these processes hold on the traffic port."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].partition(":")[2], 16) == gateway.port and fields[3] == "01":
            inodes.add(f"socket:[{fields[9]}]")
    found = 0
    for pid in pids:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found += os.readlink(entry) in inodes
            except OSError:
                continue
    return found


def test_a_response_under_way_promised_another_request(gateway: Gateway, code: Code):
    """Its head went out before the reload and did not say that it is the last: the next request is answered, too."""
    streaming = socket.create_server(("127.0.0.1", 0))
    port = streaming.getsockname()[1]
    gateway.apply({"routes_2": {"uri": "/stream", "upstream": {"nodes": {f"127.0.0.1:{port}": 1}}}})
    old = set(gateway.worker_pids())
    with streaming, socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as client:
        client.sendall(request("/stream"))
        upstream, _ = streaming.accept()
        with upstream:
            upstream.recv(65536)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
            received = b""
            while not received.endswith(b"first"):
                received += client.recv(65536)
            assert b"onnection: close" not in received
            assert gateway.gw("reload").returncode == 0
            upstream.sendall(b"later")
            while not received.endswith(b"later"):
                received += client.recv(65536)
        client.sendall(request("/hello"))
        received = b""
        while piece := client.recv(65536):
            received += piece
        assert received.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in received.lower()
    wait_old_gone(gateway, old)


def test_what_is_no_good_leaves_the_old_workers_serving(gateway: Gateway, code: Code):
    code.set_version("2.0")
    old = sorted(gateway.pids())

    def is_refused(*reasons: str) -> None:
        done = gateway.gw("reload")
        assert done.returncode == 1, done.stdout
        for reason in reasons:
            assert reason in done.stderr
        assert server_of(gateway) == "Jitterway/1.0"
        assert gateway.convergence()["expected_workers"] == 2
        wait_until(lambda: sorted(gateway.pids()) == old, what="nothing to be left of the attempt")

    with steady_clients(gateway.port, "/hello", each=1) as tally:
        good = edit(gateway, "gw", workers="many")
        is_refused("configuration refused", "gw.workers: must be")
        gateway.config_path.write_text(good)

        edit(gateway, "apisix", status={"ip": "127.0.0.1", "port": gateway.metrics_port + 1})
        is_refused("a reload cannot change the listeners", f"status 127.0.0.1:{gateway.status_port}", "start it again")
        gateway.config_path.write_text(good)

        code.set_broken(True)
        is_refused("the new code does not load", "import of falcon halted")
        code.set_broken(False)

        code.set_dying(True)
        is_refused("the new gunicorn ended with exit code 9 before its workers served", "the old one goes on")
        code.set_dying(False)

        edit(gateway, "gw", reload_timeout="1s")
        code.hold_gunicorn(True)
        is_refused("not all new workers served within 1 s", "the old ones go on")
        code.hold_gunicorn(False)
        gateway.config_path.write_text(good)
    assert tally.failures == []
    assert gateway.gw("reload").returncode == 0
    wait_new_alone(gateway, "2.0")


def test_a_reload_reads_the_settings_anew_and_changes_the_agent_when_told(gateway: Gateway):
    agent = gateway.agent_pid()
    edit(gateway, "gw", workers=1)
    assert gateway.gw("reload").returncode == 0
    wait_until(
        lambda: [worker["state"] for worker in gateway.convergence()["workers"]] == ["serving"],
        what="one worker to be left",
    )
    assert gateway.agent_pid() == agent
    assert gateway.gw("reload", "--agent").returncode == 0
    wait_until(lambda: gateway.agent_pid() != agent, what="another agent")
    wait_until(lambda: gateway.admin("GET", "/routes").status == 200, what="the Admin API to be back")


def test_the_old_master_may_be_killed_while_its_workers_drain(gateway: Gateway, code: Code, upstream: Upstream):
    upstream.arrived.clear()
    code.set_version("2.0")
    with steady_clients(gateway.port, "/hello", each=1) as tally, concurrent.futures.ThreadPoolExecutor() as pool:
        slow = pool.submit(gateway.call, "/slow")
        assert upstream.arrived.wait(DEADLINE_S)
        old_master, old_workers = master_pid(gateway), set(gateway.worker_pids())
        assert gateway.gw("reload").returncode == 0
        os.kill(old_master, signal.SIGKILL)
        wait_until(lambda: old_master not in gateway.pids(), what="the old master to be gone")
        assert old_workers & set(gateway.pids()), "the one with the slow request drains without it"
        wait_new_alone(gateway, "2.0")
        upstream.release.set()
        assert slow.result(DEADLINE_S).status == 200
        wait_old_gone(gateway, old_workers)
    assert tally.failures == []
    assert gateway.gw("reload").returncode == 0


def test_the_old_master_may_be_killed_before_the_new_one_serves(gateway: Gateway, code: Code, upstream: Upstream):
    upstream.arrived.clear()
    code.set_version("2.0")
    code.hold_gunicorn(True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reload = pool.submit(gateway.gw, "reload")
        wait_until(lambda: code.is_gunicorn_held, what="the new gunicorn to be started")
        slow = pool.submit(gateway.call, "/slow")
        assert upstream.arrived.wait(DEADLINE_S)
        os.kill(master_pid(gateway), signal.SIGKILL)
        code.hold_gunicorn(False)
        assert reload.result(DEADLINE_S).returncode == 0
        upstream.release.set()
        assert slow.result(DEADLINE_S).status == 200
    wait_new_alone(gateway, "2.0")


def test_two_reloads_at_once(gateway: Gateway, code: Code):
    code.set_version("2.0")
    code.hold_gunicorn(True)
    command = [str(BIN / "gw"), "reload", "-c", str(gateway.config_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as first:
        wait_until(lambda: code.is_gunicorn_held, what="the new gunicorn to be started")
        second = gateway.gw("reload")
        assert second.returncode == 1
        assert "a reload is under way already" in second.stderr
        code.hold_gunicorn(False)
        assert first.wait(DEADLINE_S) == 0
    wait_new_alone(gateway, "2.0")


def test_an_old_master_that_hangs_is_killed_with_its_workers(gateway: Gateway, code: Code):
    edit(gateway, "gw", workers=1)
    config = yaml.safe_load(gateway.config_path.read_text())
    gateway.config_path.write_text(yaml.safe_dump({**config, "nginx_config": {"worker_shutdown_timeout": "1s"}}))
    assert gateway.gw("reload").returncode == 0  # the time of the one that will hang
    hanging, workers = master_pid(gateway), set(gateway.worker_pids())
    os.kill(hanging, signal.SIGSTOP)
    code.set_version("2.0")
    assert gateway.gw("reload").returncode == 0
    wait_old_gone(gateway, {hanging, *workers})
    wait_new_alone(gateway, "2.0")


def test_a_stop_during_a_reload_stops_both(gateway: Gateway, code: Code):
    code.hold_gunicorn(True)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        reload = pool.submit(gateway.gw, "reload")
        wait_until(lambda: code.is_gunicorn_held, what="the new gunicorn to be started")
        assert gateway.stop() == 0
        done = reload.result(DEADLINE_S)
    assert done.returncode == 1
    assert "the gateway is stopping" in done.stderr


def test_a_reload_of_what_does_not_run_says_so(tmp_path: Path):
    done = Gateway(tmp_path).gw("reload")
    assert done.returncode == 1
    assert "no `gw start` of" in done.stderr
