"""The Admin API of a running gateway under many clients at once, and over many resources; over each store."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gw.clock import SystemClock
from gw.settings import load_agent_settings
from sync_agent.stores import open_store
from tests.support.both_stores import STORES, store_config
from tests.support.gateway import Gateway, Reply, running_gateway
from tests.support.memory import resident_mb
from tests.support.waiting import wait_until

UPSTREAM = {"type": "roundrobin", "nodes": {"127.0.0.1:8080": 1}}
ROUTE = {"uri": "/a", "upstream": UPSTREAM}
RESOURCES = 10_000
# What a list of 10,000 resources of 600 bytes may leave behind: three copies of it, and what the heap has grown by.
MOST_GROWTH_MB = 64


@pytest.fixture(scope="module", params=STORES)
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Of two workers: who connects meets either of them."""
    with (
        store_config(request.param, tmp_path_factory.mktemp("store")) as config,
        running_gateway(tmp_path_factory.mktemp("gateway"), config, workers=2) as running,
    ):
        yield running


def at_once(*calls: Any) -> list[Any]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result() for future in [threads.submit(call) for call in calls]]


def test_two_clients_lose_no_update(gateway: Gateway) -> None:
    """Each adds its labels to one route, one by one: in the end all are there."""
    assert gateway.admin("PUT", "/routes/shared", ROUTE | {"labels": {"first": "x"}}).status == 201

    def client(name: str, by_path: bool) -> list[int]:
        replies = []
        for number in range(40):
            label = f"{name}{number}"
            if by_path:
                replies.append(gateway.admin("PATCH", f"/routes/shared/labels/{label}", "x"))
            else:
                replies.append(gateway.admin("PATCH", "/routes/shared", {"labels": {label: "x"}}))
        return [reply.status for reply in replies]

    names = ("a", "b", "c", "d")
    statuses = at_once(*(lambda name=name: client(name, by_path=name in "cd") for name in names))
    assert {status for each in statuses for status in each} == {200}
    labels = gateway.admin("GET", "/routes/shared").json()["value"]["labels"]
    assert set(labels) == {"first"} | {f"{name}{number}" for name in names for number in range(40)}
    assert gateway.admin("DELETE", "/routes/shared").status == 200


def test_two_clients_are_given_ids_of_their_own(gateway: Gateway) -> None:
    def client() -> list[str]:
        return [gateway.admin("POST", "/upstreams", UPSTREAM).json()["value"]["id"] for _ in range(30)]

    ids = [id for made in at_once(client, client, client) for id in made]
    assert len(set(ids)) == 90
    for id in ids:
        assert gateway.admin("DELETE", f"/upstreams/{id}").status == 200


def test_whoever_comes_first_wins(gateway: Gateway) -> None:
    """A route that names an upstream, and the upstream's end, at once: never does a route name what is gone."""
    for round in range(15):
        assert gateway.admin("PUT", f"/upstreams/u{round}", UPSTREAM).status == 201
        put, delete = at_once(
            lambda round=round: gateway.admin("PUT", f"/routes/r{round}", {"uri": "/a", "upstream_id": f"u{round}"}),
            lambda round=round: gateway.admin("DELETE", f"/upstreams/u{round}"),
        )
        assert (put.status, delete.status) in ((201, 400), (400, 200)), (put, delete)
        gateway.admin("DELETE", f"/routes/r{round}")
        gateway.admin("DELETE", f"/upstreams/u{round}")


def test_a_resource_that_is_made_and_unmade_at_once_is_there_or_not(gateway: Gateway) -> None:
    def put() -> list[int]:
        return [gateway.admin("PUT", "/services/flicker", {"upstream": UPSTREAM}).status for _ in range(25)]

    def delete() -> list[int]:
        return [gateway.admin("DELETE", "/services/flicker").status for _ in range(25)]

    puts, deletes = at_once(put, delete)
    assert set(puts) <= {200, 201}
    assert set(deletes) <= {200, 404}
    is_left = gateway.admin("GET", "/services/flicker").status == 200
    assert puts.count(201) == deletes.count(200) + is_left
    gateway.admin("DELETE", "/services/flicker")


@pytest.fixture(params=STORES)
def full(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway whose store holds 10,000 services. In memory, since what is waited for would be the disk's fsync."""
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm", prefix="test-admin-") as directory,
        store_config(request.param, Path(directory)) as config,
        running_gateway(Path(directory) / "gateway", config, workers=2) as running,
    ):
        fill(running)
        yield running


def fill(gateway: Gateway) -> None:
    """As another program does that writes to the store."""

    async def write() -> None:
        store = open_store(load_agent_settings(gateway.config_path), SystemClock())
        try:
            for start in range(0, RESOURCES, 100):
                await asyncio.gather(*(store.put(*resource(number)) for number in range(start, start + 100)))
        finally:
            await store.close()

    asyncio.run(write())


def resource(number: int) -> tuple[str, bytes]:
    value = {
        "id": f"s{number:05}",
        "name": f"service {number}",
        "labels": {"team": f"t{number % 10}", f"n{number % 100}": "x"},
        "desc": "x" * 400,
        "upstream": UPSTREAM,
    }
    return f"services/s{number:05}", json.dumps(value).encode()


def is_served(gateway: Gateway) -> bool:
    state = gateway.convergence()
    answer = gateway.admin("GET", "/routes")
    assert answer.status == 200, answer
    stands_at = int(answer.headers["x-jitterway-revision"])
    return bool(state["converged"]) and state["agent"]["revision"] >= stands_at


def test_ten_thousand_resources_in_bounded_memory(full: Gateway) -> None:
    gateway = full
    wait_until(lambda: is_served(gateway), what="everything to be published and served")

    def ask(query: str) -> Any:
        reply: Reply = gateway.admin("GET", f"/services{query}")
        assert reply.status == 200, reply
        return reply.json()

    pids = [gateway.agent_pid(), *gateway.worker_pids()]
    for _ in range(3):
        ask("")  # what the first lists take is the heap's to keep
    before = {pid: resident_mb(pid) for pid in pids}

    every = [f"s{number:05}" for number in range(RESOURCES)]
    for _ in range(4):
        whole = ask("")
        assert whole["total"] == RESOURCES
        assert [item["value"]["id"] for item in whole["list"]] == every
    del whole
    seen: set[str] = set()
    last = RESOURCES // 500
    for page in (1, 2, last // 2, last, last + 1, 10**6):
        answer = ask(f"?page={page}&page_size=500")
        assert answer["total"] == RESOURCES
        ids = [item["value"]["id"] for item in answer["list"]]
        assert len(ids) == (500 if page <= last else 0)
        assert not seen & set(ids)
        assert set(ids) <= set(every)
        seen |= set(ids)
    for query, total in (
        ("?name=service%209999", 1),
        ("?name=9$", RESOURCES // 10),
        ("?label=n42", RESOURCES // 100),
        ("?label=team&name=99$", RESOURCES // 100),
        ("?label=nothing", 0),
        ("?name=nobody&page=1&page_size=10", 0),
    ):
        answer = ask(query)
        assert (answer["total"], len(answer["list"])) == (total, total), query
    assert ask("?label=n42&page=3&page_size=10")["list"][0]["value"]["id"] in every
    growth = {pid: resident_mb(pid) - before[pid] for pid in pids}
    assert max(growth.values()) < MOST_GROWTH_MB, growth
    print(f"growth: {growth}")
