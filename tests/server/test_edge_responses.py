"""What an upstream may answer, byte for byte, and what the client then sees: real sockets, gunicorn's protocol."""

import asyncio

import pytest

from gw.upstream.reading import MAX_HEAD_BYTES
from tests.support.edge import (
    OK,
    Wire,
    compiled,
    eventually,
    get,
    proxy,
    refusing_port,
    replying,
    run,
    scripted_upstream,
    upstream_dict,
)
from tests.support.edge import (
    edge as open_edge,
)

pytestmark = pytest.mark.usefixtures("each_edge")

OK_LINE = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("raw", "status", "body", "is_reused"),
    [
        (OK, 200, b"ok", True),
        (OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", 200, b"abc", True),
        (OK_LINE + b"Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", 200, b"a", True),
        (OK_LINE + b"Transfer-Encoding:  Chunked \r\n\r\n2\r\nab\r\n0\r\n\r\n", 200, b"ab", True),
        (OK_LINE + b"Content-Length: 0\r\n\r\n", 200, b"", True),
        (OK_LINE + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n", 304, b"", True),
        # whose body may come yet
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", 204, b"", False),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, b"", False),
        # interim responses are not the answer
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" * 3 + OK, 200, b"ok", True),
        (b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n" + OK, 200, b"ok", True),
        # an upgrade that nobody asked for, but not taken either
        (OK_LINE + b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
        # bytes behind the end: never used again, and never read as the next answer
        (OK + OK, 200, b"ok", False),
        (OK + b"garbage", 200, b"ok", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", 204, b"", False),
        (OK_LINE + b"Connection: close\r\nContent-Length: 2\r\n\r\nokgarbage", 200, b"ok", False),
        (b"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", 599, b"", True),
        (OK_LINE + b"X-Obs: caf\xe9\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", True),
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True])
def test_answers(raw: bytes, status: int, body: bytes, is_reused: bool, in_pieces: bool) -> None:
    async def play(wire: Wire) -> None:
        while True:
            await wire.head()
            for piece in [raw[at : at + 1] for at in range(len(raw))] if in_pieces else [raw]:
                wire.send(piece)
                await asyncio.sleep(0)

    async def main() -> None:
        async with proxy(play) as (edge, upstream):
            for _ in range(2):
                answer = await edge.ask(get())
                assert (answer.status, answer.body, answer.complete) == (status, body, True)
                assert answer.header("server") == "Jitterway/0.1.0"
            if not in_pieces:  # in pieces, what is too much may come while the connection is idle already
                assert upstream.connections == (1 if is_reused else 2)

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\nContent-Length: 2\nX: y\n\nok",
        b"HTTP/1.1 200 Yes\nTransfer-Encoding: chunked\n\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 103 Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\nConnection: close\n\nok",
    ],
)
@pytest.mark.parametrize("first_bytes", [1 << 20, 20])
def test_lines_that_all_end_with_lf(raw: bytes, first_bytes: int) -> None:
    async def play(wire: Wire) -> None:
        while True:
            head = await wire.head()
            if b" /usual " in head:
                wire.send(OK if b"x-mixed" not in head else OK.replace(b"OK\r", b"OK"))
                continue
            wire.send(raw[:first_bytes])
            await asyncio.sleep(0.01)
            wire.send(raw[first_bytes:])
            if b"close" in raw:
                wire.close()

    async def main() -> None:
        async with proxy(play) as (edge, upstream):
            for path in ("/odd", "/usual", "/odd"):
                answer = await edge.ask(get(path))
                assert (answer.status, answer.body, answer.complete) == (200, b"ok", True)
            assert upstream.connections == (2 if b"close" in raw else 1)
            # A connection that spoke so is not given more than others afterwards.
            assert (await edge.ask(get("/usual", headers="X-Mixed: 1\r\n"))).status == 502

    run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/0.9 200 OK\r\n\r\nx",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK_LINE + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK_LINE + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK_LINE + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        OK_LINE + b"Content-Length: 3, 3\r\n\r\nabc",
        OK_LINE + b"Content-Length:\r\n\r\nabc",
        OK_LINE + b"Content-Length: +3\r\n\r\nabc",
        OK_LINE + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK_LINE + b"Transfer-Encoding: xchunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        OK_LINE + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b"X: a\x01b\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b"X: a\nContent-Length: 0\r\n\r\n",
        OK_LINE[:-2] + b"\nX: a\r\nContent-Length: 0\n\n",
        OK_LINE[:-2] + b"\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n",
        OK_LINE + b"X : a\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b": a\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b"X: " + b"a" * MAX_HEAD_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
        OK_LINE + b"X: a\r\n" * (MAX_HEAD_BYTES // 2) + b"Content-Length: 0\r\n\r\n",
        OK_LINE + b"X: " + b"a" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\n" * (MAX_HEAD_BYTES // 16),
        # llhttp takes what follows for its body, which would go out before any head
        b"HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\n" + OK,
        b"HTTP/1.1 104 Odd\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + OK,
    ],
)
def test_bad_answers_are_502_and_the_connection_is_closed(raw: bytes) -> None:
    closed = asyncio.Event()

    async def play(wire: Wire) -> None:
        await wire.head()
        wire.send(raw)
        await wire.rest()
        closed.set()

    async def main() -> None:
        async with proxy(play) as (edge, _):
            answer = await edge.ask(get())
            assert (answer.status, answer.body) == (502, b'{"error_msg":"502 Bad Gateway"}\n')
            assert answer.header("x-apisix-upstream-status") == "502"
            await asyncio.wait_for(closed.wait(), 5)
            assert repr(edge.upstreams) == "<UpstreamClient connections=0 opening=0 <IdlePool empty>>"

    run(main())


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (OK_LINE + b"Content-Length: 5\r\n\r\nabc", b"abc"),
        (OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"abc"),
        (OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", b"abc"),
        (OK_LINE + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX", b"abc"),
    ],
)
def test_a_body_that_breaks_off_never_looks_whole(raw: bytes, body: bytes) -> None:
    async def main() -> None:
        async with proxy(replying(raw, close=True)) as (edge, _):
            answer = await edge.ask(get())
            assert (answer.status, answer.body, answer.complete) == (200, body, False)

    run(main())


@pytest.mark.parametrize(("asked", "told"), [("Fine", "Fine"), ("x" * 256, "x" * 256), ("x" * 257, "OK"), ("", "OK")])
def test_a_reason_is_passed_on_unless_it_is_no_phrase(asked: str, told: str, each_edge: str) -> None:
    raw = f"HTTP/1.1 200 {asked}\r\nContent-Length: 0\r\n\r\n".encode()

    async def main() -> None:
        async with proxy(replying(raw)) as (edge, _):
            assert (await edge.ask(get())).reason == (told if each_edge == "h1" else "OK")

    run(main())


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_body_that_the_end_of_the_connection_ends(version: str) -> None:
    raw = f"HTTP/{version} 200 OK\r\nContent-Type: a\r\n\r\nall there is".encode()

    async def main() -> None:
        async with proxy(replying(raw, close=True)) as (edge, _):
            answer = await edge.ask(get())
            assert (answer.status, answer.body, answer.complete) == (200, b"all there is", True)
            assert answer.header("transfer-encoding") == "chunked"
            old = await edge.ask(get(version="1.0"))
            assert (old.body, old.header("transfer-encoding")) == (b"all there is", None)

    run(main())


@pytest.mark.parametrize(
    ("raw", "length"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n", "40"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Type: a\r\n\r\n", None),
    ],
)
def test_head_has_no_body_and_the_next_answer_is_not_taken_for_it(raw: bytes, length: str | None) -> None:
    async def play(wire: Wire) -> None:
        while True:
            head = await wire.head()
            wire.send(raw if head.startswith(b"HEAD ") else OK)

    async def main() -> None:
        async with proxy(play) as (edge, upstream):
            for _ in range(3):
                wire = await edge.connect()
                wire.send(get(method="HEAD") + get())
                head = await wire.answer(to_head=True)
                assert (head.status, head.header("content-length")) == (200, length)
                assert (await wire.answer()).body == b"ok"
            assert upstream.connections == 1

    run(main())


def test_a_body_behind_the_answer_to_head_ends_the_connection() -> None:
    async def play(wire: Wire) -> None:
        while True:
            await wire.head()
            wire.send(OK)  # with a body, whatever was asked

    async def main() -> None:
        async with proxy(play) as (edge, upstream):
            for count in (1, 2):
                answer = await edge.ask(get(method="HEAD"))
                assert (answer.status, answer.body) == (200, b"")
                assert upstream.connections == count

    run(main())


def test_what_comes_on_an_idle_connection_ends_it() -> None:
    async def main() -> None:
        async with proxy() as (edge, upstream):
            client = await edge.connect()
            client.send(get())
            first = await upstream.accept()
            await first.head()
            first.send(OK)
            assert (await client.answer()).body == b"ok"
            assert "IdlePool 127.0.0.1" in repr(edge.upstreams)
            first.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            assert await first.rest() == b""
            client.send(get())
            second = await upstream.accept()
            await second.head()
            second.send(OK)
            assert (await client.answer()).body == b"ok"

    run(main())


def test_an_idle_connection_that_ends_is_forgotten() -> None:
    async def main() -> None:
        async with proxy(replying(OK)) as (edge, upstream):
            assert (await edge.ask(get())).status == 200
            assert "IdlePool 127.0.0.1" in repr(edge.upstreams)
            upstream.abort_all()
            await eventually(lambda: "connections=0" in repr(edge.upstreams))
            assert (await edge.ask(get())).status == 200
            assert upstream.connections == 2

    run(main())


def test_status_of_the_upstream_is_shown_for_5xx_unless_all_are_asked_for() -> None:
    async def main() -> None:
        async with proxy(replying(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\nServer: nginx\r\n\r\n")) as (edge, _):
            answer = await edge.ask(get())
            assert answer.header("x-apisix-upstream-status") == "503"
            assert answer.header("server") == "Jitterway/0.1.0"
        async with proxy(replying(OK)) as (edge, _):
            assert (await edge.ask(get())).header("x-apisix-upstream-status") is None
        async with scripted_upstream(replying(OK)) as upstream:
            with refusing_port() as port:
                nodes = [
                    {"host": "127.0.0.1", "port": port, "weight": 1, "priority": 1},
                    {"host": "127.0.0.1", "port": upstream.port, "weight": 1},
                ]
                routes = {
                    "/": compiled("1", upstream_dict(upstream.port)),
                    "/second": compiled("2", upstream_dict(0, nodes=nodes)),
                }
                async with open_edge(routes, shows_every_status=True) as all_shown:
                    for path, shown in (("/", "200"), ("/second", "502, 200"), ("/", "200"), ("/", "200")):
                        answer = await all_shown.ask(get(path))
                        assert answer.header("x-apisix-upstream-status") == shown

    run(main())
