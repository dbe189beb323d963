"""A whole gateway as a user starts it: `gw start` with a configuration of its own, driven over its real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gw.model.keys import KINDS
from tests.support.ports import free_ports
from tests.support.shm import left_of, remove_all, segments_of, unique_name
from tests.support.waiting import DEADLINE_S, wait_until

ADMIN_KEY = "test-admin-key-0123456789abcdef"
# What a request is answered that fits no route.
NO_ROUTE = b'{"error_msg":"404 Route Not Found"}\n'
BIN = Path(sys.executable).parent


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout: float = DEADLINE_S,
) -> Reply:
    """One request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


class Gateway:
    """One gateway. `config` is overlaid on a working configuration (deeply)."""

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any] | None = None,
        *,
        workers: int = 2,
        prefix: list[str] | None = None,
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port, self.admin_port, self.control_port, self.status_port, self.metrics_port = free_ports(5)
        self.name = unique_name()
        self.config_path = directory / "config.yaml"
        settings: dict[str, Any] = {
            "apisix": {
                "node_listen": [{"ip": "127.0.0.1", "port": self.port}],
                "control": {"ip": "127.0.0.1", "port": self.control_port},
                "status": {"ip": "127.0.0.1", "port": self.status_port},
            },
            "deployment": {
                "admin": {
                    "admin_key": [{"name": "admin", "key": ADMIN_KEY, "role": "admin"}],
                    "admin_listen": {"ip": "127.0.0.1", "port": self.admin_port},
                },
            },
            "plugin_attr": {"prometheus": {"export_addr": {"ip": "127.0.0.1", "port": self.metrics_port}}},
            "gw": {
                "workers": workers,
                "shm": {"name": self.name},
                "run_dir": "run",
                "data_dir": "data",
                "rebuild": {"full_jitter_ms": [0, 20], "update_jitter_ms": [0, 5]},
            },
        }
        self.config_path.write_text(yaml.safe_dump(_merge(settings, config or {})))
        self.process: subprocess.Popen[bytes] | None = None
        self.output_path = directory / "output.txt"
        self._prefix = prefix or []

    # --- life

    def start(self, *, ready: bool = True) -> None:
        with self.output_path.open("ab") as output:
            self.process = subprocess.Popen(
                [*self._prefix, str(BIN / "gw"), "start", "-c", str(self.config_path)],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if ready:
            self.wait_ready()

    def wait_ready(self, deadline_s: float = DEADLINE_S) -> None:
        def is_ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"gw start ended:\n{self.output()}"
            return request(self.status_port, "GET", "/status/ready").status == 200

        try:
            wait_until(is_ready, what="the gateway to be ready", deadline_s=deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    def stop(self, *, with_signal: int = signal.SIGINT, group: bool = False, deadline_s: float = DEADLINE_S) -> int:
        """Signal `gw start` (with `group`: its whole process group, as a terminal's Ctrl-C does) and wait."""
        assert self.process is not None
        if self.process.poll() is None:
            (os.killpg if group else os.kill)(self.process.pid, with_signal)
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"gw start did not stop within {deadline_s} s:\n{self.output()}") from None

    def kill(self) -> None:
        """Last resort: everything at once, leftovers removed."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)
        remove_all(self.name)

    def output(self) -> str:
        return self.output_path.read_text(errors="replace")

    # --- looking

    def pids(self) -> list[int]:
        """All processes of this gateway, by the configuration they were started with."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    environment = (entry / "environ").read_bytes()
                    if bytes(self.config_path) in command + environment and int(entry.name) != os.getpid():
                        found.append(int(entry.name))
        return found

    def segments(self) -> list[str]:
        """Names in /dev/shm, of its segments alone."""
        return segments_of(self.name)

    def left_in_shm(self) -> list[str]:
        """Names in /dev/shm, of all that it has there."""
        return left_of(self.name)

    def gw(self, *arguments: str, timeout: float = 2 * DEADLINE_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._prefix, str(BIN / "gw"), arguments[0], "-c", str(self.config_path), *arguments[1:]],
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def status(self) -> dict[str, Any]:
        done = self.gw("status", "--json")
        assert done.stdout, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def convergence(self) -> dict[str, Any]:
        """The same table as `gw status --json`, over HTTP."""
        answer: dict[str, Any] = request(self.control_port, "GET", "/v1/convergence").json()
        return answer

    def agent_pid(self) -> int:
        return int(self.convergence()["agent"]["pid"])

    def worker_pids(self) -> list[int]:
        return [worker["pid"] for worker in self.convergence()["workers"] if worker["alive"]]

    # --- using

    def admin(self, method: str, path: str, body: Any = None, *, key: str | None = ADMIN_KEY) -> Reply:
        raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if key is None else {"X-API-KEY": key}
        return request(self.admin_port, method, "/apisix/admin" + path, raw, headers)

    def put_route(self, id: str, uri: str, upstream_port: int, **more: Any) -> Reply:
        route = {"uri": uri, "upstream": {"type": "roundrobin", "nodes": {f"127.0.0.1:{upstream_port}": 1}}, **more}
        reply = self.admin("PUT", f"/routes/{id}", route)
        assert reply.status in (200, 201), reply
        return reply

    def apply(self, resources: dict[str, dict[str, Any] | None]) -> None:
        """Put resources (`{"routes_1": {...}}`; None deletes) and wait until all workers serve what they say."""
        for name, body in resources.items():
            kind = next(kind for kind in KINDS if name.startswith(f"{kind}_"))
            path = f"/{kind}/{name.removeprefix(f'{kind}_')}"
            reply = self.admin("DELETE", path + "?force=true") if body is None else self.admin("PUT", path, body)
            assert reply.status in (200, 201), reply
        revision = int(reply.headers["x-jitterway-revision"])

        def served() -> bool:
            state = self.convergence()
            return bool(state["converged"]) and state["agent"]["revision"] >= revision

        wait_until(served, what=f"revision {revision} to be served")

    def call(
        self, path: str, method: str = "GET", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Reply:
        return request(self.port, method, path, body, headers)

    def wait_served(self, path: str, status: int = 200, deadline_s: float = DEADLINE_S) -> Reply:
        """Wait until all workers answer `path` with `status`: twenty answers in a row, on connections of their own."""

        def all_serve() -> Reply | None:
            replies = [self.call(path) for _ in range(20)]
            return replies[-1] if all(reply.status == status for reply in replies) else None

        return wait_until(all_serve, what=f"{path} to answer {status}", deadline_s=deadline_s)


@contextlib.contextmanager
def running_gateway(directory: Path, config: dict[str, Any] | None = None, **more: Any) -> Iterator[Gateway]:
    """A gateway that is ready; stopped at the end, whereupon nothing of it may be left."""
    gateway = Gateway(directory, config, **more)
    try:
        gateway.start()
        yield gateway
        gateway.stop()
        assert gateway.pids() == []
        assert gateway.left_in_shm() == []
    except BaseException:
        print(re.sub(r"^", "  | ", gateway.output(), flags=re.MULTILINE) if gateway.output_path.exists() else "")
        raise
    finally:
        gateway.kill()


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merge(merged[name], value) if both else value
    return merged
