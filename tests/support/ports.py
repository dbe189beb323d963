"""Ports nobody uses, and nobody will be given: several processes run tests side by side.

What the kernel gives out by itself it may give to the next who asks, before what shall listen there has started. So
these are others, in blocks, each of which belongs to one process for as long as it lives.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

# Below the ports of outgoing connections (net.ipv4.ip_local_port_range), also by the 10,000 of Redis Cluster's bus.
_ALL = range(10_000, 20_000)
_BLOCK_PORTS = 100


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of 127.0.0.1, free when asked, and not given out again soon."""
    with ExitStack() as stack:
        return list(itertools.islice(_free(stack), count))


def _free(stack: ExitStack) -> Iterator[int]:
    own = _own_ports()
    for _ in range(_BLOCK_PORTS):
        port = next(own)
        try:
            stack.enter_context(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue
        yield port
    raise RuntimeError(f"not enough of the {_BLOCK_PORTS} ports before {next(own)} are free")


@functools.cache
def _own_ports() -> Iterator[int]:
    """The ports of a block that no other process has, round and round. The kernel drops the lock with the process."""
    locks = Path(tempfile.gettempdir()) / f"jwtest-ports-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    for first in _ALL[::_BLOCK_PORTS]:
        descriptor = os.open(locks / str(first), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return itertools.cycle(range(first, first + _BLOCK_PORTS))
    raise RuntimeError(f"all blocks of ports are taken: see who holds the locks in {locks}")
