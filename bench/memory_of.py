"""How much memory processes and a gateway's shared memory take, as the kernel counts it."""

from __future__ import annotations

import re
from pathlib import Path

_SHM = Path("/dev/shm")


def private_mb(pid: int) -> float:
    """What would be free again if this process alone ended: pages that nobody else has mapped, clean or dirty."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", rollup, re.MULTILINE))) / 1024


def mapped_shm_mb(pid: int, name: str) -> float:
    """What a process has touched of the shared memory of the gateway called `name`; counted in each that did."""
    mapped_kb, is_ours = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_ours = f"{_SHM}/{name}." in line
        elif is_ours and line.startswith("Rss:"):
            mapped_kb += int(line.split()[1])
    return mapped_kb / 1024


def segments_mb(name: str) -> tuple[float, int]:
    """What a gateway's segments take of /dev/shm, and how many there are. One unlinked but mapped is not seen."""
    sizes = [path.stat().st_blocks * 512 for path in _SHM.glob(f"{name}.*")]
    return sum(sizes) / 2**20, len(sizes)
