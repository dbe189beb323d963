"""Is that process still the one it was? A pid alone does not tell: the kernel gives it out again."""

from pathlib import Path


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (`/proc/<pid>/stat`, field 22).

    None when it is gone, a zombie that only waits for its parent, or hidden from us (another pid namespace; a /proc
    mounted with `hidepid`): what cannot be looked at counts as gone.
    """
    fields = _fields(pid)
    return None if fields is None else int(fields[19])


def parent(pid: int) -> int | None:
    """The pid of a process's parent; None as above."""
    fields = _fields(pid)
    return None if fields is None else int(fields[1])


def group_members(group: int) -> list[int]:
    """The pids of a process group's living members."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _fields(int(entry.name))) is not None and int(fields[2]) == group:
            found.append(int(entry.name))
    return found


def _fields(pid: int) -> list[bytes] | None:
    """What /proc/<pid>/stat says from field 3 (state) on; None when the process is gone, or about to."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # Field 2 is the command's name in parentheses and may hold anything, so count from the last parenthesis on.
    fields = stat[stat.rindex(b")") + 1 :].split()
    return None if fields[0] in (b"Z", b"X") else fields


def is_alive(pid: int, started: int) -> bool:
    """Whether the process with this pid and this start time still runs."""
    return pid > 0 and start_time(pid) == started
