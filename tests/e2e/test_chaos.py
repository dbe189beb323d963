"""Cut off, restored, overrun, stopped, killed: at the end every worker serves what the store holds, and no version
moves without a change in substance."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from gw.clock import SystemClock
from gw.model.digest import digest_of
from gw.settings import load_agent_settings
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from sync_agent.stores import open_store
from tests.e2e.test_failures import SteadyTraffic, etcd_config
from tests.support.etcd import Etcd
from tests.support.gateway import BIN, Gateway, request, running_gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import DEADLINE_S, wait_until


class Line:
    """The line between a gateway and its etcd, to be cut and mended. A thread per direction: nothing to go wrong in."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._port = 0
        self.mend()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def cut(self) -> None:
        """Refuse new connections, drop the ones there are."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()  # from here on there are no new ones
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()
        self._sockets.clear()
        self._threads.clear()

    def mend(self) -> None:
        """The same port again."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:  # etcd is down for now; the line is not
                    near.close()
                    continue
                self._sockets |= {near, far}
                for ends in ((near, far), (far, near)):
                    self._threads.append(threading.Thread(target=self._pump, args=ends))
                    self._threads[-1].start()

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def line_to(etcd: Etcd) -> Iterator[Line]:
    line = Line(etcd.port)
    try:
        yield line
    finally:
        line.cut()


def agent_of(gateway: Gateway) -> dict[str, Any]:
    agent: dict[str, Any] = gateway.convergence()["agent"]
    return agent


def identity(gateway: Gateway) -> tuple[int, str]:
    agent = agent_of(gateway)
    return agent["version"], agent["digest"]


def route(uri: str, port: int = 80, **more: Any) -> str:
    return json.dumps({"uri": uri, "upstream": {"nodes": {f"127.0.0.1:{port}": 1}}, **more})


def wait_converged(gateway: Gateway, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
    def converged() -> dict[str, Any] | None:
        status = gateway.convergence()
        return status if status["converged"] else None

    return wait_until(converged, what="all workers to serve the newest version", deadline_s=deadline_s)


def wait_seen(gateway: Gateway, etcd: Etcd) -> None:
    """Until the agent has published all that etcd holds now."""
    etcd.put("/apisix/routes/marker", route("/marker", update_time=etcd.revision))
    revision = etcd.revision
    wait_until(lambda: agent_of(gateway)["revision"] == revision, what=f"the agent to have seen revision {revision}")


def test_compaction_while_cut_off_publishes_only_the_difference(tmp_path: Path, etcd: Etcd):
    with running_upstream() as upstream, line_to(etcd) as line:
        config = etcd_config(line.endpoint)
        with running_gateway(tmp_path / "gateway", config) as gateway:
            for id in ("stays", "goes"):
                etcd.put(f"/apisix/routes/{id}", route(f"/{id}", upstream.port))
            wait_seen(gateway, etcd)
            gateway.wait_served("/goes")
            before = identity(gateway)
            with SteadyTraffic(gateway, "/stays") as traffic:
                line.cut()
                wait_until(lambda: agent_of(gateway)["state"] != "watching", what="the agent to notice")
                etcd.put("/apisix/routes/stays", route("/stays", upstream.port, update_time=7))
                etcd.put("/elsewhere", "x")
                etcd.compact()
                line.mend()
                wait_seen(gateway, etcd)
                assert identity(gateway) == before

                line.cut()
                wait_until(lambda: agent_of(gateway)["state"] != "watching", what="the agent to notice")
                etcd.delete("/apisix/routes/goes")
                etcd.compact()
                line.mend()
                gateway.wait_served("/goes", status=404)
                assert identity(gateway)[0] == before[0] + 1
            assert traffic.failures == []


def test_what_is_no_change_in_substance_moves_no_version(tmp_path: Path, etcd: Etcd):
    with (
        running_upstream() as upstream,
        line_to(etcd) as line,
        running_gateway(tmp_path / "gateway", etcd_config(line.endpoint)) as gateway,
    ):
        gateway.put_route("1", "/same", upstream.port)
        etcd.put("/apisix/routes/2", route("/other", upstream.port))
        wait_seen(gateway, etcd)
        gateway.wait_served("/same")
        before = identity(gateway)

        gateway.put_route("1", "/same", upstream.port)
        etcd.put("/apisix/routes/2", route("/other", upstream.port, update_time=99))
        wait_seen(gateway, etcd)
        assert identity(gateway) == before

        agent = gateway.agent_pid()
        os.kill(agent, signal.SIGKILL)
        wait_until(lambda: agent_of(gateway)["pid"] != agent and agent_of(gateway)["answers"], what="a new agent")
        wait_seen(gateway, etcd)
        assert identity(gateway) == before

        etcd.kill()
        etcd.start()
        wait_seen(gateway, etcd)
        assert identity(gateway) == before

        # Restored from a backup, first with the same content, then with another one: the revision goes back each time.
        kept = {key: etcd.ctl("get", "--print-value-only", key) for key in etcd.keys("/apisix/routes/")}
        line.cut()
        etcd.wipe()
        for key, value in kept.items():
            etcd.put(key, value)
        line.mend()
        wait_until(lambda: agent_of(gateway)["revision"] == etcd.revision, what="the agent to read it again")
        assert identity(gateway) == before

        line.cut()
        etcd.wipe()
        etcd.put("/apisix/routes/2", route("/restored", upstream.port))
        line.mend()
        gateway.wait_served("/restored")
        gateway.wait_served("/same", status=404)
        assert identity(gateway)[0] > before[0]


def test_a_start_without_store_and_without_last_good_waits_and_comes_up_with_the_store(tmp_path: Path, etcd: Etcd):
    etcd.put("/apisix/routes/1", route("/late", 1))
    etcd.kill()
    gateway = Gateway(tmp_path / "gateway", etcd_config(etcd.endpoint))
    try:
        gateway.start(ready=False)
        not_ready = wait_until(lambda: request(gateway.status_port, "GET", "/status/ready"), what="the status listener")
        assert not_ready.status == 503
        wait_until(lambda: agent_of(gateway)["problem"], what="the agent to say what is wrong")
        assert request(gateway.status_port, "GET", "/status/ready").status == 503
        etcd.start()
        gateway.wait_ready()
        gateway.wait_served("/late", status=502)  # nobody listens on port 1: the route is there
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def test_a_password_that_is_changed_and_changed_back(tmp_path: Path, etcd: Etcd):
    etcd.add_user("gateway", "first", prefix="/apisix/")
    etcd.enable_auth()
    config = etcd_config(etcd.endpoint)
    config["deployment"]["etcd"] |= {"user": "gateway", "password": "first"}  # type: ignore[index]
    with running_gateway(tmp_path / "gateway", config) as gateway:
        etcd.put("/apisix/routes/1", route("/one", 1))
        gateway.wait_served("/one", status=502)
        etcd.ctl("user", "passwd", "gateway", "--interactive=false", input="second\n")
        etcd.kill()
        etcd.start()  # tokens and streams are gone with it
        wait_until(lambda: "password" in agent_of(gateway)["problem"], what="the reason to be told")
        refused = gateway.admin("GET", "/routes")
        assert refused.status == 503
        assert "first" not in refused.body.decode() + gateway.output()
        assert gateway.call("/one").status == 502
        etcd.put("/apisix/routes/2", route("/two", 1))
        etcd.ctl("user", "passwd", "gateway", "--interactive=false", input="first\n")
        gateway.wait_served("/two", status=502)


def test_a_worker_stopped_while_the_log_goes_round_loads_everything_and_no_client_notices(tmp_path: Path):
    config = {"gw": {"shm": {"log_size": "64k"}}}
    with running_upstream() as upstream, running_gateway(tmp_path, config) as gateway:
        gateway.put_route("1", "/steady", upstream.port)
        gateway.wait_served("/steady")
        stopped = gateway.worker_pids()[0]

        async def write() -> None:
            store = open_store(load_agent_settings(gateway.config_path), SystemClock())
            try:
                for number in range(500):
                    value = route(f"/{number}", upstream.port, desc="x" * 250)
                    await store.put(f"routes/r{number}", value.encode())
            finally:
                await store.close()

        def looked_at_elsewhere() -> dict[str, Any]:
            status: dict[str, Any] = gateway.status()
            return status

        os.kill(stopped, signal.SIGSTOP)
        try:
            asyncio.run(write())
            wait_until(
                lambda: "/499" in uris(gateway).values(), what="the agent to have published everything"
            )
            assert looked_at_elsewhere()["converged"] is False
        finally:
            os.kill(stopped, signal.SIGCONT)
        with SteadyTraffic(gateway, "/steady") as traffic:
            status = wait_converged(gateway)
            gateway.wait_served("/499")
        assert traffic.failures == []
        [worker] = [worker for worker in status["workers"] if worker["pid"] == stopped]
        assert worker["rebuild_kind"] == "full"


def uris(gateway: Gateway) -> dict[str, str]:
    """What is published, with its digest checked."""
    reader = SnapshotReader(PosixSpace(), SegmentNames(gateway.name), SystemClock())
    try:
        loaded = reader.load()
        entries = loaded.read()
        assert digest_of(entry.hash for entry in entries.values()) == loaded.slot.digest
        return {key.id: entry.routing[0][0] for key, entry in entries.items()}
    finally:
        reader.close()


def test_a_storm_of_writes_and_kills_ends_in_what_the_store_holds(tmp_path: Path):
    rng = random.Random(20261121)
    config = {"gw": {"shm": {"log_size": "128k"}}}
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway", config) as gateway:
        gateway.put_route("steady", "/steady", upstream.port)
        gateway.wait_served("/steady")
        written: dict[str, str] = {"steady": "/steady"}

        async def storm() -> None:
            store = open_store(load_agent_settings(gateway.config_path), SystemClock())
            try:
                for burst in range(20):
                    for number in range(100):
                        id = f"r{rng.randrange(150)}"
                        if id in written and rng.random() < 0.2:
                            await store.delete(f"routes/{id}")
                            del written[id]
                        else:
                            written[id] = f"/{burst}-{number}"
                            await store.put(f"routes/{id}", route(written[id], upstream.port).encode())
                    if burst % 4 == 1:
                        with suppress(ProcessLookupError):
                            os.kill(gateway.status()["agent"]["pid"], signal.SIGKILL)
                    if burst % 7 == 3:
                        alive = [worker["pid"] for worker in gateway.status()["workers"] if worker["alive"]]
                        with suppress(ProcessLookupError):
                            os.kill(rng.choice(alive), signal.SIGKILL)
            finally:
                await store.close()

        asyncio.run(storm())
        wait_until(lambda: uris(gateway) == written, what="the store's content to be published")
        status = wait_converged(gateway)
        serving = [worker for worker in status["workers"] if worker["alive"]]
        assert len(serving) == 2
        assert {worker["digest"] for worker in serving} == {status["agent"]["digest"]}
        for uri in rng.sample(sorted(written.values()), 20):
            gateway.wait_served(uri)


def test_an_agent_that_stands_still_or_is_killed_never_leaves_an_admin_call_hanging(tmp_path: Path):
    with running_upstream() as upstream, running_gateway(tmp_path / "gateway") as gateway:
        gateway.put_route("1", "/steady", upstream.port)
        gateway.wait_served("/steady")
        before = identity(gateway)
        agent = gateway.agent_pid()
        with SteadyTraffic(gateway, "/steady") as traffic, concurrent.futures.ThreadPoolExecutor(8) as pool:
            os.kill(agent, signal.SIGSTOP)
            waiting = [pool.submit(gateway.admin, "GET", f"/routes/{number}") for number in range(8)]
            # Longer than a heartbeat may be old.
            wait_until(lambda: agent_of(gateway)["heartbeat_age_ms"] > 3500, what="the heartbeat to be stale")
            assert identity(gateway) == before
            os.kill(agent, signal.SIGCONT)
            assert {call.result(DEADLINE_S).status for call in waiting} == {200, 404}
            wait_until(lambda: agent_of(gateway)["heartbeat_age_ms"] < 1000, what="a new heartbeat")

            def calls() -> list[int]:
                nodes = {f"127.0.0.1:{upstream.port}": 1}
                return [
                    gateway.admin("PUT", "/routes/2", {"uri": f"/{n}", "upstream": {"nodes": nodes}}).status
                    for n in range(40)
                ]

            calling = [pool.submit(calls) for _ in range(4)]
            for _ in range(3):
                with suppress(ProcessLookupError):
                    os.kill(gateway.agent_pid(), signal.SIGKILL)
                time.sleep(0.3)  # not a wait for anything: the moments of the kills
            # A call that hangs raises: each has a time-out of its own.
            statuses = {status for each in calling for status in each.result(60)}
            assert statuses <= {200, 201, 503}

            def written() -> bool:
                nodes = {f"127.0.0.1:{upstream.port}": 1}
                return gateway.admin("PUT", "/routes/2", {"uri": "/end", "upstream": {"nodes": nodes}}).status == 200

            wait_until(written, what="the Admin API to take writes again")
            gateway.wait_served("/end")
        assert traffic.failures == []


def test_a_killed_gw_start_takes_its_children_along_and_the_next_one_takes_over(tmp_path: Path):
    gateway = Gateway(tmp_path / "gateway")
    with running_upstream() as upstream:
        try:
            gateway.start()
            gateway.put_route("1", "/kept", upstream.port)
            gateway.wait_served("/kept")
            before = identity(gateway)
            assert gateway.process is not None
            gateway.process.kill()
            gateway.process.wait(10)
            wait_until(lambda: gateway.pids() == [], what="the children to end")
            gateway.start()
            assert gateway.call("/kept").status == 200
            wait_converged(gateway)
            assert identity(gateway) == before
            assert gateway.stop() == 0
            assert gateway.left_in_shm() == []
        finally:
            gateway.kill()


def test_of_starts_that_race_one_wins_and_a_stop_reaches_one_that_is_starting(tmp_path: Path):
    gateway = Gateway(tmp_path / "gateway")
    try:
        command = [str(BIN / "gw"), "start", "-c", str(gateway.config_path)]
        for _ in range(2):
            with (tmp_path / "race.txt").open("wb") as output:
                racing = [subprocess.Popen(command, stdout=output, stderr=output) for _ in range(3)]

            def one_is_left(racing: list[subprocess.Popen[bytes]] = racing) -> bool:
                return sum(each.poll() is None for each in racing) <= 1

            wait_until(one_is_left, what="all but one to give up")
            assert [each.returncode for each in racing].count(1) == 2
            done = gateway.gw("stop")
            assert done.returncode == 0, done.stderr
            assert [each.wait(10) for each in racing].count(0) == 1
            assert gateway.pids() == []
            assert gateway.left_in_shm() == []
        for _ in range(5):
            gateway.start(ready=False)
            assert gateway.process is not None
            wait_until(
                lambda: gateway.segments() != [] or gateway.process.poll() is not None, what="something to be there"
            )
            assert gateway.gw("stop").returncode == 0
            assert gateway.process.wait(10) == 0
            assert gateway.pids() == []
            assert gateway.left_in_shm() == []
    finally:
        gateway.kill()
