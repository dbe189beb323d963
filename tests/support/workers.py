"""gunicorn with our worker class and no agent: the test is the publisher.

    with Workers(tmp_path) as workers:
        workers.publish({"1": {"uri": "/hello", ...}})     # routes by id; None deletes
        workers.wait_ready()
        workers.request("/hello")
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gw.clock import SystemClock
from gw.control.convergence import convergence
from gw.model.digest import content_hash, encode_resource
from gw.model.keys import ResourceKey
from gw.model.routing import route_key
from gw.schema import load_plugin_schemas, validate
from gw.settings.tree import OWN_PLUGINS
from gw.shm.cells import WorkerTable
from gw.shm.layout import AgentState, Cell
from gw.shm.log import Change
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from gw.shm.writer import Publisher
from tests.support.gateway import Reply, request
from tests.support.ports import free_ports
from tests.support.shm import remove_all, unique_name
from tests.support.waiting import DEADLINE_S, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
# The agent fills in the defaults of plugins as well.
PLUGINS = load_plugin_schemas(OWN_PLUGINS)


def change(kind: str, id: str, resource: Mapping[str, Any] | None) -> Change:
    """What the agent publishes for a resource as a user writes it; None: that it is deleted."""
    key = ResourceKey(kind, id)
    if resource is None:
        return Change(key, 0, None, None)
    validated = validate(kind, id, dict(resource), PLUGINS)
    blob = encode_resource(validated)
    return Change(key, content_hash(key, blob), blob, route_key(validated) if kind == "routes" else None)


class Workers:
    """A gunicorn master and its workers, and the publisher they follow."""

    def __init__(
        self, directory: Path, config: Mapping[str, Any] | None = None, *, workers: int | None = 2
    ) -> None:
        """`workers` None leaves their number to `config`."""
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
                **(config or {}).get("apisix", {}),
            },
            "deployment": {"admin": {"admin_listen": {"ip": "127.0.0.1", "port": self.admin_port}}},
            "plugin_attr": {
                "prometheus": {
                    "export_addr": {"ip": "127.0.0.1", "port": self.metrics_port},
                    **(config or {}).get("plugin_attr", {}).get("prometheus", {}),
                }
            },
            "gw": {
                "workers": workers,
                "shm": {"name": self.name, "log_size": "256k"},
                "run_dir": "run",
                "data_dir": "data",
                "rebuild": {"full_jitter_ms": [0, 10], "update_jitter_ms": [0, 5]},
                **(config or {}).get("gw", {}),
            },
            "nginx_config": (config or {}).get("nginx_config", {}),
        }
        self.config_path.write_text(yaml.safe_dump(settings))
        self.space = PosixSpace()
        self.names = SegmentNames(self.name)
        self.clock = SystemClock()
        self.publisher: Publisher | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._revision = 0

    # --- life

    def start(self, *, environ: Mapping[str, str] | None = None, pass_fds: tuple[int, ...] = ()) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "conf/gunicorn.conf.py", "gw.app:app"]
        with (self.directory / "output.txt").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "JITTERWAY_CONFIG": str(self.config_path), **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                start_new_session=True,
            )

    def __enter__(self) -> Workers:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.output())
        self.close()

    def stop(self, with_signal: int = signal.SIGTERM, deadline_s: float = DEADLINE_S) -> int:
        assert self.process is not None
        self.process.send_signal(with_signal)
        return self.process.wait(deadline_s)

    def close(self) -> None:
        """Whatever state it is in: nothing is left."""
        pids = {cell.pid for cell in self.cells().values()}
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop(signal.SIGQUIT, 10)
            self.process.kill()
            self.process.wait()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.publisher is not None:
            self.publisher.close()
        remove_all(self.name)

    def output(self) -> str:
        return (self.directory / "output.txt").read_text(errors="replace")

    # --- publishing

    def attach(self) -> Publisher:
        """Begin publishing, as an agent that starts."""
        if self.publisher is not None:
            self.publisher.close()
        self.publisher = Publisher.attach(self.space, self.names, log_size_bytes=256 << 10, clock=self.clock)
        return self.publisher

    def publish(self, routes: Mapping[str, Mapping[str, Any] | None], kind: str = "routes") -> int:
        """Make these the next version, and return it."""
        publisher = self.publisher or self.attach()
        self._revision += 1
        changes = [change(kind, id, resource) for id, resource in routes.items()]
        return publisher.publish(changes, self._revision, AgentState.WATCHING)

    def lose_what_is_published(self) -> None:
        """Its segments are gone, and who publishes next begins another epoch. The workers' own stay."""
        assert self.publisher is not None
        self.publisher.close()
        self.publisher = None
        workers_own = {self.names.workers, self.names.counters}
        for name in filter(self.names.owns, self.space.list(self.names.prefix)):
            if name not in workers_own:
                self.space.unlink(name)

    # --- looking

    def cells(self) -> dict[int, Cell]:
        """The cells of living workers."""
        try:
            table = WorkerTable.open(self.space, self.names, writable=False)
        except Exception:
            return {}
        try:
            return dict(table.live())
        finally:
            table.close()

    def is_converged(self) -> bool:
        table = WorkerTable.open(self.space, self.names, writable=False)
        reader = SnapshotReader(self.space, self.names, self.clock)
        try:
            return bool(convergence(reader.peek(), table.read_all(), table.expected)["converged"])
        finally:
            reader.close()
            table.close()

    def wait_converged(self) -> None:
        """Wait until all workers serve the newest version."""
        wait_until(self.is_converged, what="all workers to serve the newest version")

    def wait_ready(self) -> None:
        self.wait_status("/status/ready", 200)

    def wait_status(self, path: str, status: int) -> Reply:
        def answered() -> Reply | None:
            assert self.process is not None
            assert self.process.poll() is None, "gunicorn ended"
            reply = request(self.status_port, "GET", path)
            return reply if reply.status == status else None

        return wait_until(answered, what=f"{path} to answer {status}")

    def request(self, path: str, port: int | None = None, method: str = "GET", **more: Any) -> Reply:
        return request(port or self.port, method, path, **more)
