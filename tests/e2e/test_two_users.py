"""Agent and workers as two users, as the systemd units run them: each can do its own work and not the other's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.gateway import ADMIN_KEY, BIN, Gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until

# Users that every Debian has; their names are in the configuration, as the units' are.
AGENT, WORKERS, GROUP = "daemon", "nobody", "nogroup"

# Python may lie below a home that only root may enter: in a mount namespace of its own that home is opened.
OPEN_HOME = r"""
set -e
aside=$(mktemp -d)
mount --bind "$1" "$aside"
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir -p "$1"
mount --bind "$aside" "$1"
umount "$aside"
rmdir "$aside"
shift 2
exec "$@"
"""


def as_user(user: str) -> list[str]:
    prefix = Path(sys.base_prefix)
    closed = [parent for parent in prefix.parents if not parent.stat().st_mode & 0o001]
    opened = ["unshare", "-m", "sh", "-c", OPEN_HOME, "sh", str(prefix), str(closed[0])] if closed else []
    return [*opened, "setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups"]


def can_be(user: str) -> bool:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    return subprocess.run([*as_user(user), sys.executable, "-c", "import gw"], capture_output=True).returncode == 0


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place that both users may enter, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="jwtest-users-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.mark.skipif(not can_be(AGENT), reason="needs root, setpriv, and a Python that other users may run")
def test_the_agent_and_the_workers_as_two_users(directory: Path):
    shm = {"group": GROUP, "owners": [AGENT, WORKERS]}
    config = {"gw": {"shm": shm}, "deployment": {"admin": {"admin_key": None}}}
    gateway = Gateway(directory / "gateway", config, workers=1)
    secrets = gateway.directory / "agent.yaml"
    keys = [{"name": "admin", "key": ADMIN_KEY, "role": "admin"}]
    secrets.write_text(yaml.safe_dump({"deployment": {"admin": {"admin_key": keys}}}))
    secrets.chmod(0o600)
    shutil.chown(secrets, AGENT)
    for name, mode in (("run", 0o750), ("data", 0o700)):
        (gateway.directory / name).mkdir(mode=mode)
        shutil.chown(gateway.directory / name, AGENT, GROUP)
    environment = {**os.environ, "JITTERWAY_CONFIG": str(gateway.config_path)}
    agent_command = [*as_user(AGENT), sys.executable, "-m", "sync_agent", "-c", str(gateway.config_path)]
    gunicorn = [str(BIN / "gunicorn"), "-c", "python:gw.server.gunicorn_conf", "gw.app:app"]
    agents: list[subprocess.Popen[bytes]] = []

    def start_agent() -> subprocess.Popen[bytes]:
        with gateway.output_path.open("ab") as output:
            agents.append(subprocess.Popen(agent_command, stdout=output, stderr=subprocess.STDOUT, cwd="/"))
        return agents[-1]

    with running_upstream() as upstream:
        try:
            # The workers first: they wait for the agent, and the table is theirs.
            with gateway.output_path.open("ab") as output:
                command = [*as_user(WORKERS), *gunicorn]
                gateway.process = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd="/"
                )
            agent = start_agent()
            gateway.wait_ready()
            gateway.put_route("1", "/hello", upstream.port)
            gateway.wait_served("/hello")
            status = gateway.convergence()
            assert status["agent"]["pid"] == agent.pid
            assert status["converged"]

            [worker] = gateway.worker_pids()
            owners = {Path(f"/proc/{pid}").stat().st_uid for pid in (agent.pid, worker)}
            assert 0 not in owners
            assert len(owners) == 2
            control = Path("/dev/shm") / f"{gateway.name}.v2.control"
            for allowed, path in (("-w", gateway.directory / "data"), ("-r", secrets), ("-w", control)):
                refused = subprocess.run([*as_user(WORKERS), "test", allowed, str(path)])
                assert refused.returncode == 1, path

            # Each restarts without the other.
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            assert gateway.call("/hello").status == 200
            agent = start_agent()
            wait_until(lambda: gateway.agent_pid() == agent.pid, what="the new agent")
            wait_until(lambda: gateway.admin("GET", "/routes").status == 200, what="the Admin API to be back")
            gateway.put_route("2", "/again", upstream.port)
            gateway.wait_served("/again")
            agent.terminate()
            assert agent.wait(20) == 0
            assert gateway.call("/again").status == 200
            assert gateway.stop(with_signal=signal.SIGTERM) == 0
        except BaseException:
            print(gateway.output())
            raise
        finally:
            for process in agents:
                process.kill()
                process.wait()
            gateway.kill()
