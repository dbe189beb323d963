"""Is that process still the one it was? A pid alone does not tell: the kernel gives it out again."""

from pathlib import Path


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (`/proc/<pid>/stat`, field 22).

    None when it is gone, a zombie that only waits for its parent, or hidden from us (another pid namespace; a /proc
    mounted with `hidepid`): what cannot be looked at counts as gone.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # Field 2 is the command's name in parentheses and may hold anything, so count from the last parenthesis on.
    fields = stat[stat.rindex(b")") + 1 :].split()
    state, started = fields[0], fields[19]
    return None if state in (b"Z", b"X") else int(started)


def is_alive(pid: int, started: int) -> bool:
    """Whether the process with this pid and this start time still runs."""
    return pid > 0 and start_time(pid) == started
