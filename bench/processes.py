"""CPU time of processes, and nginx as reference and upstream."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import wait_until

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pids: Iterable[int]) -> float:
    """User + system time the processes have used so far, seconds (the kernel counts in ticks of 10 ms)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS_PER_S


def pin(pids: Iterable[int], *cores: int) -> None:
    """Keep processes on some cores, so that what is measured and what loads it do not share one."""
    chosen = {core % (os.cpu_count() or 1) for core in cores}
    for thread in _threads(pids):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(thread, chosen)


def raise_priority(pids: Iterable[int], level: int = 1) -> bool:
    """Let what loads and what answers behind come before all else on its core; False where that is not permitted.

    Real-time, since a mere niceness leaves a waking process behind a busy one for milliseconds. Only for what waits
    most of the time. A higher `level` comes before a lower one.
    """
    try:
        for thread in _threads(pids):
            os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(level))
    except OSError:
        return False
    return True


def _threads(pids: Iterable[int]) -> list[int]:
    """All threads: affinity and priority are theirs, and a thread that is there keeps what it has."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found += [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    return found


COMMON = """
worker_processes {workers};
{main}
daemon off;
error_log stderr error;
pid {directory}/nginx.pid;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    keepalive_requests 100000000;
    {http}
}}
"""
BACKEND = """server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{body}"; }} }}"""


class Nginx:
    """One nginx; `port` is where it listens. `main` goes to the top of its configuration.

    `connections`: of one worker at most, which allocates them all when it starts.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        http: str,
        *,
        main: str = "",
        deadline_s: float = 20,
        workers: int = 1,
        connections: int = 4096,
    ) -> None:
        self.port = port
        directory.mkdir(parents=True, exist_ok=True)
        text = COMMON.format(directory=directory, http=http, main=main, workers=workers, connections=connections)
        (directory / "nginx.conf").write_text(text)
        self._process = subprocess.Popen(["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")])
        try:
            wait_until(
                lambda: len(self.worker_pids) == workers, what="nginx to start its workers", deadline_s=deadline_s
            )
        except BaseException:
            self.close()
            raise

    @property
    def master_pid(self) -> int:
        return self._process.pid

    @property
    def worker_pids(self) -> list[int]:
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@contextlib.contextmanager
def running_backend(directory: Path, body_bytes: int) -> Iterator[Nginx]:
    """A backend that answers `body_bytes` bytes, with one worker.

    Raises SystemExit, saying what to install, where there is no nginx.
    """
    if shutil.which("nginx") is None:
        raise SystemExit("this benchmark needs nginx: apt-get install nginx")
    (port,) = free_ports(1)
    backend = Nginx(directory, port, BACKEND.format(port=port, body="x" * body_bytes))
    try:
        yield backend
    finally:
        backend.close()
