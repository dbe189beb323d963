"""forward-auth over both edges, with authorization services that answer, refuse, hang, break off and lie."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gw.plugins.forward_auth import ForwardAuth
from tests.support.chains import instance, walking
from tests.support.edge import (
    OK,
    PATIENCE_S,
    Edge,
    ScriptedUpstream,
    Wire,
    edge,
    eventually,
    fields_of,
    get,
    replying,
    run,
    scripted_upstream,
)
from tests.support.lent import environment
from tests.support.plugin_edge import checked

pytestmark = pytest.mark.usefixtures("each_edge")

CERTIFICATES = Path(__file__).parent.parent / "data" / "tls"
YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class World:
    """A gateway, its upstream and its authorization service; `asked` and `served`: the requests that each got."""

    def __init__(self, running: Edge, auth: ScriptedUpstream, asked: list[bytes], served: list[bytes]) -> None:
        self.running = running
        self.auth = auth
        self.asked = asked
        self.served = served

    def told(self, number: int = -1) -> dict[str, str]:
        """The headers that the service got, but for Host."""
        head, _, _ = self.asked[number].partition(b"\r\n\r\n")
        pairs = fields_of(head + b"\r\n\r\n")
        fields = dict(pairs)
        assert len(fields) == len(pairs), "a header came twice"
        del fields["host"]
        return fields


def recording(requests: list[bytes], answer: bytes) -> Any:
    """Answers each request, and writes down head and body."""

    async def play(wire: Wire) -> None:
        while True:
            request = await wire.head()
            fields = dict(fields_of(request))
            if "transfer-encoding" in fields:
                body, _ = await wire.chunked()
            else:
                body = await wire.exactly(int(fields.get("content-length", "0")))
            requests.append(request + body)
            wire.send(answer)

    return play


@contextlib.asynccontextmanager
async def world(
    answer: bytes = YES, *, script: Any = None, attr: dict[str, Any] | None = None, **conf: Any
) -> AsyncIterator[World]:
    """`answer` of the service, or its `script`."""
    asked: list[bytes] = []
    served: list[bytes] = []
    async with (
        environment(attr={"forward-auth": attr or {}}) as env,
        scripted_upstream(script or recording(asked, answer)) as auth,
        scripted_upstream(recording(served, OK)) as upstream,
    ):
        conf = {"uri": f"http://127.0.0.1:{auth.port}/auth?v=1", **conf}
        route = walking(upstream.port, instance(ForwardAuth, checked("forward-auth", conf), env))
        async with edge({"/": route}) as running:
            yield World(running, auth, asked, served)


def served_fields(world: World) -> list[tuple[str, str]]:
    return fields_of(world.served[-1].partition(b"\r\n\r\n")[0] + b"\r\n\r\n")


class TestTheQuestion:
    def test_holds_the_facts_and_nothing_else(self) -> None:
        async def main() -> None:
            async with world() as here:
                headers = (
                    "Authorization: secret\r\nCookie: c=1\r\nX-Forwarded-Uri: /public\r\nX-Forwarded-For: 10.0.0.1\r\n"
                    "X_Forwarded_Method: GET\r\nX-Forwarded-Prefix: /x\r\nForwarded: for=10.0.0.1\r\n"
                )
                assert (await here.running.ask(get("/a/b?c=d", method="DELETE", headers=headers))).status == 200
                assert here.asked[0].startswith(b"GET /auth?v=1 HTTP/1.1\r\n")
                assert here.told() == {
                    "x-forwarded-proto": "http",
                    "x-forwarded-method": "DELETE",
                    "x-forwarded-host": "example.com",
                    "x-forwarded-uri": "/a/b?c=d",
                    "x-forwarded-for": "127.0.0.1",
                }

        run(main())

    def test_listed_headers_of_the_client_are_passed_on_byte_for_byte(self) -> None:
        async def main() -> None:
            listed = ["AUTHORIZATION", "x-forwarded-for", "Content-Length", "Transfer-Encoding", "Cookie"]
            async with world(request_headers=listed) as here:
                raw = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: \xff\xfe\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n"
                assert (await here.running.ask(raw)).status == 200
                told = here.told()
                assert told["authorization"].encode("latin-1") == b"\xff\xfe"
                assert told["x-forwarded-for"] == "127.0.0.1"
                assert not told.keys() & {"content-length", "transfer-encoding", "cookie"}

        run(main())

    def test_extra_headers_are_filled_in(self) -> None:
        async def main() -> None:
            extra = {"X-Where": "$request_method ${uri}", "X-Tenant": "${arg_tenant ?? none}", "X-Forwarded-Host": "h"}
            async with world(extra_headers=extra, request_headers=["X-Tenant"]) as here:
                assert (await here.running.ask(get("/p?tenant=a", headers="X-Tenant: forged\r\n"))).status == 200
                told = here.told()
                assert (told["x-where"], told["x-tenant"], told["x-forwarded-host"]) == ("GET /p", "a", "h")
                # No line of the client's becomes one of ours.
                answer = await here.running.ask(get("/p?tenant=a%0d%0aX-Forwarded-For:%201"))
                assert (answer.status, len(here.asked)) == (400, 1)

        run(main())

    @pytest.mark.parametrize(
        "path",
        ["/a%2Fb", "/a%2fb%3B", "/caf%C3%A9", "/a%252e%252e/b", "/x/%2e%2e/y", "//double", "/;p=1", "/a?q=%20%2F"],
    )
    def test_the_uri_is_the_one_that_is_served(self, path: str) -> None:
        async def main() -> None:
            async with world() as here:
                assert (await here.running.ask(get(path))).status == 200
                assert here.told()["x-forwarded-uri"].encode() == here.served[0].split(b" ")[1]

        run(main())

    def test_connections_are_kept_as_configured(self) -> None:
        async def main() -> None:
            for keepalive, connections in ((True, 1), (False, 3)):
                async with world(keepalive=keepalive) as here:
                    for _ in range(3):
                        assert (await here.running.ask(get())).status == 200
                    assert here.auth.connections == connections

        run(main())


class TestBodies:
    def test_get_asks_without_one(self) -> None:
        """CVE-2024-32638: the client's framing on a request without its body."""

        async def main() -> None:
            async with world(request_headers=["Transfer-Encoding", "Content-Length", "Expect"]) as here:
                hidden = b"GET /canary HTTP/1.1\r\nHost: x\r\n\r\n"
                chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
                request = get(method="POST", headers="Transfer-Encoding: chunked\r\n") + chunk
                assert (await here.running.ask(request)).status == 200
                assert [asked.split(b"\r\n")[0] for asked in here.asked] == [b"GET /auth?v=1 HTTP/1.1"]
                assert not here.told().keys() & {"transfer-encoding", "content-length", "expect"}
                assert here.served[0].endswith(hidden)

        run(main())

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_post_sends_it_and_the_upstream_gets_it_as_well(self, framing: str) -> None:
        async def main() -> None:
            async with world(request_method="POST") as here:
                headers = "Content-Encoding: x\r\n"
                if framing == "length":
                    request = get(method="PUT", headers=f"{headers}Content-Length: 5\r\n") + b"hello"
                else:
                    chunked = f"{headers}Transfer-Encoding: chunked\r\n"
                    request = get(method="PUT", headers=chunked) + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
                assert (await here.running.ask(request)).status == 200
                assert here.asked[0].startswith(b"POST /auth")
                told = here.told()
                assert (told["content-length"], told["content-encoding"]) == ("5", "x")
                assert here.asked[0].endswith(b"\r\n\r\nhello")
                assert here.served[0].endswith(b"hello")

        run(main())

    @pytest.mark.parametrize(("of_all", "own"), [(4, {}), (100, {"max_req_body_size": 4})])
    def test_beyond_the_limit_are_refused_unasked(self, of_all: int, own: dict[str, Any]) -> None:
        async def main() -> None:
            async with world(request_method="POST", attr={"max_req_body_bytes": of_all}, **own) as here:
                request = get(method="PUT", headers="Content-Length: 5\r\n") + b"hello"
                assert (await here.running.ask(request)).status == 413
                assert (here.asked, here.served) == ([], [])

        run(main())


class TestTheAnswer:
    @pytest.mark.parametrize("status", [300, 302, 401, 403, 404, 500, 503])
    def test_a_refusal_is_passed_back(self, status: int) -> None:
        async def main() -> None:
            refusal = (
                b"HTTP/1.1 %d No\r\nContent-Length: 4\r\nLocation: https://login\r\nX-Secret: s\r\n"
                b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nsorry"[:-1] % status
            )
            async with world(refusal, client_headers=["Location", "set-cookie", "Content-Length"]) as here:
                answer = await here.running.ask(get())
                assert (answer.status, answer.body) == (status, b"sorr")
                assert answer.header("location") == "https://login"
                assert [value for name, value in answer.headers if name == "set-cookie"] == ["a=1", "b=2"]
                assert answer.header("x-secret") is None
                assert answer.header("content-length") == "4"
                assert here.served == []

        run(main())

    def test_what_describes_a_refusals_body_comes_along(self) -> None:
        async def main() -> None:
            kinds = b"Content-Type: text/html\r\nContent-Encoding: gzip\r\n"
            head = b"HTTP/1.1 403 No\r\n%bContent-Length: 2\r\n\r\nzz" % kinds
            for listed, kind in (([], "text/plain"), (["content-type"], "text/html")):
                async with world(head, client_headers=listed) as here:
                    answer = await here.running.ask(get())
                    assert (answer.header("content-type"), answer.header("content-encoding")) == (kind, "gzip")

        run(main())

    @pytest.mark.parametrize("status", [200, 201, 204])
    def test_what_the_service_vouches_for_is_all_that_the_upstream_gets(self, status: int) -> None:
        """CVE-2026-39998, CVE-2026-54763: nobody vouches for himself, in no spelling."""

        async def main() -> None:
            length = b"" if status == 204 else b"Content-Length: 0\r\n"
            yes = b"HTTP/1.1 %d OK\r\nX-User-ID: alice\r\nX-User-ID: second\r\nX-Other: o\r\n%b\r\n" % (status, length)
            forged = "X-User-ID: eve\r\nX_User_ID: eve\r\nx.user.id: eve\r\nX-Role: admin\r\nX_Role: admin\r\n"
            forged += "Connection: x-user-id\r\n"
            async with world(yes, upstream_headers=["X-User-ID", "X-Role", "Host", "Content-Length"]) as here:
                assert (await here.running.ask(get(headers=forged))).status == 200
                fields = [pair for pair in served_fields(here) if "user" in pair[0] or "role" in pair[0]]
                assert fields == [("x-user-id", "alice"), ("x-user-id", "second")]
                assert not {"x-other"} & {name for name, _ in served_fields(here)}
                assert ("host", "example.com") in served_fields(here)

        run(main())


async def hang(wire: Wire) -> None:
    await wire.head()


async def cut(wire: Wire) -> None:
    await wire.head()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    await wire.writer.drain()
    wire.close()


async def close(wire: Wire) -> None:
    await wire.head()
    wire.reset()


NOT_THERE = {"hangs": hang, "cuts": cut, "closes": close}
NO_HTTP = {
    "speaks no HTTP": b"garbage\r\n\r\n",
    "answers 101": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "frames twice": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "never ends": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
}


class TestNoAnswer:
    @pytest.mark.parametrize("fault", [*NOT_THERE, *NO_HTTP])
    def test_keeps_everybody_out(self, fault: str, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            script = NOT_THERE.get(fault) or replying(NO_HTTP[fault])
            timeout_ms = 200 if fault == "hangs" else 9000
            async with world(script=script, timeout=timeout_ms) as here:
                for _ in range(3):
                    assert (await here.running.ask(get())).status == 403
                assert here.served == []
            assert caplog.text.count("forward-auth of routes/1") in (1, 2)
            assert "v=1" not in caplog.text

        with caplog.at_level(logging.WARNING, "gw.plugins.forward_auth"):
            run(main())

    def test_has_the_status_that_is_configured(self) -> None:
        async def main() -> None:
            async with world(script=close, status_on_error=503) as here:
                assert (await here.running.ask(get())).status == 503

        run(main())

    @pytest.mark.parametrize("fault", NOT_THERE)
    def test_lets_everybody_in_where_that_is_asked_for_but_nobody_vouches_for_himself(self, fault: str) -> None:
        async def main() -> None:
            timeout_ms = 200 if fault == "hangs" else 9000
            conf: dict[str, Any] = {"allow_degradation": True, "upstream_headers": ["X-User-ID"], "timeout": timeout_ms}
            async with world(script=NOT_THERE[fault], **conf) as here:
                assert (await here.running.ask(get(headers="X-User-ID: eve\r\nX_User_Id: eve\r\n"))).status == 200
                assert not [name for name, _ in served_fields(here) if "user" in name]

        run(main())

    @pytest.mark.parametrize("fault", NO_HTTP)
    def test_and_who_is_there_but_makes_no_sense_lets_nobody_in(self, fault: str) -> None:
        async def main() -> None:
            async with world(script=replying(NO_HTTP[fault]), allow_degradation=True) as here:
                assert (await here.running.ask(get())).status == 403
                assert here.served == []

        run(main())

    @pytest.mark.parametrize(("verifies", "status"), [(None, 403), (True, 403), (False, 200)])
    def test_a_certificate_that_nobody_vouches_for_is_none(self, verifies: bool | None, status: int) -> None:
        async def main() -> None:
            tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            tls.load_cert_chain(CERTIFICATES / "server.pem", CERTIFICATES / "server.key")
            async with scripted_upstream(replying(YES), tls=tls) as service:
                conf: dict[str, Any] = {"uri": f"https://127.0.0.1:{service.port}/"}
                if verifies is not None:
                    conf["ssl_verify"] = verifies
                async with world(**conf) as here:
                    assert (await here.running.ask(get())).status == status

        run(main())

    def test_nobody_listens(self) -> None:
        async def main() -> None:
            for degrades, status in ((False, 403), (True, 200)):
                conf: dict[str, Any] = {"uri": "http://127.0.0.1:1/", "allow_degradation": degrades}
                async with world(**conf) as here:
                    assert (await here.running.ask(get())).status == status

        run(main())

    def test_a_kept_connection_that_went_stale_is_nobodys_refusal(self) -> None:
        async def once(wire: Wire) -> None:
            await wire.head()
            wire.send(YES)
            await wire.writer.drain()
            wire.close()

        async def main() -> None:
            async with world(script=once) as here:
                for number in range(1, 4):
                    assert (await here.running.ask(get())).status == 200
                    assert here.auth.connections == number

        run(main())


def test_a_client_that_leaves_takes_the_question_back() -> None:
    async def main() -> None:
        async with world(script=hang, timeout=60000) as here:
            client = await here.running.connect()
            client.send(get())
            await eventually(lambda: here.auth.connections == 1)
            client.reset()
            wire = here.auth._wires[0]
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(wire.reader.read(65536), PATIENCE_S) is not None
                assert await asyncio.wait_for(wire.reader.read(), PATIENCE_S) == b""
            assert here.served == []

    run(main())


class TestWhatCannotRun:
    @pytest.mark.parametrize(
        ("conf", "error"),
        [({"uri": "ftp://a/"}, "http")],
    )
    def test_is_said_when_it_is_prepared(self, conf: dict[str, Any], error: str) -> None:
        async def main() -> None:
            async with environment() as env:
                with pytest.raises(ValueError, match=error):
                    ForwardAuth(conf, env, "routes/1")

        run(main())
