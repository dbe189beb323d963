"""References between resources, patches, and writers who meet, over each store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gw.admin.agent_client import AgentClient
from gw.model.operations import Outcome, Patch
from tests.support.admin import ADMIN_KEY, ROUTE, UPSTREAM, MakeStore, World, agent, world


def play(scenario: Callable[[World], Awaitable[None]], directory: Path, make_store: MakeStore | None = None) -> None:
    async def run() -> None:
        async with world(directory, make_store() if make_store else None) as made:
            await scenario(made)

    asyncio.run(run())


def test_what_is_referred_to_must_be_there(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        missing = await admin.ask("PUT", "/routes/1", {"uri": "/a", "upstream_id": "u"})
        assert (missing.status, missing.body) == (
            400,
            {"error_msg": "failed to fetch upstream info by upstream id [u], response code: 404"},
        )
        missing = await admin.ask("POST", "/routes", {"uri": "/a", "service_id": 7})
        assert missing.body["error_msg"] == "failed to fetch service info by service id [7], response code: 404"
        missing = await admin.ask("PUT", "/services/7", {"upstream_id": "u"})
        assert missing.body["error_msg"].startswith("failed to fetch upstream info")

        await admin.ask("PUT", "/upstreams/u", UPSTREAM)
        assert (await admin.ask("PUT", "/services/7", {"upstream_id": "u"})).status == 201
        assert (await admin.ask("PUT", "/routes/1", {"uri": "/a", "service_id": 7})).status == 201
        broken = await admin.ask("PATCH", "/routes/1", {"service_id": "8"})
        assert broken.body["error_msg"].startswith("failed to fetch service info by service id [8]")
        assert (await admin.ask("GET", "/routes/1")).body["value"]["service_id"] == 7

    play(scenario, tmp_path, make_store)


def test_what_is_in_use_stays(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/upstreams/u", UPSTREAM)
        await admin.ask("PUT", "/services/7", {"upstream_id": "u"})
        await admin.ask("PUT", "/routes/1", {"uri": "/a", "service_id": 7})

        refused = await admin.ask("DELETE", "/services/7")
        assert (refused.status, refused.body) == (
            400,
            {"error_msg": "can not delete this service directly, route [1] is still using it now"},
        )
        refused = await admin.ask("DELETE", "/upstreams/u")
        assert refused.body["error_msg"] == "can not delete this upstream, service [7] is still using it now"
        await admin.ask("PUT", "/routes/2", {"uri": "/a", "upstream_id": "u"})
        refused = await admin.ask("DELETE", "/upstreams/u?force=1")
        assert refused.body["error_msg"] == "can not delete this upstream, route [2] is still using it now"

        assert (await admin.ask("DELETE", "/upstreams/u?force=true")).status == 200
        assert (await admin.ask("DELETE", "/routes/1")).status == 200
        assert (await admin.ask("DELETE", "/services/7")).status == 200

    play(scenario, tmp_path, make_store)


def test_traffic_split_uses_upstreams_too(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/upstreams/u", UPSTREAM)
        rules = [{"weighted_upstreams": [{"weight": 1}, {"upstream_id": "u", "weight": 1}]}]
        value = b'{"uri":"/a","id":"1","plugins":{"traffic-split":{"rules":%s}}}'
        await admin.store.put("routes/1", value % str(rules).replace("'", '"').encode())
        await admin.store.put("routes/2", value % b'"nonsense"')
        refused = await admin.ask("DELETE", "/upstreams/u")
        assert refused.body["error_msg"] == "can not delete this upstream, plugin in route [1] is still using it now"

    play(scenario, tmp_path)


PATCHES = [
    # before (beside ROUTE), sub-path, body, after (a member and its value)
    ({"desc": "x"}, "", {"desc": None}, ("desc", None)),
    ({}, "", {"desc": "y", "labels": {"a": "b", "c": None}}, ("labels", {"a": "b"})),
    ({"labels": {"a": "b"}}, "", {"labels": {"c": "d"}}, ("labels", {"a": "b", "c": "d"})),
    ({"methods": ["GET"]}, "", {"methods": ["PUT"]}, ("methods", ["PUT"])),
    ({}, "/methods", ["GET", "POST"], ("methods", ["GET", "POST"])),
    ({"methods": ["GET"]}, "/methods", None, ("methods", None)),
    ({"labels": {"a": "b"}}, "/labels", {"c": "d"}, ("labels", {"c": "d"})),
    ({}, "/labels/a", "b", ("labels", {"a": "b"})),
    ({"labels": {"a": "b", "c": "d"}}, "/labels/c", None, ("labels", {"a": "b"})),
    ({}, "/desc", "text", ("desc", "text")),
    ({}, "/priority", 7, ("priority", 7)),
]


@pytest.mark.parametrize(("before", "sub_path", "body", "after"), PATCHES)
def test_patches(tmp_path: Path, before: dict[str, Any], sub_path: str, body: Any, after: tuple[str, Any]) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/routes/1", ROUTE | before)
        raw = b"null" if body is None else None
        reply = await admin.ask("PATCH", f"/routes/1{sub_path}", body, raw=raw)
        assert reply.status == 200, reply.body
        assert reply.body["value"].get(after[0]) == after[1]
        assert reply.body["value"]["uri"] == "/hello"
        assert reply.body["value"]["id"] == "1"
        assert (await admin.ask("GET", "/routes/1")).body["value"] == reply.body["value"]

    play(scenario, tmp_path)


BAD_PATCHES = [
    ("", {"id": "2"}, "wrong route id"),
    ("", {"uri": 1}, "invalid configuration: "),
    ("", {"upstream": None}, "invalid configuration: "),
    ("/uri/x", "y", "invalid sub-path: /uri"),
    ("/methods/0", "PUT", "invalid sub-path: /methods"),
    ("/methods/0/x", "PUT", "invalid sub-path: /methods"),
    ("/id", "2", "wrong route id"),
    ("/nonsense", 1, "invalid configuration: "),
    ("/upstream/nodes", "x", "invalid configuration: "),
]


@pytest.mark.parametrize(("sub_path", "body", "reason"), BAD_PATCHES)
def test_patches_that_will_not_do(tmp_path: Path, sub_path: str, body: Any, reason: str) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/routes/1", ROUTE | {"methods": ["GET"]})
        before = await admin.store.head()
        reply = await admin.ask("PATCH", f"/routes/1{sub_path}", body)
        assert reply.status == 400
        assert reply.body["error_msg"].startswith(reason), reply.body
        assert await admin.store.head() == before

    play(scenario, tmp_path)


def test_times_under_patch(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/routes/1", ROUTE)
        reply = await admin.ask("PATCH", "/routes/1", {"update_time": 5, "create_time": 4})
        assert (reply.body["value"]["update_time"], reply.body["value"]["create_time"]) == (5, 4)
        reply = await admin.ask("PATCH", "/routes/1", {"desc": "x"})
        assert reply.body["value"]["update_time"] > 5
        assert reply.body["value"]["create_time"] == 4

    play(scenario, tmp_path)


def test_two_gateways_lose_no_update(tmp_path: Path, make_store: MakeStore) -> None:
    """Two agents on one store, as on two hosts, each with clients that patch the same resource at once."""

    async def run() -> None:
        other_directory = tmp_path / "other"
        other_directory.mkdir()
        store = make_store()
        async with world(tmp_path, store) as admin, agent(other_directory, store):
            await admin.ask("PUT", "/routes/1", ROUTE)
            other = AgentClient(other_directory / "agent.sock")

            async def patch_there(number: int) -> None:
                answer = await other.call(Patch("routes", "1", {"labels": {f"b{number}": "x"}}), ADMIN_KEY)
                assert answer.outcome is Outcome.OK, answer

            async def patch_here(number: int) -> None:
                reply = await admin.ask("PATCH", "/routes/1", {"labels": {f"a{number}": "x"}})
                assert reply.status == 200, reply.body

            patches = [patch(number) for number in range(30) for patch in (patch_here, patch_there)]
            await asyncio.gather(*patches)
            labels = (await admin.ask("GET", "/routes/1")).body["value"]["labels"]
            assert set(labels) == {f"{side}{number}" for side in "ab" for number in range(30)}
            await other.close()

    asyncio.run(run())


def test_a_reference_and_a_delete_at_once(tmp_path: Path, make_store: MakeStore) -> None:
    """Whoever comes first wins; never is there a route that names what is gone."""

    async def scenario(admin: World) -> None:
        for round in range(10):
            await admin.ask("PUT", f"/upstreams/u{round}", UPSTREAM)
            put, delete = await asyncio.gather(
                admin.ask("PUT", f"/routes/{round}", {"uri": "/a", "upstream_id": f"u{round}"}),
                admin.ask("DELETE", f"/upstreams/u{round}"),
            )
            assert (put.status, delete.status) in ((201, 400), (400, 200))

    play(scenario, tmp_path, make_store)
