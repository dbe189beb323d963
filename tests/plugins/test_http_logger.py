"""http-logger over both edges, with a server that is there, slow, away and back again."""

from __future__ import annotations

import contextlib
import gzip
import json
import logging
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gw.plugins.api import Plugin, plugin_reply
from gw.plugins.http_logger import HttpLogger
from gw.plugins.shared.batch_logger import BatchLogger
from gw.plugins.shared.batches import Room
from tests.support.chains import chain, instance, walking
from tests.support.edge import (
    Edge,
    Wire,
    compiled,
    edge,
    eventually,
    fields_of,
    get,
    replying,
    run,
    scripted_upstream,
    upstream_dict,
)
from tests.support.lent import environment
from tests.support.log_server import LogServer, log_server
from tests.support.plugin_edge import checked

pytestmark = pytest.mark.usefixtures("each_edge")

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
ANSWER = b"HTTP/1.1 201 Fine\r\nContent-Length: 5\r\nX-Of: upstream\r\nX-Twice: 1\r\nX-Twice: 2\r\n\r\nhello"


class World:
    """A gateway that logs, and the server that takes the logs."""

    def __init__(
        self, running: Edge, logs: LogServer, plugin: HttpLogger, room: Room, metadata: dict[str, dict[str, Any]]
    ) -> None:
        self.metadata = metadata
        self.running = running
        self.logs = logs
        self.plugin = plugin
        self.room = room

    async def entry(self, request: bytes = b"") -> Any:
        """What one request leaves in the log."""
        before = len(self.logs.batches)
        await self.running.ask(request or get())
        await eventually(lambda: len(self.logs.batches) > before)
        return json.loads(self.logs.batches[-1])


@contextlib.asynccontextmanager
async def world(
    *others: type[Plugin],
    script: Any = None,
    metadata: dict[str, Any] | None = None,
    **conf: Any,
) -> AsyncIterator[World]:
    """Each request is a batch of its own, unless `conf` says otherwise."""
    of_plugins = {"http-logger": metadata or {}}
    async with (
        log_server() as logs,
        environment(metadata=of_plugins) as env,
        scripted_upstream(script or replying(ANSWER)) as upstream,
    ):
        logger = instance(HttpLogger, checked("http-logger", {"uri": logs.url, "batch_max_size": 1, **conf}), env)
        assert isinstance(logger.plugin, HttpLogger)
        async with edge({"/": walking(upstream.port, logger, *others)}) as running:
            yield World(running, logs, logger.plugin, env.state[BatchLogger, "http-logger"], of_plugins)
            logger.plugin.close()


class TestEntries:
    def test_in_the_form_of_apisix(self) -> None:
        async def main() -> None:
            async with world() as here:
                headers = "X-A: 1\r\nX-A: 2\r\nX-B: caf\xc3\xa9\r\n"
                entry = await here.entry(get("/a%20b?c=d&e=1&e=2&f", headers=headers, method="DELETE"))
                request, response = entry["request"], entry["response"]
                port = here.running.port
                assert request["url"] == f"http://example.com:{port}/a%20b?c=d&e=1&e=2&f"
                assert request["uri"] == "/a%20b?c=d&e=1&e=2&f"
                assert request["method"] == "DELETE"
                assert request["querystring"] == {"c": "d", "e": ["1", "2"], "f": ""}
                assert request["headers"] == {"host": "example.com", "x-a": ["1", "2"], "x-b": "caf\xe9"}
                assert response["status"] == 201
                assert response["headers"]["x-of"] == "upstream"
                assert response["headers"]["x-twice"] == ["1", "2"]
                assert entry["server"].keys() == {"hostname", "version"}
                assert (entry["route_id"], entry["service_id"], entry["client_ip"]) == ("1", "", "127.0.0.1")
                assert entry["upstream"].startswith("127.0.0.1:")
                assert request.keys() == {"url", "uri", "method", "headers", "querystring", "size"}
                assert response.keys() == {"status", "headers", "size"}
                for number in (request["size"], response["size"], entry["start_time"]):
                    assert isinstance(number, int)
                assert entry["latency"] >= entry["upstream_latency"] >= 0
                assert entry["apisix_latency"] >= 0

        run(main())

    def test_of_what_never_reached_an_upstream(self) -> None:
        class Denies(Plugin):
            name = "denies"
            priority = 2000

            def access(self, ctx: Any) -> Any:
                return plugin_reply(403, "no")

        async def main() -> None:
            async with world(Denies) as here:
                entry = await here.entry()
                assert entry["response"]["status"] == 403
                assert not entry.keys() & {"upstream", "upstream_latency", "consumer"}

        run(main())

    def test_of_no_route_at_all(self) -> None:
        async def main() -> None:
            async with log_server() as logs, environment() as env, scripted_upstream(replying(ANSWER)) as upstream:
                rule = instance(HttpLogger, {"uri": logs.url, "batch_max_size": 1}, env, owner="global_rules/1")
                route = compiled("", upstream_dict(upstream.port)).walking(chain(rules=(rule,)))
                async with edge({"/": route}) as running:
                    await running.ask(get())
                    await eventually(lambda: len(logs.batches) == 1)
                entry = logs.entries[0]
                assert (entry["route_id"], entry["service_id"]) == ("no-matched", "example.com")

        run(main())

    FORMAT: dict[str, Any] = {  # noqa: RUF012
        "host": "$host",
        "fixed": "text",
        "number": 7,
        "none": "$arg_absent",
        "unknown": "$no_such_variable",
        "agent": "$http_user_agent",
        "nested": {"uri": "$uri", "more": {"a": {"b": {"c": "$uri"}, "d": "$status"}}},
    }

    @pytest.mark.parametrize("where", ["conf", "metadata"])
    def test_in_a_form_of_ones_own(self, where: str) -> None:
        async def main() -> None:
            own: dict[str, Any] = {"log_format": self.FORMAT}
            async with world(**(own if where == "conf" else {"metadata": own})) as here:
                entry = await here.entry(get("/p", headers="User-Agent: \xff\xfe\r\n"))
                assert entry == {
                    "host": "example.com",
                    "fixed": "text",
                    "number": 7,
                    "agent": "\ufffd\ufffd",
                    "nested": {"uri": "/p", "more": {"a": {"b": {"c": "/p"}, "d": "201"}}},
                    "route_id": "1",
                }

        run(main())

    def test_nest_five_levels_deep(self) -> None:
        async def main() -> None:
            deep: dict[str, Any] = {"a": "$uri"}
            for _ in range(6):
                deep = {"in": deep, "here": "x"}
            async with world(log_format=deep) as here:
                entry, depth = await here.entry(), 0
                while "in" in entry:
                    entry, depth = entry["in"], depth + 1
                assert (depth, entry) == (4, {"here": "x"})

        run(main())

    def test_follow_the_metadata_as_it_changes_unless_there_is_a_form_of_ones_own(self) -> None:
        async def main() -> None:
            async with world() as here:
                assert "request" in await here.entry()
                here.metadata["http-logger"] = {"log_format": {"now": "$uri"}}
                assert await here.entry() == {"now": "/", "route_id": "1"}
                here.metadata["http-logger"] = {"log_format": {"now": "$request_method"}}
                assert await here.entry() == {"now": "GET", "route_id": "1"}
                del here.metadata["http-logger"]
                assert "request" in await here.entry()
            async with world(metadata={"log_format": {"not": "this"}}, log_format={"but": "this"}) as here:
                assert await here.entry() == {"but": "this", "route_id": "1"}

        run(main())

    def test_have_more_members_where_that_is_asked_for(self) -> None:
        async def main() -> None:
            extra = {"tenant": "$http_x_tenant", "request": "not this"}
            async with world(log_format_extra=extra) as here:
                entry = await here.entry(get(headers="X-Tenant: t\r\n"))
                assert entry["tenant"] == "t"
                assert entry["request"]["method"] == "GET"

        run(main())


async def swallow(wire: Wire) -> None:
    """An upstream that takes bodies of any framing."""
    while True:
        fields = dict(fields_of(await wire.head()))
        if "transfer-encoding" in fields:
            await wire.chunked()
        else:
            await wire.exactly(int(fields.get("content-length", "0")))
        wire.send(ANSWER)


def post(body: bytes, *, chunked: bool = False, path: str = "/") -> bytes:
    if chunked:
        pieces = [body[at : at + 3] for at in range(0, len(body), 3)]
        framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        return get(path, method="POST", headers="Transfer-Encoding: chunked\r\n") + framed + b"0\r\n\r\n"
    return get(path, method="POST", headers=f"Content-Length: {len(body)}\r\n") + body


class TestBodies:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_are_in_the_entry_up_to_their_limits(self, chunked: bool) -> None:
        async def main() -> None:
            async with world(script=swallow, include_req_body=True, include_resp_body=True) as here:
                entry = await here.entry(post(b"the \xff body", chunked=chunked))
                assert entry["request"]["body"] == "the \ufffd body"
                assert entry["response"]["body"] == "hello"
                assert entry["response"]["headers"]["content-length"] == "5"  # it is not framed anew for a log
            limits = {"max_req_body_bytes": 5, "max_resp_body_bytes": 2}
            async with world(script=swallow, include_req_body=True, include_resp_body=True, **limits) as here:
                entry = await here.entry(post(b"the body", chunked=chunked))
                assert (entry["request"]["body"], entry["response"]["body"]) == ("the b", "he")

        run(main())

    @pytest.mark.parametrize(
        ("encoding", "sent", "limit_bytes", "logged"),
        [
            ("gzip", gzip.compress(b"hello world", mtime=0), 100, "hello world"),
            ("gzip", gzip.compress(b"hello" * 100, mtime=0), 60, "hello" * 12),
            ("gzip", b"no gzip", 100, "no gzip"),
            ("unknown", b"hello", 100, "hello"),
        ],
    )
    def test_of_a_response_are_unpacked(self, encoding: str, sent: bytes, limit_bytes: int, logged: str) -> None:
        async def main() -> None:
            head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(sent)}\r\n\r\n"
            script = replying(head.encode() + sent)
            async with world(script=script, include_resp_body=True, max_resp_body_bytes=limit_bytes) as here:
                assert (await here.entry())["response"]["body"] == logged

        run(main())

    def test_are_not_there_unasked_or_where_there_are_none(self) -> None:
        async def main() -> None:
            async with world(script=swallow) as here:
                entry = await here.entry(post(b"the body"))
                assert "body" not in entry["request"]
                assert "body" not in entry["response"]
                assert here.plugin.access is None
                assert here.plugin.body_filter is None
            async with world(include_req_body=True, include_resp_body=True) as here:
                entry = await here.entry(get(method="HEAD"))
                assert "body" not in entry["request"]
                assert "body" not in entry["response"]

        run(main())

    def test_can_be_a_member_of_a_form_of_ones_own(self) -> None:
        async def main() -> None:
            async with world(script=swallow, log_format={"said": "$request_body"}) as here:
                assert (await here.entry(post(b"the body")))["said"] == "the body"

        run(main())

    def test_are_there_where_a_condition_holds(self) -> None:
        async def main() -> None:
            conf: dict[str, Any] = {"include_req_body": True, "include_resp_body": True}
            conf["include_req_body_expr"] = [["uri", "==", "/yes"]]
            conf["include_resp_body_expr"] = [["status", "==", "201"]]
            async with world(script=swallow, **conf) as here:
                for path, there in (("/yes", True), ("/no", False)):
                    entry = await here.entry(post(b"the body", path=path))
                    assert ("body" in entry["request"], "body" in entry["response"]) == (there, True)
            conf["include_resp_body_expr"] = [["status", "==", "500"]]
            async with world(script=swallow, **conf) as here:
                assert "body" not in (await here.entry(post(b"the body", path="/yes")))["response"]

        run(main())


class TestBatches:
    @pytest.mark.parametrize("method", ["json", "new_line"])
    def test_are_exact(self, method: str) -> None:
        async def main() -> None:
            conf: dict[str, Any] = {"batch_max_size": 4, "concat_method": method, "log_format": {"n": "$arg_n"}}
            async with world(**conf) as here:
                client = await here.running.connect()
                for number in range(10):
                    client.send(get(f"/?n={number}"))
                    await client.answer()
                await eventually(lambda: len(here.logs.batches) == 2)
                assert here.room.entries == 2
                here.plugin.close()  # the configuration changes
                await eventually(lambda: len(here.logs.batches) == 3)
                parts = (range(4), range(4, 8), range(8, 10))
                expected = [[{"n": str(n), "route_id": "1"} for n in part] for part in parts]
                assert [
                    json.loads(batch) if method == "json" else [json.loads(line) for line in batch.splitlines()]
                    for batch in here.logs.batches
                ] == expected

        run(main())

    def test_carry_the_credentials_and_tell_nobody(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with world(auth_header="Basic dG9wOnNlY3JldA==") as here:
                await here.entry()
                head = here.logs.heads[0]
                assert head.startswith(b"POST /logs?key=secret HTTP/1.1\r\n")
                fields = dict(fields_of(head))
                assert fields["authorization"] == "Basic dG9wOnNlY3JldA=="
                assert fields["content-type"] == "application/json"
                here.logs.status = 500
                await here.running.ask(get())
                await eventually(lambda: "it answers 500" in caplog.text)
                await here.logs.down()
                await here.running.ask(get())
            assert "echo" not in caplog.text
            with pytest.raises(ValueError, match="auth_header") as error:
                HttpLogger({"uri": "http://a/", "auth_header": "top\nsecret"}, here.plugin.env, "routes/1")
            assert "secret" not in str(error.value)
            for secret in ("key=secret", "dG9w"):
                assert secret not in caplog.text

        with caplog.at_level(logging.DEBUG):
            run(main())

    def test_go_over_kept_connections(self) -> None:
        async def main() -> None:
            async with world() as here:
                for _ in range(5):
                    await here.entry()
                assert len(here.logs._wires) == 1

        run(main())

    @pytest.mark.parametrize(("verifies", "arrives"), [(None, True), (False, True), (True, False)])
    def test_are_for_a_server_that_is_verified_where_that_is_asked_for(
        self, verifies: bool | None, arrives: bool
    ) -> None:
        async def main() -> None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
            took: list[bytes] = []

            async def take(wire: Wire) -> None:
                took.append(await wire.head())
                wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

            async with scripted_upstream(take, tls=tls) as server:
                conf: dict[str, Any] = {"uri": f"https://127.0.0.1:{server.port}/"}
                if verifies is not None:
                    conf["ssl_verify"] = verifies
                async with world(**conf) as here:
                    await here.running.ask(get())
                    await eventually(lambda: here.room.entries == 0)
                assert bool(took) == arrives

        run(main())


class TestAServerThat:
    def test_is_slow_holds_no_request(self) -> None:
        async def main() -> None:
            async with world(timeout=60) as here:
                here.logs.open.clear()
                for _ in range(50):
                    assert (await here.running.ask(get())).status == 201
                assert (here.logs.batches, here.room.entries) == ([], 50)
                here.logs.open.set()
                await eventually(lambda: len(here.logs.batches) == 50)
                await eventually(lambda: here.room.entries == 0)

        run(main())

    @pytest.mark.parametrize("how", ["down", "status"])
    def test_comes_back_in_time_gets_all_there_was(self, how: str) -> None:
        async def main() -> None:
            async with world(batch_max_size=5, max_retry_count=1000, retry_delay=0, log_format={"n": "$arg_n"}) as here:
                if how == "down":
                    await here.logs.down()
                else:
                    here.logs.status = 503
                for number in range(10):
                    assert (await here.running.ask(get(f"/?n={number}"))).status == 201
                assert here.room.entries == 10
                if how == "down":
                    await here.logs.up()
                else:
                    await eventually(lambda: len(here.logs.refused) > 4)
                    here.logs.status = 200
                await eventually(lambda: here.room.entries == 0)
                assert sorted(int(entry["n"]) for entry in here.logs.entries) == list(range(10))

        run(main())

    def test_is_away_costs_entries_and_no_memory(self, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with world(metadata={"max_pending_entries": 100}, timeout=60, max_retry_count=1000) as here:
                here.logs.open.clear()  # it takes connections, and answers nothing
                client = await here.running.connect()

                async def load(count: int) -> None:
                    for _ in range(count):
                        client.send(get(headers=f"X-Large: {'x' * 4000}\r\n"))
                        assert (await client.answer()).status == 201

                await load(200)
                assert here.room.entries == 100
                held_bytes = here.room.bytes
                tracemalloc.start()
                await load(100)
                first, _ = tracemalloc.get_traced_memory()
                await load(1000)
                grown, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                assert (here.room.entries, here.room.bytes) == (100, held_bytes)
                assert grown - first < 200_000  # of 4 MB that came
                here.logs.open.set()
                await eventually(lambda: len(here.logs.batches) == 100)
                assert "entries dropped" in caplog.text

        with caplog.at_level(logging.ERROR):
            run(main())

    def test_is_there_gets_the_rest_when_the_worker_stops(self) -> None:
        async def main() -> None:
            async with log_server() as logs:
                async with environment() as env, scripted_upstream(replying(ANSWER)) as upstream:
                    logger = instance(HttpLogger, {"uri": logs.url}, env)
                    async with edge({"/": walking(upstream.port, logger)}) as running:
                        for _ in range(3):
                            await running.ask(get())
                    logger.plugin.close()  # type: ignore[attr-defined]
                assert [len(json.loads(batch)) for batch in logs.batches] == [3]

        run(main())


class TestWhatCannotRun:
    @pytest.mark.parametrize(
        ("conf", "error"),
        [
            ({"uri": "http://a b/"}, "URL"),
            ({"uri": "http://a/", "include_req_body_expr": [["a", "no such", "b"]]}, "no such"),
        ],
    )
    def test_is_said_when_it_is_prepared(self, conf: dict[str, Any], error: str) -> None:
        async def main() -> None:
            async with environment() as env:
                with pytest.raises(ValueError, match=error):
                    HttpLogger(conf, env, "routes/1")

        run(main())
