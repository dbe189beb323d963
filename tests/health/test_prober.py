"""Probing in one process, with real servers that go up and down. Intervals are shorter than the schema allows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.health.board import Board
from gw.health.checker import Target
from gw.health.checks import ActiveChecks
from gw.health.lease import OWNER_BYTES
from gw.health.probe import Probe, StreamProbe
from gw.health.prober import Prober
from gw.health.state import State
from gw.health.view import HealthView, Watch
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from tests.health.support import KEY, upstream
from tests.support.asynchronous import asynchronous
from tests.support.ports import free_ports

INTERVAL_S = 0.05


def checks(type: str = "http", passive: bool = False, timeout: float = 20, **intervals: float) -> dict[str, Any]:
    written: dict[str, Any] = {
        "active": {
            "type": type,
            "timeout": timeout,
            "healthy": {"interval": intervals.get("healthy", INTERVAL_S), "successes": 2},
            "unhealthy": {
                "interval": intervals.get("unhealthy", INTERVAL_S),
                "http_failures": 2,
                "tcp_failures": 2,
                "timeouts": 1,
            },
        }
    }
    if passive:
        written["passive"] = {"unhealthy": {"http_statuses": [500], "http_failures": 2}}
    return written


def checked(ports: list[int], checks: dict[str, Any]) -> Upstream:
    defaults = {"type": "roundrobin", "scheme": "http", "pass_host": "pass", "hash_on": "vars"}
    return Upstream.from_dict(defaults | {"nodes": {node(port): 1 for port in ports}, "checks": checks})


def node(port: int) -> str:
    return f"127.0.0.1:{port}"


class Server:
    """Answers each request with `status`; `stop` and `start` as often as wanted, on one port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.status = 200
        self.requests = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            if self.status:
                writer.write(b"HTTP/1.1 %d X\r\n\r\n" % self.status)
                await writer.drain()
            else:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def servers(count: int) -> AsyncIterator[list[Server]]:
    running = [Server(port) for port in free_ports(count)]
    for server in running:
        await server.start()
    yield running
    for server in running:
        await server.stop()


class Worker:
    """View and prober as a worker has them."""

    def __init__(self, board: Board, probe: Probe, number: int = 1) -> None:
        clock = SystemClock()
        self.view = HealthView(board, clock)
        self.lease = board.lease(bytes([number]) * OWNER_BYTES)
        chance = random.Random(number)
        self.prober = Prober(board, self.lease, probe, clock=clock, chance=chance, on_change=self.view.changed)
        self.down: frozenset[str] = frozenset()
        self._changes = asyncio.Event()

    def watch(self, of: Upstream, key: ResourceKey = KEY) -> Watch:
        def on_change(down: frozenset[str]) -> None:
            self.down = down
            self._changes.set()

        watch = self.view.watch(key, of, on_change)
        assert watch is not None
        return watch

    async def until_down(self, *nodes: str) -> None:
        while self.down != set(nodes):
            self._changes.clear()
            await self._changes.wait()


@asynccontextmanager
async def working(board: Board, probe: Probe | None = None, number: int = 1) -> AsyncIterator[Worker]:
    worker = Worker(board, probe or StreamProbe(), number)
    tasks = [asyncio.create_task(worker.view.run()), asyncio.create_task(worker.prober.run())]
    try:
        yield worker
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("type", ["http", "tcp"])
@asynchronous
async def test_a_server_that_goes_away_and_comes_back(live_board, type):
    async with servers(2) as (first, second), working(live_board) as worker:
        worker.watch(checked([first.port, second.port], checks(type)))
        await first.stop()
        await worker.until_down(node(first.port))
        await second.stop()
        await worker.until_down(node(first.port), node(second.port))
        await first.start()
        await worker.until_down(node(second.port))
        await second.start()
        await worker.until_down()


@pytest.mark.parametrize("status", [500, 0])
@asynchronous
async def test_a_server_that_answers_badly_or_not_at_all(live_board, status):
    async with servers(2) as (first, second), working(live_board) as worker:
        worker.watch(checked([first.port, second.port], checks(timeout=0.3)))
        first.status = status
        await worker.until_down(node(first.port))
        first.status = 200
        await worker.until_down()


@asynchronous
async def test_a_status_that_counts_as_neither_changes_nothing(live_board):
    async with servers(2) as (first, second), working(live_board) as worker:
        watch = worker.watch(checked([first.port, second.port], checks()))
        first.status = 418
        await until(lambda: first.requests > 5)
        assert live_board.healths(watch.checker) == {}


@asynchronous
async def test_probes_that_find_nothing_new_write_nothing(live_board):
    async with servers(2) as (first, second), working(live_board) as worker:
        watch = worker.watch(checked([first.port, second.port], checks()))
        await until(lambda: first.requests > 5 and second.requests > 5)
        assert live_board.healths(watch.checker) == {}


@asynchronous
async def test_a_node_that_its_traffic_took_down_comes_back_by_probes(live_board):
    async with servers(2) as (first, second), working(live_board) as worker:
        watch = worker.watch(checked([first.port, second.port], checks(passive=True, healthy=3600)))
        for _ in range(2):
            watch.report_http(node(first.port), 500)
        assert watch.down == {node(first.port)}
        await worker.until_down()
        assert live_board.healths(watch.checker)[node(first.port)].state is State.HEALTHY
        assert (first.requests, second.requests) == (2, 0)


@asynchronous
async def test_what_only_another_worker_was_asked_for_is_probed(live_board):
    async with servers(2) as (first, second), working(live_board) as prober, working(live_board, number=2) as idle:
        assert prober.lease.hold()
        assert not idle.lease.hold()
        await first.stop()
        idle.watch(checked([first.port, second.port], checks()))
        await idle.until_down(node(first.port))


@asynchronous
async def test_who_stops_hands_over_at_once(live_board):
    async with servers(2) as (first, second):
        async with working(live_board) as worker:
            worker.watch(checked([first.port, second.port], checks()))
            await until(lambda: first.requests > 0)
        async with working(live_board, number=2) as heir:
            assert heir.lease.hold()
            heir.watch(checked([first.port, second.port], checks()))
            seen = first.requests
            await until(lambda: first.requests > seen)


@asynchronous
async def test_no_target_is_probed_twice_at_a_time_nor_more_than_the_checks_say(live_board):
    running: dict[str, int] = {}
    most, done = 0, 0

    async def probe(target: Target, active: ActiveChecks) -> int | None:
        nonlocal most, done
        running[target.name] = running.get(target.name, 0) + 1
        assert running[target.name] == 1
        most = max(most, sum(running.values()))
        await asyncio.sleep(0.01)
        running[target.name] -= 1
        done += 1
        return 200

    written = checks()
    written["active"] |= {"concurrency": 3, "healthy": {"interval": 0.001}}
    async with working(live_board, probe) as worker:
        worker.watch(checked(list(range(1, 11)), written))
        await until(lambda: done > 50)
    assert most == 3
    assert set(running) == {node(port) for port in range(1, 11)}


@asynchronous
async def test_a_fault_of_a_probe_stops_nothing(live_board, caplog):
    calls = 0

    async def probe(target: Target, active: ActiveChecks) -> int | None:
        nonlocal calls
        calls += 1
        raise RuntimeError("of ours")

    async with working(live_board, probe) as worker:
        watch = worker.watch(checked([1, 2], checks()))
        await until(lambda: calls > 4)
    assert live_board.healths(watch.checker) == {}
    assert "of ours" in caplog.text


@asynchronous
async def test_what_changes_is_probed_as_it_is_now(live_board):
    async with servers(3) as (first, second, third), working(live_board) as worker:
        worker.watch(checked([first.port, second.port], checks()))
        await until(lambda: first.requests > 0)
        worker.watch(checked([second.port, third.port], checks()))
        await until(lambda: third.requests > 0)
        seen, others = first.requests, third.requests
        await until(lambda: third.requests > others + 5)
        assert first.requests == seen


@asynchronous
async def test_a_lapsed_checker_is_not_probed_any_more(live_board, caplog):
    seen = 0

    async def probe(target: Target, active: ActiveChecks) -> int | None:
        nonlocal seen
        seen += 1
        return 200

    async with working(live_board, probe) as worker:
        watch = worker.watch(checked([1, 2], checks()))
        await until(lambda: seen > 0)
        # As if its time had come.
        live_board._store.delete(b"health/checker/" + watch.checker.mark)
        await until(lambda: len(worker.prober._schedule) == 0)
        before = seen
        worker.watch(upstream({"127.0.0.1:3": 1, "127.0.0.1:4": 1}), ResourceKey("routes", "2"))
        await until(lambda: len(worker.prober._schedule) == 1)
        assert seen - before <= 2
