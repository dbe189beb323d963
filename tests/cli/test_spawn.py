"""Starting a real child: its sockets, its process group, its signals, and that it dies with us."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gw.cli.sockets import CannotListen, listening
from gw.cli.spawn import module_command, spawn
from gw.server.listeners import Listener
from tests.support.ports import free_ports
from tests.support.waiting import wait_until

REPORT = """
import json, os, signal, socket, sys
print_to = sys.argv[1]
sockets = [socket.socket(fileno=3 + n) for n in range(int(os.environ.get("LISTEN_FDS", 0)))]
json.dump({
    "pid": os.getpid(), "listen_pid": os.environ.get("LISTEN_PID"), "pgid": os.getpgid(0),
    "ports": [sock.getsockname()[1] for sock in sockets],
    "open": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "stdin": os.readlink("/proc/self/fd/0"), "variable": os.environ.get("A_VARIABLE"),
    "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
    "ignored": next(line.split()[1] for line in open("/proc/self/status") if line.startswith("SigIgn")),
}, open(print_to, "w"))
"""


def run_reporter(tmp_path: Path, listen_fds: list[int]) -> dict[str, object]:
    out = tmp_path / "report.json"
    environ = {**os.environ, "A_VARIABLE": "x"}
    pid = spawn([sys.executable, "-c", REPORT, str(out)], environ=environ, listen_fds=listen_fds)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    report: dict[str, object] = json.loads(out.read_text())
    assert report["pid"] == pid
    return report


def test_sockets_are_passed_from_three_on_in_their_order(tmp_path: Path) -> None:
    ports = free_ports(3)
    wanted = [Listener("traffic", "127.0.0.1", port) for port in ports]
    with listening(wanted) as sockets:
        # The worst order: sources that are each other's targets.
        report = run_reporter(tmp_path, [sock.fileno() for sock in reversed(sockets)])
    assert report["ports"] == ports[::-1]
    assert report["listen_pid"] == str(report["pid"])
    # 0 to 2, three sockets, and the one that reads /proc/self/fd.
    assert report["open"] == list(range(7))


def test_a_child_has_a_clean_slate(tmp_path: Path) -> None:
    report = run_reporter(tmp_path, [])
    assert report["pgid"] == report["pid"]
    assert report["stdin"] == "/dev/null"
    assert report["variable"] == "x"
    assert report["listen_pid"] is None
    assert report["blocked"] == []
    # Python itself ignores SIGPIPE and SIGXFSZ again. Nothing else may be ignored, but for the C library's own signals
    # (32 and 33), which nobody can set and which a test runner may have been started with.
    ignored = {number for number in range(1, 32) if int(str(report["ignored"]), 16) >> (number - 1) & 1}
    assert ignored <= {signal.SIGPIPE, signal.SIGXFSZ}


def test_a_program_that_is_not_there_is_exit_code_127(capfd: pytest.CaptureFixture[str]) -> None:
    pid = spawn(["/no/such/program"], environ={})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 127
    assert "cannot start /no/such/program" in capfd.readouterr().err


def test_a_child_dies_with_its_parent_however_that_dies() -> None:
    program = f"""
        import os, signal, sys
        from gw.cli.spawn import spawn
        print(spawn([{sys.executable!r}, "-c", "import signal; signal.pause()"], environ=dict(os.environ)), flush=True)
        signal.pause()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.kill()
            poller = select.poll()
            poller.register(child, select.POLLIN)
            assert poller.poll(10_000)
        finally:
            os.close(child)


def test_modules_are_started_without_the_working_directory_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "gw").mkdir()
    (tmp_path / "gw" / "__init__.py").write_text("raise SystemExit(9)")
    done = subprocess.run([*module_command("gw.cli.main"), "version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:9]) == (0, "jitterway")


def test_an_address_in_use_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wanted = [Listener("traffic", "127.0.0.1", free_ports(1)[0]), Listener("control", "127.0.0.1", port)]
        reason = rf"apisix.control: cannot listen on 127.0.0.1:{port}: another process"
        with pytest.raises(CannotListen, match=reason), listening(wanted):
            raise AssertionError
    with pytest.raises(CannotListen, match=r"no such address"), listening([Listener("status", "192.0.2.1", 7085)]):
        raise AssertionError


def test_one_port_for_both_families() -> None:
    port = free_ports(1)[0]
    with listening([Listener("traffic", "::", port), Listener("traffic", "0.0.0.0", port)]) as sockets:
        assert [sock.getsockname()[1] for sock in sockets] == [port, port]
    # Closed at the end: taken again at once.
    wait_until(lambda: socket.create_server(("127.0.0.1", port)).close() is None, what="the port to be free")
