"""What goes wrong on a host: processes are killed, stand still, and somebody removes a segment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Final

from gw.shm.cells import WorkerTable
from gw.shm.names import SegmentNames
from gw.shm.segment import PosixSpace
from tests.support.gateway import Gateway
from tests.support.soak.book import Book, Work
from tests.support.soak.census import client_ports, is_stopped
from tests.support.waiting import wait_until

# Between two events, seconds.
PAUSE_S: Final = (1.0, 4.0)
# A stopped worker answers nobody meanwhile: within the patience of every client.
STOPPED_S: Final = (0.2, 1.5)


class Chaos(Work):
    """One event after the other. The worker `elder` is never killed; the agent only until `spare_agent_s`."""

    def __init__(self, gateway: Gateway, book: Book, seed: int, *, elder: int, spare_agent_s: float) -> None:
        super().__init__(book, "chaos")
        self._gateway = gateway
        self._random = random.Random(seed)
        self._elder = elder
        self._spare_agent_s = spare_agent_s
        self._table = WorkerTable.open(PosixSpace(), SegmentNames(gateway.name))
        self._server_ports = {gateway.port, gateway.admin_port}

    def work(self) -> None:
        events = [self._kill_agent, self._kill_agent, self._kill_worker, self._kill_worker, self._stop_worker]
        events.append(self._unlink_control)
        # A round of each first, so that the shortest soak has had them all.
        plan = self._random.sample(events, len(events))
        while not self.book.ending.wait(self._random.uniform(*PAUSE_S)):
            (plan.pop() if plan else self._random.choice(events))()
        self._table.close()

    def _workers(self) -> list[int]:
        return sorted(cell.pid for _, cell in self._table.live() if cell.version)

    def _kill_agent(self) -> None:
        if time.monotonic() > self._spare_agent_s:
            return
        self.book.note_agent_away()
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent_pid(self._gateway), signal.SIGKILL)
        self.book.count("agents killed")

    def _kill_worker(self) -> None:
        """Stopped first, so that what it has accepted can be read before it is gone."""
        wait_until(lambda: len(self._workers()) >= 2, what="two workers that serve", deadline_s=60)
        victim = self._random.choice([pid for pid in self._workers() if pid != self._elder])
        os.kill(victim, signal.SIGSTOP)
        wait_until(lambda: is_stopped(victim), what="a worker to stand still", every_s=0.001)
        self.book.doom(client_ports(victim, self._server_ports))
        os.kill(victim, signal.SIGKILL)
        self.book.count("workers killed")

    def _stop_worker(self) -> None:
        pid = self._random.choice(self._workers())
        os.kill(pid, signal.SIGSTOP)
        self.book.ending.wait(self._random.uniform(*STOPPED_S))
        os.kill(pid, signal.SIGCONT)
        self.book.count("workers stopped")

    def _unlink_control(self) -> None:
        self.book.note_agent_away()
        Path(f"/dev/shm/{self._gateway.name}.v2.control").unlink(missing_ok=True)
        self.book.count("control segments unlinked")


def agent_pid(gateway: Gateway) -> int:
    """The agent as `gw start` knows it, by its command."""
    for pid in gateway.pids():
        with contextlib.suppress(OSError):
            if b"sync_agent" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    raise ProcessLookupError("there is no agent at this moment")
