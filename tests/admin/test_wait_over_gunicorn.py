"""Reading one's own writes: `?wait=` and `gw status --wait`, with real workers and a real agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.admin import ROUTE, sqlite_store
from tests.support.etcd import Etcd, has_etcd
from tests.support.gateway import ADMIN_KEY, NO_ROUTE, Gateway, Reply, request, running_gateway
from tests.support.waiting import wait_until

LONG_MS = 20_000
# No test waits for it: who had to would fail.
TEN_MINUTES_MS = 600_000
TEN_MINUTES = [TEN_MINUTES_MS, TEN_MINUTES_MS]
SLOW = {"gw": {"rebuild": {"update_jitter_ms": TEN_MINUTES, "full_jitter_ms": TEN_MINUTES}}}
STORED = {**ROUTE, "id": "1", "create_time": 1_700_000_000, "update_time": 1_700_000_000}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers that take up a change within a few milliseconds."""
    with running_gateway(tmp_path_factory.mktemp("quick")) as started:
        yield started


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers with one route, that wait ten minutes before they take up another version."""
    directory = tmp_path_factory.mktemp("slow")
    (directory / "data").mkdir(mode=0o700)

    async def fill() -> None:
        store = sqlite_store(directory / "data")
        await store.put("routes/1", json.dumps(STORED).encode())
        await store.close()

    asyncio.run(fill())
    with running_gateway(directory, SLOW) as started:
        assert started.gw("status", "--wait", "20").returncode == 0
        yield started


def revision_of(reply: Reply) -> int:
    return int(reply.headers["x-jitterway-revision"])


def test_what_was_waited_for_is_served_by_all(quick: Gateway) -> None:
    for number in range(5):
        uri = f"/waited/{number}"
        assert quick.admin("PUT", f"/routes/w{number}?wait={LONG_MS}", {**ROUTE, "uri": uri}).status == 201
        assert NO_ROUTE not in {quick.call(uri).body for _ in range(10)}
        assert quick.admin("PATCH", f"/routes/w{number}?wait={LONG_MS}", {"uri": uri + "/x"}).status == 200
        assert {quick.call(uri).body for _ in range(10)} == {NO_ROUTE}
        assert NO_ROUTE not in {quick.call(uri + "/x").body for _ in range(10)}
        reply = quick.admin("DELETE", f"/routes/w{number}?wait={LONG_MS}")
        assert (reply.status, reply.json()["deleted"]) == (200, "1")
        assert {quick.call(uri + "/x").body for _ in range(10)} == {NO_ROUTE}


def test_a_worker_that_does_not_move_is_named(quick: Gateway) -> None:
    stopped = quick.worker_pids()[0]
    os.kill(stopped, signal.SIGSTOP)
    try:
        reply = quick.admin("PUT", "/routes/s?wait=200", {**ROUTE, "uri": "/stopped"})
        assert reply.status == 202
        assert reply.json()["value"]["uri"] == "/stopped"
        [late] = reply.json()["laggards"]
        assert (late["pid"], late["state"]) == (stopped, "serving")
        assert late["revision"] < revision_of(reply)
        assert "it serves revision" in late["why"]
        waited = quick.gw("status", "--wait", "0.1", "--revision", str(revision_of(reply)))
        assert waited.returncode == 1
        assert f"worker {stopped}" in waited.stderr
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert quick.admin("PUT", f"/routes/s?wait={LONG_MS}", {**ROUTE, "uri": "/stopped"}).status == 200
    assert quick.gw("status", "--revision", str(revision_of(reply))).returncode == 0


def test_the_revision_of_now_is_waited_for(quick: Gateway) -> None:
    reply = quick.admin("PUT", "/routes/n", {**ROUTE, "uri": "/now"})
    assert quick.gw("status", "--wait", "20").returncode == 0
    assert NO_ROUTE not in {quick.call("/now").body for _ in range(10)}
    assert quick.gw("status", "--wait", "20", "--revision", str(revision_of(reply))).returncode == 0
    never = quick.gw("status", "--wait", "0", "--revision", str(revision_of(reply) + 1000))
    assert never.returncode == 1
    assert f"has published revision {revision_of(reply)}, not yet {revision_of(reply) + 1000}" in never.stderr


def test_the_table_on_the_command_line_is_that_of_the_control_api(quick: Gateway) -> None:
    one, other = quick.status(), quick.convergence()
    # What is counted over HTTP is the metrics listener's.
    assert one.keys() == other.keys() | {"traffic"}
    assert one["agent"].keys() == other["agent"].keys()
    assert one["workers"][0].keys() == other["workers"][0].keys() | {"traffic"}
    shown = quick.gw("status").stdout
    assert max(map(len, shown.splitlines())) <= 130


def test_a_write_that_changes_nothing_waits_for_no_jitter(slow: Gateway) -> None:
    """With nothing new to serve, every worker serves it: no version is made, and no wait drawn."""
    before = slow.convergence()["agent"]
    reply = slow.admin("PUT", f"/routes/1?wait={LONG_MS}", ROUTE)
    assert reply.status == 200
    after = slow.convergence()["agent"]
    assert (after["version"], after["digest"]) == (before["version"], before["digest"])
    assert after["revision"] >= revision_of(reply) > before["revision"]
    assert slow.gw("status", "--wait", "20").returncode == 0


def test_what_waits_for_its_jitter_is_accepted_with_all_workers_named(slow: Gateway) -> None:
    pids = slow.worker_pids()
    reply = slow.admin("POST", "/routes?wait=50", {**ROUTE, "uri": "/later"})
    assert reply.status == 202
    assert sorted(each["pid"] for each in reply.json()["laggards"]) == sorted(pids)
    waited = slow.gw("status", "--wait", "0.05")
    assert waited.returncode == 1
    assert f"revision {revision_of(reply)} is not served by every worker within 0.05 s" in waited.stderr
    assert all(f"worker {pid}" in waited.stderr for pid in pids)
    assert slow.gw("status", "--revision", str(revision_of(reply))).returncode == 1
    assert slow.gw("status").returncode == 0


def test_without_an_agent_what_was_published_is_what_can_be_waited_for(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        reply = gateway.admin("PUT", f"/routes/1?wait={LONG_MS}", ROUTE)
        assert reply.status == 201
        agent = gateway.agent_pid()
        os.kill(agent, signal.SIGSTOP)
        try:
            waited = gateway.gw("status", "--wait", "20")
            assert waited.returncode == 3
            assert "the store's revision of now is not known" in waited.stderr
            assert f"every worker serves the newest published version, revision {revision_of(reply)}" in waited.stderr
            assert gateway.gw("status", "--revision", str(revision_of(reply))).returncode == 0
        finally:
            os.kill(agent, signal.SIGCONT)


def test_a_gateway_that_is_stopped_answers_those_who_wait(tmp_path: Path) -> None:
    with running_gateway(tmp_path, SLOW) as gateway, ThreadPoolExecutor(1) as client:
        path, body = f"/apisix/admin/routes/1?wait={TEN_MINUTES_MS}", json.dumps(ROUTE).encode()
        waiting = client.submit(request, gateway.admin_port, "PUT", path, body, {"X-API-KEY": ADMIN_KEY}, timeout=60)
        wait_until(lambda: gateway.admin("GET", "/routes/1").status == 200, what="the write to be made")
        assert not waiting.done()
        gateway.stop()
        reply = waiting.result()
        assert reply.status == 202
        assert reply.json()["value"]["uri"] == ROUTE["uri"]
        assert reply.json()["laggards"] != []


@pytest.mark.skipif(not has_etcd(), reason="no etcd")
def test_a_store_that_others_write_to_and_that_goes_away(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        traditional = {"role_traditional": {"config_provider": "etcd"}, "etcd": {"host": [etcd.endpoint]}}
        with running_gateway(tmp_path / "gateway", {"deployment": traditional}) as gateway:
            assert gateway.admin("PUT", f"/routes/1?wait={LONG_MS}", ROUTE).status == 201
            etcd.put("/others/1", "{}")
            waited = gateway.gw("status", "--wait", "20")
            assert (waited.returncode, waited.stderr) == (0, "")
            etcd.kill()
            waited = gateway.gw("status", "--wait", "20")
            assert waited.returncode == 3
            assert "the store's revision of now is not known: " in waited.stderr
            assert "every worker serves the newest published version" in waited.stderr
