"""Shared memory as a host may have it: too small, shared with a neighbour, or planted by somebody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gw.shared.files import state_directory
from gw.shm.names import SegmentNames
from tests.support.gateway import ADMIN_KEY, Gateway, request, running_gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until

SHM = Path("/dev/shm")
# Some 60 KB of configuration in one route.
LABELS = {f"label-{number}": "x" * 250 for number in range(230)}


def can_mount() -> bool:
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /dev/shm"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture
def small_shm_gateway(tmp_path: Path):
    """A gateway in a mount namespace whose /dev/shm has 2 MB, of which the workers' counters take half."""
    if not can_mount():
        pytest.skip("needs root and mount namespaces, to give a gateway a /dev/shm of 2 MB")
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec "$@"', "sh"]
    gateway = Gateway(tmp_path / "gateway", {"gw": {"shm": {"log_size": "128k"}}}, prefix=mount)
    try:
        yield gateway
    finally:
        gateway.kill()


def test_a_full_dev_shm_is_a_clear_error_and_the_last_version_is_served_until_there_is_room(small_shm_gateway: Gateway):
    gateway = small_shm_gateway
    with running_upstream() as upstream:
        gateway.start()
        gateway.put_route("first", "/first", upstream.port)
        gateway.wait_served("/first")

        def agent() -> dict[str, Any]:
            status: dict[str, Any] = gateway.convergence()["agent"]
            return status

        written = 0
        while "no room" not in (agent().get("problem") or ""):
            assert written < 60, "two megabytes of routes must not fit into one"
            reply = gateway.put_route(f"large-{written}", f"/large-{written}", upstream.port, labels=LABELS)
            assert reply.status == 201, "the store has room, whatever shared memory has"
            written += 1
        assert "bytes wanted" in agent()["problem"]
        assert "no room" in gateway.output()
        stuck_at = agent()["version"]
        assert gateway.call("/first").status == 200
        assert gateway.call(f"/large-{written - 1}").status == 404

        gateway.put_route("behind", "/behind", upstream.port)
        assert gateway.process is not None
        remount = ["nsenter", "-m", "-t", str(gateway.process.pid), "mount", "-o", "remount,size=64m", "/dev/shm"]
        subprocess.run(remount, check=True)
        gateway.wait_served("/behind")
        gateway.wait_served(f"/large-{written - 1}")
        assert agent()["problem"] == ""
        assert agent()["version"] > stuck_at
        assert gateway.stop() == 0


def test_a_dev_shm_too_small_to_start_with_says_so(tmp_path: Path):
    if not can_mount():
        pytest.skip("needs root and mount namespaces, to give a gateway a /dev/shm of 1 MB")
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    gateway = Gateway(tmp_path / "gateway", {"gw": {"shm": {"log_size": "8m"}}}, prefix=mount)
    try:
        gateway.start(ready=False)
        wait_until(lambda: "no room" in gateway.output(), what="the reason")
        assert "8388608" in gateway.output() or "bytes wanted" in gateway.output()
        gateway.stop()
    finally:
        gateway.kill()


def test_two_gateways_on_one_host_do_not_meet(tmp_path: Path):
    with (
        running_upstream("one") as up_one,
        running_upstream("two") as up_two,
        running_gateway(tmp_path / "one", workers=1) as one,
        running_gateway(tmp_path / "two", workers=1) as two,
    ):
        one.put_route("1", "/same", up_one.port)
        two.put_route("1", "/same", up_two.port)
        assert one.wait_served("/same").json()["upstream"] == "one"
        assert two.wait_served("/same").json()["upstream"] == "two"
        one.stop()
        assert two.call("/same").json()["upstream"] == "two"
        assert one.left_in_shm() == []
        assert two.segments() != []


def second_agent(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sync_agent", "-c", str(config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_a_second_agent_of_the_same_name_refuses_and_names_the_first(tmp_path: Path):
    with running_gateway(tmp_path / "gateway", workers=1) as gateway:
        pid = gateway.agent_pid()
        same = second_agent(gateway.config_path)
        assert same.returncode == 78
        assert str(pid) in same.stderr
        # Another directory, the same name in shared memory.
        other = Gateway(tmp_path / "other", {"gw": {"shm": {"name": gateway.name}}})
        elsewhere = second_agent(other.config_path)
        assert elsewhere.returncode == 78
        assert str(pid) in elsewhere.stderr
        assert gateway.agent_pid() == pid
        assert gateway.admin("GET", "/routes").status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can plant a segment of another user")
@pytest.mark.parametrize("segment", ["control", "log", "workers", "counters"])
def test_a_strangers_segment_is_refused(tmp_path: Path, segment: str):
    gateway = Gateway(tmp_path / "gateway")
    planted = SHM / f"{gateway.name}.v2.{segment}"
    planted.write_bytes(bytes(4096))
    os.chown(planted, 65534, 65534)
    planted.chmod(0o666)
    try:
        gateway.start(ready=False)
        wait_until(lambda: "65534" in gateway.output(), what="the owner to be named")
        assert "refused" in gateway.output() or "not trusted" in gateway.output()
        with pytest.raises((OSError, AssertionError)):
            assert request(gateway.status_port, "GET", "/status/ready").status == 200
        gateway.stop(with_signal=signal.SIGTERM)
        assert planted.exists()
        assert planted.stat().st_uid == 65534
    finally:
        gateway.kill()
        planted.unlink(missing_ok=True)


def test_segments_that_somebody_removes_are_made_anew(tmp_path: Path):
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway") as gateway:
        gateway.put_route("1", "/hello", upstream.port)
        gateway.wait_served("/hello")
        for name in gateway.segments():
            if not name.endswith("workers"):
                (SHM / name).unlink()
        gateway.put_route("2", "/after", upstream.port)
        gateway.wait_served("/after")
        assert gateway.call("/hello").status == 200


def test_segments_and_socket_are_closed_to_strangers(tmp_path: Path):
    with running_gateway(tmp_path / "gateway", workers=1) as gateway:
        for name in gateway.segments():
            mode = (SHM / name).stat().st_mode & 0o777
            assert mode == (0o660 if name.endswith(("workers", "counters")) else 0o640), name
        state = state_directory(SegmentNames(gateway.name))
        assert state.stat().st_mode & 0o777 == 0o770
        for path in state.iterdir():
            assert path.stat().st_mode & 0o777 == 0o660, path
        for path in (gateway.directory / "run").iterdir():
            assert path.stat().st_mode & 0o007 == 0, path
        for path in (gateway.directory / "data").iterdir():
            with contextlib.suppress(FileNotFoundError):  # what a save has just renamed into its place
                # The access log is for the group to read, as with nginx; the rest is the agent's alone.
                assert path.stat().st_mode & (0o027 if path.name == "logs" else 0o077) == 0, path


def test_workers_hold_no_credentials(tmp_path: Path):
    """Neither their environment nor their memory has the admin key, nor do they load what could talk to a store."""
    with running_gateway(tmp_path / "gateway", workers=1) as gateway:
        [worker] = gateway.worker_pids()
        assert ADMIN_KEY.encode() not in Path(f"/proc/{worker}/environ").read_bytes()
        maps = Path(f"/proc/{worker}/maps").read_text()
        assert "grpc" not in maps
        assert "sqlite" not in maps
        open_files = []
        for link in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed since the directory was read
                open_files.append(os.readlink(link))
        assert not any("config.db" in name for name in open_files)
