"""What processes take of memory, as the kernel says."""

from pathlib import Path


def resident_mb(*pids: int) -> float:
    """Of these processes together, in MiB."""
    return sum(_resident_kb(pid) for pid in pids) / 1024


def _resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
