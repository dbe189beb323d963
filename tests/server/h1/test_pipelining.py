"""Requests behind requests on one connection: order, bodies, what ends the sequence, and what it may hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gw.server.client_pace import LINGER_S
from tests.support.edge import (
    OK,
    PATIENCE_S,
    TIMES,
    Wire,
    edge,
    eventually,
    get,
    proxy,
    replying,
    run,
    small_client,
)

MIB = 1 << 20
GROWTH_BYTES = 32 * MIB


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def echo(wire: Wire) -> None:
    """An upstream that answers each request with its target and its body."""
    while True:
        head = await wire.head()
        body = b""
        if b"transfer-encoding: chunked" in head:
            body, _ = await wire.chunked()
        elif b"content-length: " in head:
            body = await wire.exactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        said = head.split(b" ")[1] + b" " + body
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))


BODIES = [
    (b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n", b"/0 "),
    (b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", b"/1 abc"),
    (b"\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n", b"/2 def"),
    (b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", b"/3 "),
    (b"POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"/4 "),
    (b"POST /5 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n\r\n", b"/5 "),
    (b"GET /6 HTTP/1.1\r\nHost: a\r\n\r\n", b"/6 "),
]


@pytest.mark.parametrize("piece_bytes", [1 << 20, 100, 7, 1])
def test_requests_with_and_without_bodies_in_one_go(piece_bytes: int) -> None:
    async def main() -> None:
        async with proxy(echo) as (running, _):
            client = await running.connect()
            sent = b"".join(request for request, _ in BODIES)
            for at in range(0, len(sent), piece_bytes):
                client.send(sent[at : at + piece_bytes])
                await asyncio.sleep(0)
            for _, said in BODIES:
                assert (await client.answer()).body == said

    run(main())


@pytest.mark.parametrize("request_bytes", [request for request, _ in BODIES[3:6]])
def test_a_body_of_nothing_is_complete_when_its_head_is(request_bytes: bytes) -> None:
    async def main() -> None:
        async with proxy(echo) as (running, _):
            assert (await running.ask(request_bytes)).status == 200

    run(main())


def test_thousands_at_once_hold_no_more_than_a_read_of_them() -> None:
    """The client does not read before all is sent, so that we stop reading, too."""
    count = 40_000

    async def main() -> None:
        async with edge({}) as running:
            running.routes.asked = Uncounted()
            client = await running.connect()
            before = resident_bytes()
            client.writer.write(b"".join(b"GET /%05d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(count)))
            answered, tail = 0, b""
            while answered < count:
                tail += await asyncio.wait_for(client.reader.read(MIB), PATIENCE_S)
                answered += tail.count(b"HTTP/1.1 404 ")
                tail = tail[-12:]
                assert resident_bytes() - before < GROWTH_BYTES

    run(main())



class Uncounted(list):  # type: ignore[type-arg]
    def append(self, _: object) -> None:
        """So many are not remembered."""


def test_a_client_that_does_not_read_is_not_answered_further() -> None:
    """Each answer is small enough for one exchange; all of them together would fill the memory."""
    piece = bytes(200_000)  # comes in one read: it is all there before the client turns out to be slow
    answered = 0

    async def large(wire: Wire) -> None:
        nonlocal answered
        while True:
            await wire.head()
            answered += 1
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(piece), piece))
            await wire.writer.drain()

    async def main() -> None:
        async with proxy(large) as (running, _):
            reader, writer = await small_client(running)
            before = resident_bytes()
            writer.write(get() * 500)
            await eventually(lambda: answered > 0)
            for _ in range(200):
                await asyncio.sleep(0.002)  # nothing tells that nothing more will happen
            assert answered < 50
            assert resident_bytes() - before < GROWTH_BYTES
            received = 0
            while received < 500 * len(piece):
                received += len(await reader.read(MIB))
            await eventually(lambda: answered == 500)
            writer.close()

    run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_what_follows_the_last_request_does_not_take_its_answer_away(waits: bool) -> None:
    """More than is read lies in our socket when we close: closing at once would reset the connection."""

    async def late(wire: Wire) -> None:
        await wire.head()
        await let_go.wait()
        wire.send(OK)

    let_go = asyncio.Event()

    async def main() -> None:
        async with proxy(late) as (running, _):
            client = await running.connect()
            client.send(get(headers="Connection: close\r\n"))
            if waits:
                client.send(bytes(2 * MIB))
            else:
                client.send(get() * 100)
            await eventually(lambda: client.writer.transport.get_write_buffer_size() < MIB or not waits)
            let_go.set()
            answer = await client.answer()
            assert (answer.body, answer.header("connection")) == (b"ok", "close")
            received = b""
            while piece := await client.reader.read(65536):  # raises if the connection is reset
                received += piece
            assert received == b""

    run(main())


def test_what_follows_a_body_that_is_refused_at_its_end_is_still_taken_in() -> None:
    """The rest is dropped, not left in our socket: the end of it would reset the connection."""

    async def main() -> None:
        async with proxy(echo, max_body_bytes=10) as (running, _):
            client = await running.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await eventually(lambda: "opening=0" in repr(running.upstreams) and bool(running.routes.asked))
            client.send(b"6\r\nworld!\r\n0\r\n\r\n" + get("/canary"))
            assert (await client.answer()).status == 413
            client.send(bytes(16 * MIB))
            await asyncio.wait_for(client.writer.drain(), LINGER_S / 2)
            assert [path for path, _, _ in running.routes.asked] == ["/"]

    run(main())


def test_a_request_that_is_malformed_is_answered_after_those_before_it() -> None:
    async def main() -> None:
        async with proxy(echo) as (running, upstream):
            client = await running.connect()
            client.send(BODIES[0][0] + BODIES[1][0] + b"GET / HTTP/1.1\r\nX : y\r\n\r\n" + get("/canary"))
            assert [(await client.answer()).status for _ in range(3)] == [200, 200, 400]
            assert await client.rest() == b""
            assert upstream.connections == 1

    run(main())


def test_a_stray_line_end_behind_a_request_does_not_stop_the_clock() -> None:
    """Old browsers sent one behind a POST. The connection is idle then, and its time counts."""

    async def main() -> None:
        async with proxy(echo, times=TIMES._replace(idle_s=0.3)) as (running, _):
            client = await running.connect()
            client.send(BODIES[1][0] + b"\r\n")
            assert (await client.answer()).body == b"/1 abc"
            assert await client.rest() == b""

    run(main())


def test_a_client_that_ends_its_side_gets_all_its_answers() -> None:
    async def main() -> None:
        async with proxy(echo) as (running, _):
            client = await running.connect()
            client.send(b"".join(request for request, _ in BODIES))
            client.writer.write_eof()
            for _, said in BODIES:
                assert (await client.answer()).body == said
            assert await client.rest() == b""

    run(main())


def test_a_slow_client_that_ended_its_side_is_closed_when_it_has_all() -> None:
    size = 4 * MIB

    async def main() -> None:
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, bytes(size))
        async with proxy(replying(raw)) as (running, _):
            reader, writer = await small_client(running)
            writer.write(get())
            writer.write_eof()
            assert len(await reader.read()) > size
            writer.close()
            await eventually(lambda: len(running.connections) == 0)

    run(main())


def test_a_client_that_ends_its_side_within_a_request_gets_no_answer_to_it() -> None:
    async def main() -> None:
        async with proxy(echo) as (running, _):
            for cut in (BODIES[1][0][:-1], BODIES[0][0][:-2], BODIES[2][0][:-2]):
                client = await running.connect()
                client.send(BODIES[0][0] + cut)
                client.writer.write_eof()
                assert (await client.answer()).body == b"/0 "
                assert await client.rest() == b""
            await eventually(lambda: len(running.connections) == 0)

    run(main())
