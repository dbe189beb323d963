"""Real Redis servers for tests, on ephemeral ports of loopback: one, a cluster of three, a master with a sentinel.

    with RedisServer(tmp_path) as redis:
        redis.cli("GET", "key")
        redis.kill(); redis.start()
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.ports import free_ports
from tests.support.waiting import wait_until


def has_redis() -> bool:
    """Whether redis-server and redis-cli are there, so that a test can skip visibly."""
    return shutil.which("redis-server") is not None and shutil.which("redis-cli") is not None


class RedisServer:
    """Not started by the constructor: use it as a context manager. `flags` are lines of a redis.conf."""

    def __init__(self, directory: Path, *flags: str, port: int | None = None, sentinel: bool = False) -> None:
        # A node of a cluster listens on another one, 10,000 above.
        self.port = port or free_ports(1)[0]
        self.directory = directory / f"redis-{self.port}"
        self._flags = flags
        self._sentinel = sentinel
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "RedisServer":
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", 'save ""', "appendonly no"]
        configuration = self.directory / "redis.conf"
        configuration.write_text("\n".join([*lines[: 3 if self._sentinel else 5], *self._flags]))
        command = ["redis-server", str(configuration)] + (["--sentinel"] if self._sentinel else [])
        log = (self.directory / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: b"PONG" in self._ping() or b"NOAUTH" in self._ping(), what="redis to answer")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def cli(self, *arguments: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def _ping(self) -> bytes:
        command = ["redis-cli", "-p", str(self.port), "PING"]
        return subprocess.run(command, check=False, capture_output=True).stdout


@contextmanager
def redis_cluster(directory: Path) -> Iterator[list[RedisServer]]:
    """Three masters that share the slots."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer(directory, "cluster-enabled yes", "cluster-node-timeout 2000"))
            for _ in range(3)
        ]
        addresses = [f"127.0.0.1:{node.port}" for node in nodes]
        nodes[0].cli("--cluster", "create", *addresses, "--cluster-yes")
        for node in nodes:
            wait_until(lambda node=node: "cluster_state:ok" in node.cli("CLUSTER", "INFO"), what="the cluster")
        yield nodes


@contextmanager
def redis_sentinel(directory: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """(a sentinel, the master that it names `mymaster`)."""
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(directory))
        watch = f"sentinel monitor mymaster 127.0.0.1 {master.port} 1"
        sentinel = stack.enter_context(RedisServer(directory, watch, sentinel=True))
        yield sentinel, master
