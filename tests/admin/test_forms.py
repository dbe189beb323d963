"""The forms of answers: of APISIX 2.x where it is asked for, and what marks every answer.

Facts: t/admin/*.t and apisix/core/etcd.lua of APISIX 2.15.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gw import __version__
from gw.errors import ConfigError
from tests.support.admin import ROUTE, UPSTREAM, MakeStore, MovedClock, World, admin_settings, world

V2 = "deployment: {admin: {admin_api_version: v2}}\n"
CREATED = 1_700_000_000


def play(
    scenario: Callable[[World], Awaitable[None]], directory: Path, make_store: MakeStore | None = None, **options: Any
) -> None:
    async def run() -> None:
        async with world(directory, make_store() if make_store else None, clock=MovedClock(), **options) as made:
            await scenario(made)

    asyncio.run(run())


def test_the_forms_of_2x(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        times = {"create_time": CREATED, "update_time": CREATED}
        value = {**ROUTE, "id": "1", **times}
        empty = await admin.ask("GET", "/routes")
        assert empty.body == {"action": "get", "count": 0, "node": {"dir": True, "key": "/apisix/routes", "nodes": []}}
        assert empty.headers["X-API-VERSION"] == "v2"

        created = await admin.ask("PUT", "/routes/1", ROUTE)
        assert (created.status, created.body) == (
            201,
            {"action": "set", "node": {"key": "/apisix/routes/1", "value": value}},
        )
        found = await admin.ask("GET", "/routes/1")
        index = found.body["node"]["createdIndex"]
        node = {"key": "/apisix/routes/1", "value": value, "createdIndex": index, "modifiedIndex": index}
        assert found.body == {"action": "get", "count": 1, "node": node}
        # No pages and no filters, as there.
        for query in ("", "?page=1&page_size=10", "?name=nothing", "?page_size=1"):
            listed = await admin.ask("GET", f"/routes{query}")
            directory = {"dir": True, "key": "/apisix/routes", "nodes": [node]}
            assert listed.body == {"action": "get", "count": 1, "node": directory}

        made = await admin.ask("POST", "/upstreams", UPSTREAM)
        id = made.body["node"]["value"]["id"]
        assert made.body == {
            "action": "create",
            "node": {"key": f"/apisix/upstreams/{id}", "value": {**UPSTREAM, "id": id, **times}},
        }
        patched = await admin.ask("PATCH", "/routes/1", {"desc": "x"})
        assert patched.body["action"] == "compareAndSwap"
        assert patched.body["node"]["value"] == {**value, "desc": "x"}
        deleted = await admin.ask("DELETE", "/routes/1")
        assert deleted.body == {"action": "delete", "deleted": "1", "key": "/apisix/routes/1", "node": {}}
        missing = await admin.ask("GET", "/routes/1")
        assert (missing.status, missing.body) == (404, {"message": "Key not found"})
        refused = await admin.ask("PUT", "/routes/1", {})
        assert (refused.status, set(refused.body)) == (400, {"error_msg"})

    play(scenario, tmp_path, make_store, config=V2)


def test_who_does_not_serve_it_yet_is_told_in_each_form(tmp_path: Path) -> None:
    laggard = {"pid": 1, "why": "it sleeps"}

    async def nobody(revision: int, timeout_s: float) -> list[dict[str, Any]]:
        return [laggard]

    async def scenario(admin: World) -> None:
        for method, path, body in (("PUT", "/routes/1", ROUTE), ("DELETE", "/routes/1", None)):
            reply = await admin.ask(method, f"{path}?wait=0", body)
            assert (reply.status, reply.body["laggards"]) == (202, [laggard])

    play(scenario, tmp_path, until_served=nobody)
    play(scenario, tmp_path, until_served=nobody, config=V2)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", f"Jitterway/{__version__}"),
        ("gw: {admin: {server_header: auto}}\n", f"Jitterway/{__version__}"),
        ("apisix: {enable_server_tokens: false}\n", "Jitterway"),
        ("apisix: {enable_server_tokens: false}\ngw: {admin: {server_header: A/1}}\n", "A/1"),
        ("gw: {admin: {server_header: APISIX/3.14.1}}\n", "APISIX/3.14.1"),
        ("gw: {admin: {server_header: APISIX web server}}\n", "APISIX web server"),
    ],
)
def test_every_answer_says_which_server_it_is_of(tmp_path: Path, text: str, shown: str) -> None:
    async def scenario(admin: World) -> None:
        for method, path, key in (
            *(("HEAD", "", "k"), ("GET", "/routes", "k"), ("GET", "/nonsense", "k"), ("PUT", "/routes/1", "k")),
            *(("GET", "/routes", ""), ("GET", "//elsewhere", "k"), ("PROPFIND", "/routes/1", "k")),
        ):
            reply = await (admin.ask(method, path) if key else admin.ask(method, path, key=None))
            version = "v3" if key else None
            assert (reply.headers["Server"], reply.headers.get("X-API-VERSION")) == (shown, version), (method, path)

    play(scenario, tmp_path, config=text)


@pytest.mark.parametrize("value", ['"a\\nb"', '" a"', '"a "', '""', '"\\u00e4"', "'" + "a" * 129 + "'", "[]"])
def test_what_no_header_can_hold_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"gw\.admin\.server_header"):
        admin_settings(tmp_path, f"gw: {{admin: {{server_header: {value}}}}}\n")
