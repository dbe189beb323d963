"""What an nginx costs, all of its processes together: the master, the worker, and old workers that still drain."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Final

from bench.processes import TICKS_PER_S, Nginx

_WORKERS_EVERY_S: Final = 0.05
# Reading a process's memory takes the kernel some 10 ms per GB.
_MEMORY_EVERY_S: Final = 1.0


class NginxCost:
    """Poll it often. `reloads` are the moments (CLOCK_MONOTONIC, ns) at which a new worker was seen."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        self._known = set(nginx.worker_pids)
        self._workers_at_s = self._memory_at_s = 0.0
        self.reloads: list[int] = []
        self.most_workers = 1
        self.private_mb = 0.0
        self.total_mb = 0.0

    def poll(self) -> None:
        """Note new workers, and from time to time the memory, of which the largest counts."""
        now_s = time.monotonic()
        if now_s >= self._workers_at_s:
            self._workers_at_s = now_s + _WORKERS_EVERY_S
            workers = set(self._nginx.worker_pids)
            if workers - self._known:
                self.reloads.append(time.monotonic_ns())
                self._known |= workers
            self.most_workers = max(self.most_workers, len(workers))
        if now_s >= self._memory_at_s:
            self._memory_at_s = now_s + _MEMORY_EVERY_S
            self._note_memory()

    def master_cpu_s(self) -> float:
        """CPU time of the master: reading configurations, and starting workers."""
        return sum(_cpu_fields(self._nginx.master_pid)[:2]) / TICKS_PER_S

    def cpu_s(self) -> float:
        """CPU time of all processes that there are and were."""
        ticks = sum(_cpu_fields(self._nginx.master_pid))
        for pid in self._nginx.worker_pids:
            with contextlib.suppress(OSError):
                ticks += sum(_cpu_fields(pid)[:2])
        return ticks / TICKS_PER_S

    def _note_memory(self) -> None:
        private_kb = total_kb = 0
        for pid in (self._nginx.master_pid, *self._nginx.worker_pids):
            with contextlib.suppress(OSError):
                sizes = _memory_kb(pid)
                private_kb += sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
                total_kb += sizes.get("Pss", 0)
        self.private_mb = max(self.private_mb, private_kb / 1024)
        self.total_mb = max(self.total_mb, total_kb / 1024)


def _cpu_fields(pid: int) -> list[int]:
    """User, system, and both of children that were waited for, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def _memory_kb(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
