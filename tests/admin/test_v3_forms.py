"""The Admin API's answers, in APISIX's v3 form, over each store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gw.model.keys import KINDS
from gw.model.operations import NOUNS
from tests.support.admin import ROUTE, UPSTREAM, MakeStore, MovedClock, World, sqlite_store, world

Scenario = Callable[[World], Awaitable[None]]


def play(scenario: Scenario, directory: Path, make_store: MakeStore | None = None, **options: Any) -> None:
    async def run() -> None:
        async with world(directory, make_store() if make_store else None, **options) as made:
            await scenario(made)

    asyncio.run(run())


def test_every_kind_has_a_noun() -> None:
    assert set(NOUNS) == set(KINDS)


def test_a_resource_from_birth_to_death(tmp_path: Path, make_store: MakeStore) -> None:
    clock = MovedClock()

    async def scenario(admin: World) -> None:
        created = await admin.ask("PUT", "/routes/1", ROUTE)
        born = int(clock.wall_s)
        value = dict(ROUTE) | {"id": "1", "create_time": born, "update_time": born}
        assert (created.status, created.body) == (201, {"key": "/apisix/routes/1", "value": value})

        found = await admin.ask("GET", "/routes/1")
        assert found.status == 200
        assert found.body["value"] == value
        assert found.body["key"] == "/apisix/routes/1"
        assert found.body["createdIndex"] == found.body["modifiedIndex"] > 0
        assert found.headers["X-API-VERSION"] == "v3"
        assert found.headers["Content-Type"] == "application/json"

        clock.wall_s += 60
        changed = await admin.ask("PUT", "/routes/1", ROUTE | {"uri": "/bye"})
        assert changed.status == 200
        assert changed.body["value"] == value | {"uri": "/bye", "update_time": born + 60}

        clock.wall_s += 60
        patched = await admin.ask("PATCH", "/routes/1", {"desc": "x"})
        assert patched.status == 200
        assert patched.body["value"] == value | {"uri": "/bye", "desc": "x", "update_time": born + 120}

        again = await admin.ask("GET", "/routes/1")
        assert again.body["createdIndex"] == found.body["createdIndex"] < again.body["modifiedIndex"]

        deleted = await admin.ask("DELETE", "/routes/1")
        assert (deleted.status, deleted.body) == (200, {"key": "/apisix/routes/1", "deleted": "1"})
        for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"desc": "y"})):
            missing = await admin.ask(method, "/routes/1", body)
            assert (missing.status, missing.body) == (404, {"message": "Key not found"})

    play(scenario, tmp_path, make_store, clock=clock)


def test_post_makes_an_id(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        first = await admin.ask("POST", "/upstreams", UPSTREAM)
        second = await admin.ask("POST", "/upstreams", UPSTREAM)
        ids = [reply.body["value"]["id"] for reply in (first, second)]
        assert first.status == second.status == 201
        assert all(len(id) == 20 and id.isdigit() for id in ids)
        assert ids[0] < ids[1]
        assert first.body["key"] == f"/apisix/upstreams/{ids[0]}"
        assert (await admin.ask("GET", f"/upstreams/{ids[1]}")).status == 200

    play(scenario, tmp_path, make_store)


def test_post_steps_past_an_id_that_is_taken(tmp_path: Path, make_store: MakeStore) -> None:
    """A store that was restored from a backup issues revisions again under which ids were made."""

    async def scenario(admin: World) -> None:
        head = await admin.store.head()
        # Putting these takes three revisions, so what is next is taken when the POST comes.
        for ahead in (4, 5):
            await admin.ask("PUT", f"/upstreams/{head.revision + ahead - 1:020d}", UPSTREAM)
        posts = await asyncio.gather(*(admin.ask("POST", "/upstreams", UPSTREAM) for _ in range(8)))
        assert {reply.status for reply in posts} == {201}
        assert len({reply.body["key"] for reply in posts}) == 8
        assert (await admin.ask("GET", "/upstreams")).body["total"] == 10

    play(scenario, tmp_path, make_store)


def test_lists_and_pages(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        empty = await admin.ask("GET", "/routes")
        assert (empty.status, empty.body) == (200, {"total": 0, "list": []})
        ids = [str(number) for number in range(25, 0, -1)]
        for id in ids:
            await admin.ask("PUT", f"/routes/{id}", ROUTE)
        await admin.ask("PUT", "/upstreams/1", UPSTREAM)
        whole = await admin.ask("GET", "/routes/")
        assert whole.body["total"] == 25
        assert [item["value"]["id"] for item in whole.body["list"]] == sorted(ids)
        assert set(whole.body["list"][0]) == {"key", "value", "createdIndex", "modifiedIndex"}
        for page, expected in ((1, ids[:10]), (2, ids[10:20]), (3, ids[20:]), (4, [])):
            reply = await admin.ask("GET", f"/routes?page={page}&page_size=10")
            assert reply.body["total"] == 25
            assert [item["value"]["id"] for item in reply.body["list"]] == expected, "in the order of creation"
        for below_the_first in (0, -1):
            reply = await admin.ask("GET", f"/routes?page={below_the_first}&page_size=10")
            assert [item["value"]["id"] for item in reply.body["list"]] == ids[:10]
        for half in ("page=2", "page_size=11"):
            assert len((await admin.ask("GET", f"/routes?{half}")).body["list"]) == 25, "one alone asks for no page"

    play(scenario, tmp_path, make_store)


FILTERS = [
    ("name=shop", {"a"}),
    ("name=%5Eshop-a$", {"a"}),
    ("name=%5Eop", set()),
    ("name=s.op", {"a"}),
    ("name=[q-t]hop", {"a"}),
    ("name=^(shop|stop)-.%2B$", {"a"}),
    ("uri=/x/.*|^/d$", {"b", "d"}),
    ("uri=/x", {"b"}),
    ("uri=/hello", {"a", "c", "e"}),
    ("uri=/y", {"b"}),
    ("label=env", {"c"}),
    ("label=prod", set()),
    ("label=env&uri=/hello", {"c"}),
    ("label=env&name=shop", set()),
    ("label=", set()),
    ("filter=service_id%3D1", {"d", "e"}),
    ("filter=service_id=1", {"d", "e"}),
    ("filter=service_id%3D1%26upstream_id%3D2", {"e"}),
    ("filter=upstream_id%3D2&uri=/hello", {"e"}),
    ("filter=upstream_id%3Dnone", set()),
    ("filter=", {"a", "b", "c", "d", "e"}),
]


def test_filters(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        upstream = {"upstream": ROUTE["upstream"]}
        await admin.ask("PUT", "/routes/a", ROUTE | {"name": "shop-a"})
        await admin.ask("PUT", "/routes/b", {"uris": ["/x/1", "/y"], **upstream})
        await admin.ask("PUT", "/routes/c", ROUTE | {"labels": {"env": "prod"}})
        await admin.ask("PUT", "/services/1", {})
        await admin.ask("PUT", "/upstreams/2", UPSTREAM)
        await admin.ask("PUT", "/routes/d", {"uri": "/d", "service_id": 1})
        await admin.ask("PUT", "/routes/e", {"uri": "/hello/e", "service_id": "1", "upstream_id": 2})
        for query, expected in FILTERS:
            reply = await admin.ask("GET", f"/routes?{query}")
            assert {item["value"]["id"] for item in reply.body["list"]} == expected, query
            assert reply.body["total"] == len(expected), query

    play(scenario, tmp_path)


BAD_QUERIES = [
    ("/routes?page_size=9", "page_size must be between 10 and 500"),
    ("/routes?page_size=501", "page_size must be between 10 and 500"),
    ("/routes?filter=desc%3Dx", "invalid argument filter: routes can be filtered by service_id and upstream_id"),
    ("/routes?filter=x", "invalid argument filter: routes can be filtered by service_id and upstream_id"),
    ("/services?filter=upstream_id%3D1", "invalid argument filter: services can be filtered by nothing"),
    ("/routes?page=x&page_size=10", "invalid argument page: should be a number"),
    ("/routes?page_size=1e2", "invalid argument page_size: should be a number"),
    ("/routes?page_size=%D9%A1%D9%A0", "invalid argument page_size: should be a number"),
    ("/routes?name=(%3F=a)b", "invalid argument name: no regular expression without looking around"),
    ("/routes?uri=[", "invalid argument uri: no regular expression"),
    ("/routes?uri=" + "a" * 257, "invalid argument uri: a pattern has at most 256 characters"),
]


@pytest.mark.parametrize(("path", "reason"), BAD_QUERIES)
def test_queries_that_mean_nothing(tmp_path: Path, path: str, reason: str) -> None:
    async def scenario(admin: World) -> None:
        reply = await admin.ask("GET", path)
        assert reply.status == 400
        assert reply.body["error_msg"].startswith(reason)

    play(scenario, tmp_path)


BAD_ID = 'invalid configuration: property "id" validation failed: '
IDS = [
    # method, path, body, status, reason
    ("PUT", "/routes", ROUTE, 400, "missing route id"),
    ("PUT", "/routes", ROUTE | {"id": "from-body"}, 201, None),
    ("PUT", "/routes", ROUTE | {"id": 17}, 201, None),
    ("PUT", "/routes/1", ROUTE | {"id": 1}, 201, None),
    ("PUT", "/routes/1", ROUTE | {"id": "2"}, 400, "wrong route id"),
    ("PUT", "/routes", ROUTE | {"id": -100}, 400, f"{BAD_ID}object matches none of the required"),
    ("PUT", "/routes", ROUTE | {"id": ["1"]}, 400, f"{BAD_ID}object matches none of the required"),
    ("PUT", "/routes/1", ROUTE | {"id": True}, 400, "wrong route id"),
    ("PUT", "/routes/1", ROUTE | {"id": ["1"]}, 400, "wrong route id"),
    ("POST", "/routes", ROUTE | {"id": "1"}, 400, "wrong route id, do not need it"),
    ("POST", "/routes/1", ROUTE, 400, "wrong route id, do not need it"),
    ("PATCH", "/routes", {"desc": "x"}, 400, "missing route id"),
    ("DELETE", "/services", None, 400, "missing service id"),
    ("PUT", "/routes/" + "a" * 65, ROUTE, 400, BAD_ID),
    ("PUT", "/routes/" + "a" * 64, ROUTE, 201, None),
    ("GET", "/routes/a%20b", None, 400, BAD_ID),
    ("GET", "/routes/a:b", None, 400, BAD_ID),
    ("DELETE", "/routes/%C3%A4", None, 400, BAD_ID),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "reason"), IDS)
def test_ids(tmp_path: Path, method: str, path: str, body: Any, status: int, reason: str | None) -> None:
    async def scenario(admin: World) -> None:
        reply = await admin.ask(method, path, body)
        assert reply.status == status, reply.body
        if reason:
            assert reply.body["error_msg"].startswith(reason)
        else:
            assert reply.body["key"] == f"/apisix/routes/{reply.body['value']['id']}"
            # A number stays one where nothing but the body says it.
            assert isinstance(reply.body["value"]["id"], str if path != "/routes" else type(body["id"]))

    play(scenario, tmp_path)


BAD_BODIES = [
    ("PUT", "/routes/1", b"", 400, "missing configurations"),
    ("POST", "/routes", b"", 400, "missing configurations"),
    ("PATCH", "/routes/1", b"", 400, "missing new configuration"),
    ("PATCH", "/routes/1", b"[]", 400, "invalid configuration"),
    ("PUT", "/routes/1", b"[]", 400, "invalid configuration: wrong type"),
    ("PUT", "/routes/1", b"null", 400, "invalid configuration: wrong type"),
    ("PUT", "/routes/1", b"{", 400, "invalid request body: invalid JSON"),
    ("PUT", "/routes/1", b'{"uri": "/a", "uri": "/b"}', 400, "invalid request body: "),
    ("PUT", "/routes/1", b'{"uri": "/a", "priority": NaN}', 400, "invalid request body: "),
    ("PUT", "/routes/1", b'{"uri": "/\xff"}', 400, "invalid request body: invalid JSON: not UTF-8"),
    ("PUT", "/routes/1", b'\xef\xbb\xbf{"uri": "/a"}', 400, "invalid request body: invalid JSON: begins with a byte"),
    ("PUT", "/routes/1", b"[" * 5000 + b"]" * 5000, 400, "invalid request body: "),
    ("PUT", "/routes/1", b'{"uri": "/\\ud800"}', 400, "invalid "),
    ("PUT", "/routes/1", b'{"uri": "/a", "priority": 1' + b"0" * 30 + b"}", 400, "invalid "),
    ("PUT", "/routes/1", b'{"uri": "/a", "upstream_id": "1", "nonsense": 1}', 400, "invalid configuration: "),
    ("PUT", "/routes/1", b'{"uri": 1}', 400, "invalid configuration: "),
    ("PUT", "/routes/1", b'{"uri": "/a"}', 400, "invalid configuration: "),
    ("PUT", "/routes/1?ttl=x", b"{}", 400, "invalid argument ttl: should be a number"),
    ("PUT", "/routes/1?ttl=-1", b"{}", 400, "invalid argument ttl: should be a number"),
    ("PUT", "/routes/1?ttl=99999999999", b"{}", 400, "invalid argument ttl: should be a number"),
    ("PUT", "/routes/1", b'{"uri": "/a", "upstream_id": "1", "create_time": 5}', 400, "the property is forbidden"),
    ("PUT", "/routes/1", b'{"uri": "/a", "upstream": {"update_time": 5}}', 400, "the property is forbidden: upstream"),
]


@pytest.mark.parametrize(("method", "path", "raw", "status", "reason"), BAD_BODIES)
def test_bodies_that_will_not_do(
    tmp_path: Path, method: str, path: str, raw: bytes, status: int, reason: str
) -> None:
    async def scenario(admin: World) -> None:
        before = await admin.store.head()
        reply = await admin.ask(method, path, raw=raw)
        assert reply.status == status
        assert reply.body["error_msg"].startswith(reason), reply.body
        assert await admin.store.head() == before, "nothing was written"

    play(scenario, tmp_path)


def test_body_limit(tmp_path: Path) -> None:
    async def scenario(admin: World) -> None:
        route = dict(ROUTE) | {"desc": ""}
        padding = 1536 * 1024
        too_long = await admin.ask("PUT", "/routes/1", raw=b" " * padding + b"{}")
        assert too_long.status == 413
        assert too_long.body["error_msg"].startswith("invalid request body: request size")
        # Over what may be stored, within what may be sent.
        too_large = await admin.ask("PUT", "/routes/1", route | {"plugins": {"x": {"y": "a" * (1100 * 1024)}}})
        assert too_large.status == 400
        assert too_large.body["error_msg"].startswith("invalid configuration: ")
        fits = await admin.ask("PUT", "/routes/1", route | {"labels": {f"k{n}": "v" * 60 for n in range(12000)}})
        assert fits.status == 201, fits.body
        assert (await admin.ask("GET", "/routes/1")).body["value"]["labels"]["k11999"] == "v" * 60

    play(scenario, tmp_path)


def test_ttl(tmp_path: Path) -> None:
    clock = MovedClock()

    async def scenario(admin: World) -> None:
        assert (await admin.ask("PUT", "/routes/1?ttl=30", ROUTE)).status == 201
        assert (await admin.ask("PUT", "/routes/2?ttl=0", ROUTE)).status == 201
        assert (await admin.ask("GET", "/routes/1")).status == 200
        clock.wall_s += 31
        async with asyncio.timeout(20):  # the store looks for what has expired now and then
            while (await admin.ask("GET", "/routes/1")).status != 404:
                await asyncio.sleep(0.02)
        assert (await admin.ask("GET", "/routes/2")).status == 200

    play(scenario, tmp_path, lambda: sqlite_store(tmp_path, clock), clock=clock)


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/nonsense", 404, "Unsupported resource type: nonsense"),
        ("PUT", "/nonsense/1", 404, "Unsupported resource type: nonsense"),
        ("GET", "", 404, "404 Route Not Found"),
        ("HEAD", "", 200, None),
        ("HEAD", "/", 200, None),
        ("GET", "//hello", 404, "404 Route Not Found"),
        ("HEAD", "/routes/1", 405, None),
        ("OPTIONS", "/routes/1", 200, None),
        ("GET", "/routes/1/upstream", 405, "not supported `GET` method for route"),
        ("PUT", "/routes/a/b", 405, "not supported `PUT` method for route"),
        ("DELETE", "/routes/a/b", 405, "not supported `DELETE` method for route"),
        ("PROPFIND", "/routes/1", 405, "not supported `PROPFIND` method for route"),
    ],
)
def test_what_there_is_not(tmp_path: Path, method: str, path: str, status: int, reason: str | None) -> None:
    async def scenario(admin: World) -> None:
        reply = await admin.ask(method, path)
        assert reply.status == status
        assert reason is None or reply.body["error_msg"] == reason
        if status == 405:
            assert "PATCH" in reply.headers["Allow"]

    play(scenario, tmp_path)


def test_garbage_in_the_store(tmp_path: Path, make_store: MakeStore) -> None:
    async def scenario(admin: World) -> None:
        await admin.ask("PUT", "/routes/ok", ROUTE)
        garbage = {"text": b"not json", "list": b"[1]", "latin": b'{"uri":"/\xe4"}', "nan": b'{"a":NaN}'}
        for id, value in garbage.items():
            await admin.store.put(f"routes/{id}", value)
        await admin.store.put("routes/", b"init_dir")
        await admin.store.put("elsewhere/1", b"{}")
        listed = await admin.ask("GET", "/routes")
        assert [item["value"]["id"] for item in listed.body["list"]] == ["ok"]
        broken = await admin.ask("GET", "/routes/text")
        assert broken.status == 500
        assert broken.body["error_msg"].startswith("the stored value is not JSON")
        assert (await admin.ask("PATCH", "/routes/list", {"desc": "x"})).status == 500
        assert (await admin.ask("PUT", "/routes/text", ROUTE)).status == 200
        assert (await admin.ask("GET", "/routes/text")).status == 200
        assert (await admin.ask("DELETE", "/routes/list")).status == 200

    play(scenario, tmp_path, make_store)
