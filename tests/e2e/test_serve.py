"""`gw serve`, as the systemd unit runs it: no agent, a directory of its own, and systemd's socket to speak to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.changing_code import Code
from tests.support.gateway import BIN, Gateway
from tests.support.steady_clients import steady_clients
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until


class Unit:
    """The two units' main processes. `environment` is what systemd gives to each command of the workers' unit."""

    def __init__(self, directory: Path) -> None:
        self.gateway = Gateway(directory / "gateway", {"gw": {"drain_timeout": "2s"}})
        self.runtime = directory / "runtime"
        self.runtime.mkdir(mode=0o700)
        (self.gateway.directory / "run").mkdir(mode=0o750)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(directory / "notify"))
        self.socket.settimeout(20)
        self.environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(directory / "notify"),
            "RUNTIME_DIRECTORY": f"{self.runtime}:/somewhere/else",
        }
        self.agent: subprocess.Popen[bytes] | None = None

    def spawn(self, *command: str) -> subprocess.Popen[bytes]:
        with self.gateway.output_path.open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=self.environment, cwd="/")

    def start(self) -> None:
        self.gateway.process = self.spawn(str(BIN / "gw"), "serve", "-c", str(self.gateway.config_path))

    def start_agent(self) -> None:
        self.agent = self.spawn(sys.executable, "-m", "sync_agent", "-c", str(self.gateway.config_path))

    def run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As ExecReload runs it."""
        whole = [str(BIN / "gw"), command, "-c", str(self.gateway.config_path), *arguments]
        return subprocess.run(whole, capture_output=True, text=True, timeout=60, env=self.environment)

    def close(self) -> None:
        self.gateway.kill()
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait(10)
        self.socket.close()


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Code:
    code = Code(tmp_path / "code")
    monkeypatch.setenv("PYTHONPATH", str(code.directory))
    return code


@pytest.fixture
def unit(tmp_path: Path, code: Code) -> Iterator[Unit]:
    unit = Unit(tmp_path)
    try:
        yield unit
    except BaseException:
        print(unit.gateway.output())
        raise
    finally:
        unit.close()


def test_the_unit_starts_without_an_agent_reloads_and_stops(unit: Unit, code: Code):
    gateway = unit.gateway
    unit.start()
    assert unit.socket.recv(4096).startswith(b"READY=1\n")
    early = unit.run("reload")
    assert early.returncode == 1
    assert "the gateway is still starting" in early.stderr

    unit.start_agent()
    assert unit.socket.recv(4096) == b"STATUS=all workers serve"
    gateway.wait_ready()
    assert {path.name for path in unit.runtime.iterdir()} == {f"{gateway.name}.gw.lock", f"{gateway.name}.gw.sock"}
    with running_upstream() as upstream:
        gateway.put_route("1", "/hello", upstream.port)
        gateway.wait_served("/hello")
        with steady_clients(gateway.port, "/hello", each=1) as tally:
            for version in ("2.0", "3.0"):
                code.set_version(version)
                done = unit.run("reload")
                assert done.returncode == 0, done.stderr
                wait_until(
                    lambda server=f"Jitterway/{version}": gateway.call("/hello").headers["server"] == server,
                    what="the new code to answer",
                )
            code.set_dying(True)
            failed = unit.run("reload")
            assert failed.returncode == 1
            assert "exit code 9" in failed.stderr
            code.set_dying(False)
            refused = unit.run("reload", "--agent")
            assert refused.returncode == 1
            assert "the sync agent is not run from here" in refused.stderr
        assert tally.failures == []
    second = unit.run("serve")
    assert second.returncode == 1
    assert f"pid {gateway.process.pid}" in second.stderr

    assert gateway.stop(with_signal=signal.SIGTERM) == 0
    assert unit.agent is not None
    assert gateway.pids() == [unit.agent.pid]
    assert list(unit.runtime.iterdir()) == []
    # The agent's, and the table that its next workers find: `gw stop` is for who wants them gone.
    assert gateway.segments() != []
    # gunicorn and its workers have no business with systemd.
    unit.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        unit.socket.recv(4096)
    unit.agent.terminate()
    assert unit.agent.wait(20) == 0
    assert unit.run("stop").returncode == 0
    assert gateway.left_in_shm() == []


def test_workers_of_somebody_else_are_not_joined(unit: Unit):
    gateway = unit.gateway
    gateway.start()
    refused = unit.run("serve")
    assert refused.returncode == 1
    assert f"workers of '{gateway.name}' run on this host already" in refused.stderr
    assert gateway.stop() == 0


def test_a_refused_configuration_is_78_and_a_directory_that_is_missing_is_told(unit: Unit):
    good = unit.gateway.config_path.read_text()
    unit.gateway.config_path.write_text(good.replace("workers: 2", "workers: many"))
    assert unit.run("serve").returncode == 78
    unit.gateway.config_path.write_text(good)
    unit.runtime.rmdir()
    refused = unit.run("serve")
    assert refused.returncode == 1
    assert "RuntimeDirectory=" in refused.stderr


def test_a_gunicorn_that_dies_ends_the_unit_for_systemd_to_start_it_again(unit: Unit):
    unit.start()
    unit.start_agent()
    unit.gateway.wait_ready()
    [gunicorn] = (
        pid
        for pid in unit.gateway.pids()
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(unit.gateway.process.pid)
    )
    os.kill(gunicorn, signal.SIGKILL)
    wait_until(lambda: unit.gateway.process.poll() == 1, what="gw serve to end, for systemd to start it again")
    assert unit.agent is not None
    assert unit.gateway.pids() == [unit.agent.pid]
