"""`?wait=` as far as the Admin API goes: what is waited for is told to it, as a worker tells it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.asgi.protocol import ASGIProtocol

from gw.admin.agent_client import AgentClient
from gw.admin.app import admin_app
from gw.admin.configs import SETTLED_WITHIN_S
from gw.admin.parameters import MAX_WAIT_MS
from gw.clock import SystemClock
from sync_agent.stores.standalone.pushed_store import PushedStore
from tests.support.admin import ADMIN_KEY, ROUTE, VIEWER_KEY, World, admin_settings, agent, sqlite_store, world
from tests.support.asynchronous import asynchronous
from tests.support.edge import Worker

LATE = {"pid": 7, "cell": 0, "state": "serving", "version": 3, "revision": 4, "staleness_ms": 9, "why": "busy"}


class Waited:
    """Says who is late, and remembers what it was asked."""

    def __init__(self, *late: dict[str, Any]) -> None:
        self.late = list(late)
        self.asked: list[tuple[int, float]] = []

    async def until_served(self, revision: int, timeout_s: float) -> list[dict[str, Any]]:
        self.asked.append((revision, timeout_s))
        return self.late


async def _put(admin: World, query: str) -> tuple[int, Any]:
    reply = await admin.ask("PUT", f"/routes/1{query}", ROUTE)
    return reply.status, reply.body


async def _delete(admin: World, query: str) -> tuple[int, Any]:
    await admin.ask("PUT", "/routes/1", ROUTE)
    reply = await admin.ask("DELETE", f"/routes/1{query}")
    return reply.status, reply.body


async def _post(admin: World, query: str) -> tuple[int, Any]:
    reply = await admin.ask("POST", f"/routes{query}", ROUTE)
    return reply.status, reply.body


async def _put_by_body(admin: World, query: str) -> tuple[int, Any]:
    reply = await admin.ask("PUT", f"/routes{query}", ROUTE | {"id": "1"})
    return reply.status, reply.body


async def _patch(admin: World, query: str) -> tuple[int, Any]:
    await admin.ask("PUT", "/routes/1", ROUTE)
    reply = await admin.ask("PATCH", f"/routes/1{query}", {"uri": "/other"})
    return reply.status, reply.body


async def _patch_part(admin: World, query: str) -> tuple[int, Any]:
    await admin.ask("PUT", "/routes/1", ROUTE)
    reply = await admin.ask("PATCH", f"/routes/1/uri{query}", "/other")
    return reply.status, reply.body


WRITES = [(_put, 201), (_put_by_body, 201), (_post, 201), (_patch, 200), (_patch_part, 200), (_delete, 200)]


@pytest.mark.parametrize(("write", "status"), WRITES)
@asynchronous
async def test_a_write_that_is_served_is_answered_as_ever(
    tmp_path: Path, write: Callable[[World, str], Awaitable[tuple[int, Any]]], status: int
) -> None:
    waited = Waited()
    async with world(tmp_path, until_served=waited.until_served) as admin:
        answered, body = await write(admin, "?wait=2500")
        assert answered == status
        assert "laggards" not in body
        assert waited.asked == [((await admin.store.head()).revision, 2.5)]


@pytest.mark.parametrize(("write", "status"), WRITES)
@asynchronous
async def test_a_write_that_is_not_served_is_accepted_and_says_by_whom(
    tmp_path: Path, write: Callable[[World, str], Awaitable[tuple[int, Any]]], status: int
) -> None:
    async with world(tmp_path, until_served=Waited(LATE).until_served) as admin:
        answered, body = await write(admin, "?wait=0")
        assert answered == 202
        assert body.pop("laggards") == [LATE]
        assert body.keys() == ({"key", "deleted"} if write is _delete else {"key", "value"})


@asynchronous
async def test_nobody_waits_who_did_not_ask_or_wrote_nothing(tmp_path: Path) -> None:
    waited = Waited(LATE)
    async with world(tmp_path, until_served=waited.until_served) as admin:
        assert (await admin.ask("PUT", "/routes/1", ROUTE)).status == 201
        assert (await admin.ask("GET", "/routes/1?wait=5")).status == 200
        assert (await admin.ask("GET", "/routes?wait=5")).status == 200
        assert (await admin.ask("PUT", "/routes/1?wait=5", {"uri": "no slash"})).status == 400
        assert (await admin.ask("PATCH", "/routes/2?wait=5", {"uri": "/x"})).status == 404
        assert (await admin.ask("DELETE", "/routes/2?wait=5")).status == 404
        assert (await admin.ask("DELETE", "/routes/1?wait=5", key=VIEWER_KEY)).status == 401
        assert waited.asked == []


@asynchronous
async def test_a_document_settles_also_for_who_did_not_ask(tmp_path: Path) -> None:
    """A tenth of a second at most: clients of APISIX ask for what they put right behind it."""
    store = PushedStore(tmp_path / "document.json", SystemClock())
    waited = Waited(LATE)
    config = "deployment: {role_traditional: {config_provider: yaml}}"
    async with world(tmp_path, store, config=config, until_served=waited.until_served) as admin:
        for number, (query, late, status, body) in enumerate(
            (
                ("", [LATE], 202, None),
                ("?wait=0", [], 202, None),
                ("?wait=2500", [], 200, None),
                ("?wait=2500", [LATE], 202, {"laggards": [LATE]}),
            )
        ):
            waited.late = late
            reply = await admin.ask("PUT", f"/configs{query}", {}, headers={"X-Digest": str(number)})
            assert (reply.status, reply.body) == (status, body)
        assert (await admin.ask("PUT", "/configs", {}, headers={"X-Digest": "3"})).status == 204
    assert [timeout_s for _, timeout_s in waited.asked] == [SETTLED_WITHIN_S, SETTLED_WITHIN_S, 2.5, 2.5]


WRONG = ["", "-1", "+1", "1.5", "1e3", "0x10", "1,2", "%201", "a", "true", "%D9%A1", "600001", "9" * 30]


@pytest.mark.parametrize("value", WRONG)
@asynchronous
async def test_what_is_no_time_to_wait_is_refused_and_nothing_written(tmp_path: Path, value: str) -> None:
    async with world(tmp_path) as admin:
        before = await admin.store.head()
        reason = f"invalid argument wait: should be a number of milliseconds from 0 to {MAX_WAIT_MS}"
        for method, path, body in (
            ("PUT", "/routes/1", ROUTE),
            ("POST", "/routes", ROUTE),
            ("PATCH", "/routes/1", {}),
            ("DELETE", "/routes/1", None),
        ):
            reply = await admin.ask(method, f"{path}?wait={value}", body)
            assert (reply.status, reply.body) == (400, {"error_msg": reason})
        assert await admin.store.head() == before


@asynchronous
async def test_nobody_waits_for_a_client_that_has_gone(tmp_path: Path) -> None:
    """With gunicorn's own protocol, which ends what it runs for a client when that closes the connection."""
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def until_served(revision: int, timeout_s: float) -> list[dict[str, Any]]:
        waiting.set()
        try:
            return await asyncio.Future()
        finally:
            ended.set()

    store = sqlite_store(tmp_path)
    async with agent(tmp_path, store):
        client = AgentClient(tmp_path / "agent.sock")
        loop = asyncio.get_running_loop()
        worker = Worker(admin_app(admin_settings(tmp_path), client, until_served), loop)
        server = await loop.create_server(lambda: ASGIProtocol(worker), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        body = json.dumps(ROUTE).encode()
        head = f"PUT /apisix/admin/routes/1?wait=600000 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-KEY: {ADMIN_KEY}\r\n"
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        await waiting.wait()
        writer.close()
        await ended.wait()
        server.close()
        await client.close()
    await store.close()
    del reader
