"""The Admin API when the agent or its store does not do its part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from gw.admin.agent_client import AgentClient
from gw.errors import AgentUnavailable, StoreError
from gw.model.operations import FRAME_HEADER, Get, Head, Outcome, Status
from sync_agent.admin import operations
from sync_agent.stores.base import Page
from sync_agent.stores.sql.store import SqlStore
from tests.support.admin import ADMIN_KEY, ROUTE, agent, sqlite_store, world
from tests.support.etcd import Etcd, has_etcd


def test_agent_away_and_back(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as admin:
            assert (await admin.ask("PUT", "/routes/1", ROUTE)).status == 201
            await admin.server.close()
            for _ in range(2):
                reply = await admin.ask("GET", "/routes/1")
                assert reply.status == 503
                assert "sync agent" in reply.body["error_msg"]
            async with agent(tmp_path, admin.store):
                assert (await admin.ask("GET", "/routes/1")).status == 200
            assert (await admin.ask("GET", "/routes/1")).status == 503

    asyncio.run(run())


def test_store_away_and_back(tmp_path: Path) -> None:
    if not has_etcd():
        pytest.skip("no etcd")
    from sync_agent.stores.etcd.options import EtcdOptions
    from sync_agent.stores.etcd.store import EtcdStore

    async def run(etcd: Etcd) -> None:
        store = EtcdStore(EtcdOptions(hosts=(etcd.endpoint,), prefix="/apisix", timeout_s=1.0))
        async with world(tmp_path, store) as admin:
            assert (await admin.ask("PUT", "/routes/1", ROUTE)).status == 201
            etcd.kill()
            for method, path in (("GET", "/routes"), ("PUT", "/routes/1"), ("DELETE", "/upstreams/1")):
                reply = await admin.ask(method, path, ROUTE if method == "PUT" else None)
                assert reply.status == 503
                assert reply.body["error_msg"].startswith("the configuration store did not do it: ")
            await asyncio.to_thread(etcd.start)
            async with asyncio.timeout(20):
                while (reply := await admin.ask("GET", "/routes/1")).status != 200:
                    assert reply.status == 503
            assert reply.body["value"]["uri"] == "/hello"

    with Etcd(tmp_path) as etcd:
        asyncio.run(run(etcd))


class Silent(SqlStore):
    """A store that has stopped answering some of its methods."""

    async def get(self, key: str) -> Any:
        await asyncio.Event().wait()


def silent(directory: Path) -> SqlStore:
    store = sqlite_store(directory)
    store.__class__ = Silent
    return store


def test_a_store_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "OPERATION_TIMEOUT_S", 0.05)

    async def run() -> None:
        async with world(tmp_path, silent(tmp_path)) as admin:
            reply = await admin.ask("GET", "/routes/1")
            assert reply.status == 503
            assert "did not answer within" in reply.body["error_msg"]
            assert (await admin.ask("GET", "/routes")).status == 200

    asyncio.run(run())


def test_status_is_answered_when_everything_waits(tmp_path: Path) -> None:
    """More operations than have a turn hang in the store; a connection of its own still gets the status."""

    async def run() -> None:
        async with world(tmp_path, silent(tmp_path), status=lambda: {"state": "watching"}) as admin:
            hanging = [asyncio.create_task(admin.client.call(Get("routes", "1"), ADMIN_KEY)) for _ in range(100)]
            other = AgentClient(admin.socket_path)
            answer = await other.call(Status())
            assert answer.status == {"state": "watching"}
            assert not any(task.done() for task in hanging)
            for task in hanging:
                task.cancel()
            await asyncio.wait(hanging)
            await other.close()

    asyncio.run(run())


def test_where_the_store_stands_is_told_without_a_key(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as admin:
            for id in "ab":
                reply = await admin.ask("PUT", f"/routes/{id}", ROUTE)
                answer = await admin.client.call(Head())
                assert (answer.outcome, answer.items) == (Outcome.OK, ())
                assert answer.revision == int(reply.headers["x-jitterway-revision"])

    asyncio.run(run())


def test_the_revisions_of_others_are_not_waited_for(tmp_path: Path) -> None:
    if not has_etcd():
        pytest.skip("no etcd")
    from sync_agent.stores.etcd.options import EtcdOptions
    from sync_agent.stores.etcd.store import EtcdStore

    async def run(etcd: Etcd) -> None:
        store = EtcdStore(EtcdOptions(hosts=(etcd.endpoint,), prefix="/apisix"))
        processed = 0
        async with world(tmp_path, store, processed=lambda: processed) as admin:
            processed = int((await admin.ask("PUT", "/routes/1", ROUTE)).headers["x-jitterway-revision"])
            etcd.put("/others/routes/1", "{}")
            assert (await admin.client.call(Head())).revision == processed
            etcd.put("/apisix/routes/2", "{}")
            assert (await admin.client.call(Head())).revision > processed

    with Etcd(tmp_path) as etcd:
        asyncio.run(run(etcd))


class Headless(SqlStore):
    """A store that is away."""

    async def head(self) -> Any:
        raise StoreError("no database")


def test_where_a_store_stands_that_is_away(tmp_path: Path) -> None:
    async def run() -> None:
        store = sqlite_store(tmp_path)
        store.__class__ = Headless
        async with world(tmp_path, store) as admin:
            answer = await admin.client.call(Head())
            assert answer.outcome is Outcome.UNAVAILABLE
            assert answer.reason == "the configuration store did not do it: no database"

    asyncio.run(run())


class Halting(SqlStore):
    """A store whose list breaks off after the first page."""

    async def list(self, page_size: int = 500, *, below: str = "") -> AsyncGenerator[Page, None]:
        async for page in super().list(1, below=below):
            yield page
            raise StoreError("history was compacted while it was listed")


def test_a_list_that_breaks_off_is_no_list(tmp_path: Path) -> None:
    async def run() -> None:
        store = sqlite_store(tmp_path)
        async with world(tmp_path, store) as admin:
            for id in "ab":
                await admin.ask("PUT", f"/routes/{id}", ROUTE)
            store.__class__ = Halting
            reply = await admin.ask("GET", "/routes")
            assert reply.status == 503
            assert "list" not in reply.body

    asyncio.run(run())


async def _agent_that_says(path: Path, said: bytes) -> asyncio.Server:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(FRAME_HEADER.size)
        writer.write(said)
        writer.close()

    return await asyncio.start_unix_server(speak, path)


@pytest.mark.parametrize("said", [b"", b"\x00", FRAME_HEADER.pack(2**31), FRAME_HEADER.pack(3) + b"abc"])
def test_a_stranger_in_the_agent_s_place(tmp_path: Path, said: bytes) -> None:
    async def run() -> None:
        server = await _agent_that_says(tmp_path / "agent.sock", said)
        client = AgentClient(tmp_path / "agent.sock")
        for _ in range(2):
            with pytest.raises(AgentUnavailable):
                await client.call(Status())
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_an_agent_that_is_silent(tmp_path: Path) -> None:
    async def run() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_unix_server(hang, tmp_path / "agent.sock")
        client = AgentClient(tmp_path / "agent.sock", timeout_s=0.05)
        with pytest.raises(AgentUnavailable, match="did not answer within"):
            await client.call(Status())
        await client.close()
        server.close()
        await server.wait_closed()

    asyncio.run(run())


def test_many_at_once_get_their_own_answers(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as admin:

            async def come_and_go(number: int) -> None:
                labels = {f"k{each}": "v" * 60 for each in range(number)}  # answers of all lengths, up to 13 KB
                route = ROUTE | {"uri": f"/r{number}", "labels": labels}
                assert (await admin.ask("PUT", f"/routes/{number}", route)).status == 201
                reply = await admin.ask("GET", f"/routes/{number}")
                assert reply.body["value"]["uri"] == f"/r{number}"

            await asyncio.gather(*(come_and_go(number) for number in range(200)))
            reply = await admin.ask("GET", "/routes")
            assert reply.body["total"] == len(reply.body["list"]) == 200

    asyncio.run(run())


def test_an_operation_under_way_is_answered_before_the_agent_closes(tmp_path: Path) -> None:
    async def run() -> None:
        async with world(tmp_path) as admin:
            await admin.ask("PUT", "/routes/1", ROUTE)  # connected
            call = asyncio.create_task(admin.client.call(Get("routes", "1"), ADMIN_KEY))
            while not admin.server._connections or not any(each._under_way for each in admin.server._connections):
                await asyncio.sleep(0)
            await admin.server.close()
            assert (await call).outcome is Outcome.OK

    asyncio.run(run())
