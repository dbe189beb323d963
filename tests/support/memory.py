"""What processes take of memory, as the kernel says."""

from pathlib import Path


def resident_mb(*pids: int) -> float:
    """Of these processes together, in MiB."""
    return sum(_kb(pid, "VmRSS") for pid in pids) / 1024


def peak_mb(pid: int) -> float:
    """The most that this process ever had, in MiB; since `forget_peak` where that was called."""
    return _kb(pid, "VmHWM") / 1024


def forget_peak(pid: int) -> None:
    """The peak counts from here on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _kb(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field))
