"""Nothing of the Admin API can be had without passing the gate."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import falcon.inspect
import pytest

from gw.admin.agent_client import AgentClient
from gw.admin.app import admin_app
from sync_agent.admin.keys import AdminKeys
from tests.support.admin import ADMIN_KEY, KEYS, ROUTE, VIEWER_KEY, World, admin_settings, served_at_once, world


def play(scenario: Callable[[World], Awaitable[None]], directory: Path, **options: Any) -> None:
    async def run() -> None:
        async with world(directory, **options) as made:
            await scenario(made)

    asyncio.run(run())


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "NONSENSE"]


def paths_of(directory: Path) -> Iterator[str]:
    """Every route falcon knows, filled in; and spellings that other gateways let slip past their key."""
    app = admin_app(admin_settings(directory), AgentClient(directory / "agent.sock"), served_at_once)
    for route in falcon.inspect.inspect_app(app).routes:
        path = route.path.replace("{kind}", "routes").replace("{id}", "1").replace("{path:path}", "upstream/nodes")
        path = path.replace("{name}", "limit-count")
        assert "{" not in path, f"{route.path} has a field this test does not know"
        yield path
        yield path + "/"
        yield "/" + path
        yield path.replace("/admin/", "/%61dmin/")
        yield path.replace("/admin/", "/admin/../admin/")
        yield path.replace("/admin/", "/admin/%2e%2e/admin/")
    yield from ("/", "/apisix", "/apisix/admin", "/apisix/admin/nonsense", "/elsewhere", "/apisix/admin/routes/a%2Fb")


def test_no_method_and_no_path_is_had_without_a_key(tmp_path: Path) -> None:
    paths = sorted(set(paths_of(tmp_path)))
    assert len(paths) > 20

    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/routes/1", ROUTE)
        before = await admin.store.head()
        for path in paths:
            for method in METHODS:
                for key, description in ((None, "missing apikey"), ("wrong", "wrong apikey"), ("", "missing apikey")):
                    reply = await admin.ask(method, "/" + path, key=key, headers={"X-HTTP-Method-Override": "GET"})
                    assert reply.status == 401, (method, path, key)
                    if method != "HEAD":
                        assert reply.body == {"error_msg": "failed to check token", "description": description}
        assert await admin.store.head() == before

    play(scenario, tmp_path)


def test_a_viewer_reads_and_does_nothing_else(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/routes/1", ROUTE)
        before = await admin.store.head()
        assert (await admin.ask("GET", "/routes/1", key=VIEWER_KEY)).status == 200
        assert (await admin.ask("GET", "/routes", key=VIEWER_KEY)).body["total"] == 1
        for method in METHODS:
            if method != "GET":
                reply = await admin.ask(method, "/routes/1", ROUTE, key=VIEWER_KEY)
                assert reply.status == 401, method
                if method != "HEAD":
                    assert reply.body["description"] == "invalid method for role viewer"
        assert await admin.store.head() == before

    play(scenario, tmp_path)


def test_a_key_counts_in_its_header_only(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        assert (await admin.ask("GET", f"/routes?api_key={ADMIN_KEY}", key=None)).status == 401
        assert (await admin.ask("GET", "/routes", key=None, headers={"Cookie": f"x_api_key={ADMIN_KEY}"})).status == 401
        bearer = {"Authorization": f"Bearer {ADMIN_KEY}"}
        assert (await admin.ask("GET", "/routes", key=None, headers=bearer)).status == 401

    play(scenario, tmp_path)


def test_without_admin_key_required(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        assert (await admin.ask("PUT", "/routes/1", ROUTE, key=None)).status == 201

    play(scenario, tmp_path, keys=AdminKeys(KEYS, required=False))


PEERS = [
    ("127.0.0.1", 200),
    ("127.0.0.200", 200),
    ("::ffff:127.0.0.1", 200),
    ("127.0.1.1", 403),
    ("10.0.0.1", 403),
    ("::1", 403),
    ("::ffff:10.0.0.1", 403),
    ("", 403),
]


@pytest.mark.parametrize(("peer", "status"), PEERS)
def test_the_socket_decides_who_asks(tmp_path: Path, peer: str, status: int) -> None:
    forged = {
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Forwarded": "for=127.0.0.1",
        "X-Client-IP": "127.0.0.1",
    }

    async def scenario(admin: World) -> None:
        assert (await admin.ask("GET", "/routes", peer=peer, headers=forged)).status == status

    play(scenario, tmp_path)


def test_an_empty_allow_list_lets_nobody_in(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        assert (await admin.ask("GET", "/routes")).status == 403

    play(scenario, tmp_path, config="deployment: {admin: {allow_admin: []}}\n")


HOSTS = [
    ("127.0.0.1", 200),
    ("localhost", 200),
    ("LocalHost", 200),
    ("[::1]", 200),
    ("192.168.3.4", 200),
    ("rebound.evil.example", 403),
    ("127.0.0.1.evil.example", 403),
    ("localhost.evil.example", 403),
    ("127.1", 403),
    ("a@127.0.0.1", 403),
    ("a b", 403),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_host_names_this_gateway(tmp_path: Path, host: str, status: int) -> None:
    async def scenario(admin: World) -> None:
        assert (await admin.ask("GET", "/routes", host=host)).status == status

    play(scenario, tmp_path)


ORIGINS = [
    ("http://127.0.0.1:9180", 201),
    ("https://127.0.0.1", 201),
    ("http://127.0.0.1:9000", 201),
    ("https://evil.example", 403),
    ("http://127.0.0.1.evil.example", 403),
    ("http://evil.example/127.0.0.1", 403),
    ("http://127.0.0.1@evil.example", 403),
    ("http://localhost:9180", 403),
    ("null", 403),
    ("", 403),
]


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
def test_no_page_from_elsewhere_writes(tmp_path: Path, origin: str, media_type: str, status: int) -> None:
    async def scenario(admin: World) -> None:
        headers = {"Origin": origin, "Content-Type": media_type}
        reply = await admin.ask("PUT", "/routes/1", ROUTE, headers=headers)
        assert reply.status == status
        if status == 403:
            assert "Access-Control-Allow-Origin" not in reply.headers

    play(scenario, tmp_path)


def test_preflight(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        asks = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "x-api-key"}
        near = await admin.ask(
            "OPTIONS", "/routes/1", key=None, headers=asks | {"Origin": "http://127.0.0.1:9000"}
        )
        assert near.status == 200
        assert near.headers["Access-Control-Allow-Origin"] == "http://127.0.0.1:9000"
        assert "PUT" in near.headers["Access-Control-Allow-Methods"]
        assert "X-Digest" in near.headers["Access-Control-Allow-Headers"], "without it no page can put a document"
        assert "Access-Control-Allow-Credentials" not in near.headers
        read = await admin.ask("GET", "/routes", headers={"Origin": "http://127.0.0.1:9000"})
        exposed = read.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"X-API-VERSION", "X-Jitterway-Revision"} <= set(exposed), "else a page cannot read them"
        far = await admin.ask("OPTIONS", "/routes/1", key=None, headers=asks | {"Origin": "https://evil.example"})
        assert far.status == 403
        assert not [name for name in far.headers if name.lower().startswith("access-control")]
        assert (await admin.ask("OPTIONS", "/routes/1", key=None, headers=asks)).status == 401

    play(scenario, tmp_path)


def test_preflight_without_cors(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        headers = {"Access-Control-Request-Method": "PUT", "Origin": "http://127.0.0.1:9000"}
        reply = await admin.ask("OPTIONS", "/routes/1", key=None, headers=headers)
        assert reply.status == 401
        assert "Access-Control-Allow-Origin" not in reply.headers

    play(scenario, tmp_path, config="deployment: {admin: {enable_admin_cors: false}}\n")


PATHS = [
    "/routes/../routes/1",
    "/routes/%2e%2e/routes/1",
    "/routes/.%2E",
    "/routes/%2e",
    "/routes/a%2fb",
    "/routes/a%2Fb",
    "/routes/a%5cb",
    "/routes/a\\b",
    "/routes/a%00",
    "/routes/a%0d%0ab",
    "/routes/%1b[2J",
    "//apisix/admin//routes/1",
    "/routes//1",
    "/routes/1//upstream",
    "/routes/%ff",
    "/routes/%252e%252e",
    "/routes/a%252fb",
    "/routes/..%3bx",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_are_read_in_two_ways(tmp_path: Path, path: str) -> None:
    async def scenario(admin: World) -> None:
        before = await admin.store.head()
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            reply = await admin.ask(method, path, ROUTE if method in ("PUT", "PATCH") else None)
            assert reply.status in (400, 404, 405), (method, reply)
        assert await admin.store.head() == before

    play(scenario, tmp_path)


def test_no_key_in_an_answer_or_a_log_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario(admin: World) -> None:
        for key in (ADMIN_KEY, VIEWER_KEY, ADMIN_KEY + "x"):
            for method, path, raw in (
                ("PUT", "/routes/1", b'{"uri": "/\xff"}'),
                ("PUT", "/routes/1", b'{"uri": 1}'),
                ("PUT", f"/routes/1?ttl={key}", b"{}"),
                ("DELETE", "/routes/1", None),
                ("GET", "/nonsense", None),
                ("GET", "/routes/%0a", None),
            ):
                reply = await admin.ask(method, path, raw=raw, key=key, headers={"Cookie": f"k={key}"})
                assert key not in repr(reply)
        await admin.server.close()
        reply = await admin.ask("GET", "/routes")
        assert reply.status == 503
        assert ADMIN_KEY not in repr(reply)

    play(scenario, tmp_path)
    assert "planted" not in caplog.text
    assert "planted" not in repr(AdminKeys(KEYS)) + repr(vars(AdminKeys(KEYS)))
