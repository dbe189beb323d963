"""Memory of a server for each idle keep-alive connection that it holds, and what a request costs meanwhile.

The kernel's own memory for a socket is the same for all and not counted.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import Any, Final

from bench.memory_of import private_mb
from bench.report import progress
from bench.throughput.groups import SERVERS, Load
from bench.throughput.rounds import Pace, cpu_and_run
from bench.throughput.scene import Scene

SERVERS_HELD: Final = ("nginx", "h1", "asgi")
_LOAD: Final = Load("down 1k", "/down/1k", 32)
_REQUEST: Final = b"GET /down/1k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
# Of this process beside the connections.
_OTHER_DESCRIPTORS: Final = 200


def measured_idle(scene: Scene, servers: list[str], count: int, pace: Pace) -> list[dict[str, Any]]:
    """One server after the other, since the ports of this host do not do for all at once.

    Raises SystemExit where this process may not have as many descriptors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + _OTHER_DESCRIPTORS:
        raise SystemExit(f"{count} connections need ulimit -n {count + _OTHER_DESCRIPTORS}, the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for name in servers:
        progress(f"idle: starting {name}")
        with SERVERS[name].run(scene) as running:
            cpu_and_run(scene, running, _LOAD, 2 * pace.warm_up_s)
            (pid,) = running.pids
            alone_mb = private_mb(pid)
            taken_s, run = cpu_and_run(scene, running, _LOAD, pace.seconds)
            progress(f"idle: opening {count} connections to {name}")
            with _held(running.port, count):
                held_mb = private_mb(pid)
                progress(f"idle: {name} under load beside them")
                held_taken_s, held_run = cpu_and_run(scene, running, _LOAD, pace.seconds)
        rows.append(
            {
                "server": name,
                "connections": count,
                "private_mb_alone": alone_mb,
                "private_mb": held_mb,
                "bytes_per_connection": (held_mb - alone_mb) * 2**20 / count,
                "cpu_us_alone": taken_s / run.requests * 1e6,
                "cpu_us": held_taken_s / held_run.requests * 1e6,
            }
        )
    return rows


@contextlib.contextmanager
def _held(port: int, count: int) -> Iterator[None]:
    """Connections that were each answered once, and say nothing from then on."""
    connections: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port), timeout=30)
            connections.append(sock)
            sock.sendall(_REQUEST)
            _read_answer(sock)
        yield
        # Whoever closed one meanwhile did not hold as many.
        for sock in connections:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                if not sock.recv(1):
                    raise RuntimeError(f"port {port}: the server closed an idle connection")
    finally:
        for sock in connections:
            sock.close()


def _read_answer(sock: socket.socket) -> None:
    answer = b""
    while not answer.endswith(b"x" * 1024):
        piece = sock.recv(65536)
        if not piece:
            raise RuntimeError(f"closed after {answer[:100]!r}")
        answer += piece
