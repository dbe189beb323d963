"""The loop with real processes: small children in the place of agent and gunicorn."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gw.cli.orders import order_reload
from tests.support.waiting import wait_until

# Starts the supervisor on two scripts given as arguments; prints what it says, and READY when is_ready answered.
HOST = """
import os, sys
from pathlib import Path
from gw.cli.spawn import adopt_orphans, spawn
from gw.cli.steps import AGENT, GUNICORN
from gw.cli.supervision import Supervision
from gw.cli.supervisor import Duties, Supervisor
from gw.clock import SystemClock

scripts = {AGENT: sys.argv[1], GUNICORN: sys.argv[2]}
def launch(child):
    pid = spawn([sys.executable, "-c", scripts[child]], environ=dict(os.environ))
    print("AGENT" if child == AGENT else "GUNICORN", pid, flush=True)
    return pid
adopt_orphans()
duties = Duties(
    launch=launch, is_ready=lambda pid: Path("ready").exists(), announce=lambda: print("READY", flush=True),
    plan=None, hand_over=None,
    stop_listening=lambda: print("CLOSED", flush=True), say=lambda text: print("SAY", text, flush=True))
sys.exit(Supervisor(Supervision(float(sys.argv[3])), duties, SystemClock()).run())
"""

# Those that take a signal wait for it blocked: one that came just before pause() would be noticed only by the next.
OBEDIENT = "import signal; signal.pause()"
STUBBORN = """
import signal, subprocess, sys
signals = (signal.SIGTERM, signal.SIGQUIT)
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
worker = "import signal; signal.signal(15, signal.SIG_IGN); print('WORKER', flush=True); signal.pause()"
child = subprocess.Popen([sys.executable, "-c", worker])
while True: print("GOT", int(signal.sigwait(signals)), flush=True)
"""
GRACEFUL = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
open("ready", "w").close()
signal.sigwait((signal.SIGTERM,))
"""


class Host:
    def __init__(self, directory: Path, agent: str, gunicorn: str, graceful_s: float = 60) -> None:
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(HOST), agent, gunicorn, str(graceful_s)],
                cwd=directory,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def lines(self, word: str) -> list[str]:
        return [line for line in self.output.read_text().splitlines() if line.startswith(word)]

    def wait_for(self, word: str, count: int = 1) -> list[str]:
        return wait_until(lambda: found if len(found := self.lines(word)) >= count else None, what=f"{count} x {word}")

    def pids(self) -> list[int]:
        return [int(line.split()[1]) for word in ("AGENT", "GUNICORN") for line in self.lines(word)]


@pytest.fixture
def hosts():
    made: list[Host] = []
    yield made
    for host in made:
        if host.process.poll() is None:  # the test failed
            host.process.kill()
            for pid in host.pids():  # those that do not heed the signal of our death
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
        host.process.wait(10)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_both_and_announces_only_what_was_ready(tmp_path: Path, hosts: list[Host], number: int) -> None:
    host = Host(tmp_path, GRACEFUL, GRACEFUL)
    hosts.append(host)
    host.wait_for("READY")
    os.killpg(host.process.pid, number)  # as a terminal does: our whole group, not the children's
    assert host.process.wait(20) == 0
    assert len(host.lines("READY")) == 1
    assert host.lines("CLOSED") == ["CLOSED"]
    assert all(map(is_gone, host.pids()))


def test_a_killed_agent_comes_back(tmp_path: Path, hosts: list[Host]) -> None:
    host = Host(tmp_path, OBEDIENT, GRACEFUL)
    hosts.append(host)
    for count in (1, 2, 3):
        line = host.wait_for("AGENT", count)[-1]
        os.kill(int(line.split()[1]), signal.SIGKILL)
    host.wait_for("AGENT", 4)
    host.process.terminate()
    assert host.process.wait(20) == 0
    assert "was ended by SIGKILL" in host.lines("SAY")[0]


def test_a_dead_gunicorn_takes_the_agent_and_its_own_orphans_with_it(tmp_path: Path, hosts: list[Host]) -> None:
    host = Host(tmp_path, OBEDIENT, STUBBORN)
    hosts.append(host)
    host.wait_for("WORKER")
    [gunicorn] = host.wait_for("GUNICORN")
    master = int(gunicorn.split()[1])
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    os.kill(master, signal.SIGKILL)
    assert host.process.wait(20) == 1
    assert children
    assert all(is_gone(int(pid)) for pid in [*children, *host.pids()])


def test_the_second_signal_hurries_and_what_stays_is_killed(tmp_path: Path, hosts: list[Host]) -> None:
    host = Host(tmp_path, OBEDIENT, STUBBORN)
    hosts.append(host)
    host.wait_for("WORKER")
    host.process.send_signal(signal.SIGINT)
    host.wait_for("GOT 15")
    host.process.send_signal(signal.SIGINT)
    host.wait_for("GOT 3")
    assert host.process.wait(20) == 0  # killed after two seconds, with its group
    assert all(map(is_gone, host.pids()))


def test_an_agent_that_refuses_its_configuration_ends_the_start_with_78(tmp_path: Path, hosts: list[Host]) -> None:
    host = Host(tmp_path, "raise SystemExit(78)", OBEDIENT)
    hosts.append(host)
    assert host.process.wait(20) == 78
    assert host.lines("READY") == []


# As HOST, with reloads: the second gunicorn cannot be started, the third can.
RELOADING_HOST = """
import os, sys
from pathlib import Path
from gw.cli.orders import taking_orders
from gw.cli.spawn import adopt_orphans, spawn
from gw.cli.steps import AGENT, Child
from gw.cli.supervision import Supervision
from gw.cli.supervisor import Duties, Supervisor
from gw.cli.trial import Plan
from gw.clock import SystemClock

def launch(child):
    if child == Child(2):
        raise OSError(12, "Cannot allocate memory")
    pid = spawn([sys.executable, "-c", sys.argv[1]], environ=dict(os.environ))
    print("GUNICORN", pid, flush=True)
    return pid
def plan():
    return Plan(60.0, 60.0, "", "", [], [])
adopt_orphans()
with taking_orders(Path("sock")) as orders:
    duties = Duties(
        launch=launch, is_ready=lambda pid: Path("ready").exists(), announce=lambda: print("READY", flush=True),
        plan=plan, hand_over=lambda pid: print("HANDED", pid, flush=True),
        stop_listening=lambda: print("CLOSED", flush=True), say=lambda text: print("SAY", text, flush=True))
    sys.exit(Supervisor(Supervision(60.0, has_agent=False), duties, SystemClock(), orders).run())
"""


def test_a_successor_that_cannot_be_started_does_not_end_the_one_that_serves(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("wb") as file:
        host = subprocess.Popen(
            [sys.executable, "-c", RELOADING_HOST, GRACEFUL], cwd=tmp_path, stdout=file, stderr=file
        )
    try:
        wait_until(lambda: "READY" in output.read_text(), what="the first one to serve")
        failed = order_reload(tmp_path / "sock", host.pid, with_agent=False, timeout_s=20)
        assert not failed.is_done
        assert "SAY cannot start gunicorn: [Errno 12]" in output.read_text()
        done = order_reload(tmp_path / "sock", host.pid, with_agent=False, timeout_s=20)
        assert done.is_done
        first, second = (int(line.split()[1]) for line in output.read_text().splitlines() if "GUNICORN" in line)
        assert f"HANDED {second}" in output.read_text()
        wait_until(lambda: is_gone(first), what="the old one to end")
        host.terminate()
        assert host.wait(20) == 0
        assert is_gone(second)
    finally:
        host.kill()
        host.wait(10)
