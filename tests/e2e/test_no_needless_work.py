"""What changes nothing in substance moves no version, and no worker so much as lifts a finger for it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.settings import load_agent_settings
from gw.shm.names import SegmentNames
from gw.shm.reader import SnapshotReader
from gw.shm.segment import PosixSpace
from sync_agent.stores import open_store
from sync_agent.stores.base import Store
from tests.e2e.test_chaos import Line, agent_of, line_to, route, wait_converged
from tests.e2e.test_failures import etcd_config
from tests.support.etcd import Etcd, has_etcd
from tests.support.gateway import Gateway, running_gateway
from tests.support.waiting import wait_until

SAME = {"uri": "/same", "upstream": {"nodes": {"127.0.0.1:1": 1}}}


class Place:
    """A gateway and the store behind it. `etcd` and the `line` to it are None with SQLite."""

    def __init__(self, gateway: Gateway, etcd: Etcd | None, line: Line | None) -> None:
        self.gateway = gateway
        self.etcd = etcd
        self.line = line
        self._marks = itertools.count(1)

    def on_store(self, work: Callable[[Store], Awaitable[Any]]) -> Any:
        """Do something with the store as another program does."""

        async def opened() -> Any:
            store = open_store(load_agent_settings(self.gateway.config_path), SystemClock())
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(opened())

    def put(self, key: str, value: str) -> int:
        """At which revision."""
        return int(self.on_store(lambda store: store.put(key, value.encode())).head.revision)

    def compact(self) -> None:
        """Forget all history."""
        if self.etcd is not None:
            self.etcd.compact()
            return

        async def forget(store: Any) -> None:
            await store.compact((await store.head()).revision)

        self.on_store(forget)

    def wait_seen(self) -> None:
        """Until all that the store holds now has gone through the agent, and each worker has looked since."""
        revision = self.put("routes/marker", route("/marker", update_time=next(self._marks)))

        def seen() -> bool:
            status = self.gateway.convergence()
            revisions = [status["agent"]["revision"], *(worker["revision"] for worker in status["workers"])]
            return min(revisions) >= revision

        wait_until(seen, what=f"everybody to have seen revision {revision}")

    def work_done(self) -> Any:
        """What is published, and what each worker has done since it started."""
        status = wait_converged(self.gateway)
        workers = {each["pid"]: (each["updates"], each["full_rebuilds"]) for each in status["workers"]}
        return status["agent"]["version"], status["agent"]["digest"], workers

    def restart_agent(self, with_signal: int) -> None:
        old = self.gateway.agent_pid()
        os.kill(old, with_signal)
        wait_until(
            lambda: agent_of(self.gateway)["pid"] != old and agent_of(self.gateway)["answers"], what="a new agent"
        )


@contextmanager
def sqlite_place(directory: Path) -> Iterator[Place]:
    with running_gateway(directory / "gateway") as gateway:
        yield Place(gateway, None, None)


@contextmanager
def etcd_place(directory: Path) -> Iterator[Place]:
    if not has_etcd():
        pytest.skip("no etcd is installed")
    with ExitStack() as stack:
        etcd = stack.enter_context(Etcd(directory))
        line = stack.enter_context(line_to(etcd))
        gateway = stack.enter_context(running_gateway(directory / "gateway", etcd_config(line.endpoint)))
        yield Place(gateway, etcd, line)


@pytest.fixture(params=[sqlite_place, etcd_place], ids=["sqlite", "etcd"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with request.param(tmp_path) as place:
        place.gateway.apply({"routes_same": SAME})
        place.put("routes/direct", route("/direct"))
        place.wait_seen()
        yield place


def test_what_is_put_again_is_no_work(place: Place):
    before = place.work_done()
    for _ in range(3):
        assert place.gateway.admin("PUT", "/routes/same", SAME).status == 200
    place.put("routes/direct", route("/direct"))
    place.put("routes/direct", route("/direct", update_time=99))
    place.put("elsewhere/1", "{}")
    place.wait_seen()
    assert place.work_done() == before


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_another_agent_is_no_work(place: Place, with_signal: int):
    before = place.work_done()
    place.restart_agent(with_signal)
    place.wait_seen()
    assert place.work_done() == before


def test_a_reload_after_a_compaction_is_no_work(place: Place):
    before = place.work_done()
    place.compact()
    place.wait_seen()
    assert place.work_done() == before
    # History that the agent has not seen is gone: it must read everything again.
    os.kill(place.gateway.agent_pid(), signal.SIGSTOP)
    place.put("routes/direct", route("/direct", update_time=100))
    place.put("elsewhere/2", "{}")
    place.compact()
    place.restart_agent(signal.SIGKILL)
    place.wait_seen()
    assert place.work_done() == before


def test_a_store_that_was_away_is_no_work(tmp_path: Path):
    with etcd_place(tmp_path) as place:
        assert place.etcd is not None
        assert place.line is not None
        place.put("routes/direct", route("/direct"))
        place.wait_seen()
        before = place.work_done()
        place.line.cut()  # the line does not outlive a target that refuses
        place.etcd.kill()
        wait_until(lambda: agent_of(place.gateway)["state"] != "watching", what="the agent to notice")
        place.etcd.start()
        place.line.mend()
        place.wait_seen()
        assert place.work_done() == before
        place.line.cut()
        wait_until(lambda: agent_of(place.gateway)["state"] != "watching", what="the agent to notice")
        place.etcd.put("/apisix/routes/direct", route("/direct", update_time=5))
        place.etcd.put("/elsewhere", "x")
        place.etcd.compact()
        place.line.mend()
        place.wait_seen()
        assert place.work_done() == before


def test_changes_are_updates_and_write_no_base(tmp_path: Path):
    with sqlite_place(tmp_path) as place:
        place.gateway.apply({"routes_same": SAME})
        place.wait_seen()
        _, _, before = place.work_done()
        reader = SnapshotReader(PosixSpace(), SegmentNames(place.gateway.name), SystemClock())
        try:
            first = reader.peek()

            async def change(store: Store) -> None:
                for number in range(200):
                    await store.put(f"routes/{number % 20}", route(f"/{number}").encode())

            place.on_store(change)
            place.wait_seen()
            last = reader.peek()
        finally:
            reader.close()
        _, _, after = place.work_done()
        assert first is not None
        assert last is not None
        assert last.version > first.version
        assert last.snapshot_number == first.snapshot_number, "a change costs what changed"
        for pid, (updates, fulls) in after.items():
            assert updates > before[pid][0]
            assert fulls == before[pid][1]
