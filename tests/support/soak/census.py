"""What a process holds, read from /proc."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple


class Holdings(NamedTuple):
    """Memory that is a process's own (shared memory is not), descriptors, mapped segments of one gateway."""

    private_kb: int
    descriptors: int
    mapped: tuple[str, ...]


def holdings(pid: int, gateway: str) -> Holdings:
    proc = Path(f"/proc/{pid}")
    status = (proc / "status").read_text()
    [private] = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    prefix = f"/dev/shm/{gateway}."
    mapped = [line.split(maxsplit=5)[5] for line in (proc / "maps").read_text().splitlines() if prefix in line]
    return Holdings(int(private), len(os.listdir(proc / "fd")), tuple(sorted(mapped)))


def client_ports(pid: int, server_ports: set[int]) -> set[int]:
    """The client's port of each connection that the process has accepted on these ports."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link).removeprefix("socket:[").removesuffix("]"))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[9] in inodes and _port(fields[1]) in server_ports:
            found.add(_port(fields[2]))
    return found


def is_stopped(pid: int) -> bool:
    """Whether a SIGSTOP has taken effect."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
