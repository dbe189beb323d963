"""What plugins do with requests over both edges: read and replace bodies, outlive clients, vouch for headers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, ClassVar

import pytest

from gw.plugins.api import Context, Plugin
from tests.support.chains import instance
from tests.support.edge import OK, PATIENCE_S, Wire, asked, eventually, get, run
from tests.support.plugin_gateway import CHUNKED, Logged, chunks, gateway, post

pytestmark = pytest.mark.usefixtures("each_edge")


class Reads(Plugin):
    """Reads the whole body, up to `limit`, and replaces it where told to."""

    name = "reads"
    priority = 1

    async def access(self, ctx: Context) -> None:
        body = await ctx.read_body(self.conf.get("limit", 1000))
        ctx.request.set_header("x-read", str(len(body)))
        if "replace" in self.conf:
            ctx.replace_body(self.conf["replace"])


def reads(**conf: Any) -> Any:
    return instance(Reads, conf)


class TestBodies:
    @pytest.mark.parametrize("framing", ["length", "chunked", "none"])
    @pytest.mark.parametrize("new", [None, b"", b"another body"])
    def test_are_read_and_replaced(self, framing: str, new: bytes | None) -> None:
        async def main() -> None:
            plugin = reads() if new is None else reads(replace=new)
            async with gateway(plugin) as (running, upstream):
                client = await running.connect()
                old = b"" if framing == "none" else b"the body"
                client.send(
                    {
                        "length": post(old),
                        "chunked": get(method="POST", headers=CHUNKED) + chunks(old[:3], old[3:]),
                        "none": get(),
                    }[framing]
                )
                wire = await upstream.accept()
                head = (await wire.head()).lower()
                assert b"x-read: %d\r\n" % len(old) in head
                expected = old if new is None else new
                if b"transfer-encoding: chunked" in head:
                    assert new is None
                    assert framing == "chunked"
                    body, _ = await wire.chunked()
                    assert body == expected
                else:
                    assert (b"content-length: %d\r\n" % len(expected) in head) or (framing == "none" and not expected)
                    assert await wire.exactly(len(expected)) == expected
                wire.send(OK)
                assert (await client.answer()).body == b"ok"
                client.send(get())
                assert (await wire.head()).lower().startswith(b"get / http/1.1\r\n")  # nothing was left over
                wire.send(OK)
                assert (await client.answer()).status == 200

        run(main())

    @pytest.mark.parametrize("framing", ["length", "chunked"])
    def test_beyond_the_limit_are_refused(self, framing: str) -> None:
        async def main() -> None:
            async with gateway(reads(limit=5), Logged) as (running, upstream):
                for body, status in ((b"12345", 200), (b"123456", 413)):
                    client = await running.connect()
                    head = get(method="POST", headers=CHUNKED) + chunks(body[:2], body[2:])
                    client.send(post(body) if framing == "length" else head)
                    if status == 200:
                        wire = await upstream.accept()
                        await wire.head()
                        wire.send(OK)
                    assert (await client.answer()).status == status
                assert upstream.connections == 1

        run(main())

    def test_without_an_end_are_refused_at_the_limit(self) -> None:
        """A chunked body that never ends is not gathered."""

        async def main() -> None:
            async with gateway(reads(limit=1 << 16)) as (running, _):
                client = await running.connect()
                client.send(get(method="POST", headers=CHUNKED))
                answered = asyncio.ensure_future(client.answer())
                sent = 0
                while not answered.done() and sent < 32 << 20:
                    client.send(b"4000\r\n" + bytes(0x4000) + b"\r\n")
                    sent += 0x4000
                    with contextlib.suppress(ConnectionError):
                        await asyncio.wait_for(client.writer.drain(), PATIENCE_S)
                    await asyncio.sleep(0)
                assert (await answered).status == 413
                assert sent < 4 << 20

        run(main())

    @pytest.mark.parametrize("limit", [1000, 3])
    def test_are_asked_for_where_the_client_expects_it(self, limit: int) -> None:
        async def main() -> None:
            async with gateway(reads(limit=limit)) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 5\r\nExpect: 100-continue\r\n"))
                if limit == 3:
                    answer = await client.answer()
                    assert (answer.status, answer.interim) == (413, [])
                    return
                assert b" 100 " in await client.head()
                client.send(b"hello")
                wire = await upstream.accept()
                assert b"expect" not in (await wire.head()).lower()
                assert await wire.exactly(5) == b"hello"
                wire.send(OK)
                assert (await client.answer()).status == 200

        run(main())

    def test_that_only_begin_are_not_replaced(self) -> None:
        """It would leave the rest of the client's body to be taken for something else."""

        class Hasty(Plugin):
            name = "hasty"
            priority = 1

            def access(self, ctx: Context) -> None:
                ctx.replace_body(b"x")

        async def main() -> None:
            async with gateway(Hasty) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 9\r\n") + b"GET /")
                assert (await client.answer()).status == 500
                assert upstream.connections == 0

        run(main())

    @pytest.mark.parametrize("change", ["set", "remove", "chunked"])
    def test_are_framed_by_us_whatever_plugins_do_to_the_headers(self, change: str) -> None:
        class Tampers(Plugin):
            name = "tampers"
            priority = 1

            def access(self, ctx: Context) -> None:
                if change == "set":
                    ctx.request.set_header("content-length", "3")
                else:
                    ctx.request.remove_header("content-length")
                if change == "chunked":
                    ctx.request.set_header("transfer-encoding", "chunked")

        async def main() -> None:
            async with gateway(Tampers) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 8\r\n"))
                wire = await upstream.accept()
                client.send(b"12345678")
                head = (await wire.head()).lower()
                assert b"content-length: 8\r\n" in head
                assert b"transfer-encoding" not in head
                assert await wire.exactly(8) == b"12345678"
                wire.send(OK)
                assert (await client.answer()).status == 200

        run(main())

    def test_are_kept_for_a_log_without_waiting_for_them(self) -> None:
        kept: list[bytes] = []

        class Keeps(Plugin):
            name = "keeps"
            priority = 1

            def access(self, ctx: Context) -> None:
                ctx.keep_body(10)

            def log(self, ctx: Context) -> None:
                kept.append(ctx.kept_body)

        async def main() -> None:
            async with gateway(Keeps) as (running, upstream):
                first_half = get(method="POST", headers="Content-Length: 16\r\n") + b"01234567"
                client, wire = await asked(running, upstream, first_half)
                assert await wire.exactly(8) == b"01234567"  # it is on its way while the rest is not here
                client.send(b"89abcdef")
                assert await wire.exactly(8) == b"89abcdef"
                wire.send(OK)
                await client.answer()
                client.send(get())
                await wire.head()
                wire.send(OK)
                await client.answer()
                assert kept == [b"0123456789", b""]

        run(main())


class Waits(Plugin):
    """Awaits what never comes."""

    name = "waits"
    priority = 1
    entered: ClassVar[asyncio.Event]
    cancelled: ClassVar[asyncio.Event]

    async def access(self, ctx: Context) -> None:
        self.entered.set()
        try:
            if ctx.request.has_body:
                await ctx.read_body(1000)
            else:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


class TestClientsThatLeave:
    @pytest.mark.parametrize("has_body", [False, True])
    def test_while_a_plugin_awaits(self, has_body: bool) -> None:
        async def main() -> None:
            Waits.entered, Waits.cancelled = asyncio.Event(), asyncio.Event()
            async with gateway(Waits, Logged) as (running, upstream):
                client = await running.connect()
                client.send(get(method="POST", headers="Content-Length: 5\r\n") + b"12" if has_body else get())
                await asyncio.wait_for(Waits.entered.wait(), PATIENCE_S)
                client.reset()
                await asyncio.wait_for(Waits.cancelled.wait(), PATIENCE_S)
                await eventually(lambda: len(Logged.seen) == 1)
                assert Logged.seen[0][0] in ((499, 408) if has_body else (499,))
                assert upstream.connections == 0

        run(main())


class Vouches(Plugin):
    """Adds what the upstream is to trust."""

    name = "vouches"
    priority = 1

    async def access(self, ctx: Context) -> None:
        ctx.request.vouch_header(b"X-User-ID", [b"alice"] if ctx.request.path != "/nobody" else [])


class TestHeadersThatPluginsVouchFor:
    SPELLINGS = "X-User-ID: eve\r\nX_User_ID: eve\r\nx.user.id: eve\r\nX-USER_id: eve\r\nx-user-id: eve\r\n"

    @pytest.mark.parametrize(("path", "expected"), [("/", [b"x-user-id: alice"]), ("/nobody", [])])
    def test_are_theirs_alone(self, path: str, expected: list[bytes], each_edge: str) -> None:
        async def main() -> None:
            async with gateway(Vouches) as (running, upstream):
                client = await running.connect()
                client.send(get(path, headers=self.SPELLINGS))
                wire = await upstream.accept()
                lines = (await wire.head()).split(b"\r\n")
                assert [line for line in lines if b"user" in line.lower()] == expected

        run(main())

    @pytest.mark.parametrize(
        "connection", ["x-user-id", "close, X-User-ID", "keep-alive, x-user-id, host, content-length"]
    )
    def test_cannot_be_removed_by_naming_them_in_connection(self, connection: str) -> None:
        async def main() -> None:
            async with gateway(Vouches) as (running, upstream):
                client = await running.connect()
                client.send(post(b"12", f"Connection: {connection}\r\nX-User-ID: eve\r\n"))
                wire = await upstream.accept()
                head = await wire.head()
                assert [line for line in head.split(b"\r\n") if b"user" in line.lower()] == [b"x-user-id: alice"]
                assert b"\r\nhost: example.com\r\n" in head
                assert await wire.exactly(2) == b"12"

        run(main())


def test_two_users_of_one_upstream_connection_never_cross(each_edge: str) -> None:
    """Alternating, through a plugin that awaits and replaces bodies: each gets the answer to its own request."""

    async def echo(wire: Wire) -> None:
        while True:
            head = (await wire.head()).lower()
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
            body = await wire.exactly(length)
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    class Signs(Plugin):
        name = "signs"
        priority = 1

        async def access(self, ctx: Context) -> None:
            body = await ctx.read_body(1000)
            ctx.replace_body(body + b" of " + (ctx.request.header("x-user") or "").encode())

    async def main() -> None:
        async with gateway(Signs, script=echo) as (running, upstream):
            clients = {name: await running.connect() for name in ("alice", "bob")}
            for number in range(300):
                for name, client in clients.items():
                    body = b"%d" % number
                    if number % 2:
                        client.send(post(body, f"X-User: {name}\r\n"))
                    else:
                        client.send(get(method="POST", headers=f"{CHUNKED}X-User: {name}\r\n") + chunks(body))
                    assert (await client.answer()).body == b"%d of %b" % (number, name.encode())
            assert upstream.connections == 1

    run(main())
