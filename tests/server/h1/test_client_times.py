"""Clients and upstreams that are slow, silent, or gone: which clock runs, what it ends, and how the client can tell."""

from __future__ import annotations

import asyncio
import math
import socket

import pytest

from tests.support.edge import OK, TIMES, Wire, eventually, get, proxy, replying, run, small_client

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SHORT_S = 0.2


@pytest.mark.parametrize(
    ("times", "sent", "status"),
    [
        ({"header_s": SHORT_S}, b"", None),
        ({"header_s": SHORT_S}, b"\r", 408),
        ({"header_s": SHORT_S}, b"\r\n", None),
        ({"header_s": SHORT_S}, b"GET / HT", 408),
        ({"header_s": SHORT_S}, get()[:-1], 408),
        ({"body_s": SHORT_S}, POST, 408),
        ({"body_s": SHORT_S}, POST + b"x" * 99, 408),
        ({"body_s": SHORT_S}, CHUNKED, 408),
        ({"body_s": SHORT_S}, CHUNKED + b"0\r\n", 408),
    ],
)
def test_what_does_not_come_in_time(times: dict[str, float], sent: bytes, status: int | None) -> None:
    async def take(wire: Wire) -> None:
        await wire.head()
        await wire.exactly(1 << 20)

    async def main() -> None:
        async with proxy(take, times=TIMES._replace(**times)) as (running, _):
            client = await running.connect()
            client.send(sent)
            if status is not None:
                answer = await client.answer()
                assert (answer.status, answer.header("connection")) == (status, "close")
            assert await client.rest() == b""
            # The rest of an upload is still listened to for a while, without a use for it.
            client.close()
            await eventually(lambda: len(running.connections) == 0)

    run(main())


@pytest.mark.parametrize(
    ("sent", "status"), [(b"", None), (b"\r\n", None), (b"GET / HT", 408), (get("/b")[:-1], 408)]
)
def test_between_two_requests(sent: bytes, status: int | None) -> None:
    """The idle time ends with the first byte of a head, and the head's time begins."""

    async def main() -> None:
        async with proxy(replying(OK), times=TIMES._replace(idle_s=SHORT_S, header_s=2 * SHORT_S)) as (running, _):
            client = await running.connect()
            for _ in range(2):
                client.send(get())
                assert (await client.answer()).status == 200
            client.send(sent)
            if status is not None:
                assert (await client.answer()).status == status
            assert await client.rest() == b""

    run(main())


def test_who_still_takes_an_answer_is_not_idle() -> None:
    """And what it asks meanwhile is answered."""
    body = bytes(16_000)  # comes in one read
    said = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def main() -> None:
        async with proxy(replying(said), times=TIMES._replace(idle_s=SHORT_S)) as (running, _):
            reader, writer = await small_client(running)
            await eventually(lambda: len(running.connections) == 1)
            (connection,) = running.connections._live

            async def is_answered(number: int) -> None:
                await eventually(lambda: connection._requests == number and connection._exchange is None)

            asked = 0
            while not connection._writing_paused:
                asked += 1
                writer.write(get())
                await is_answered(asked)
            writer.write(get())
            await eventually(lambda: connection._deadline.fires_at_s == math.inf)
            answers = Wire(reader, writer)
            for _ in range(asked + 1):
                assert (await answers.answer()).body == body
            assert await answers.rest() == b"", "and then its idle time runs"
            writer.close()

    run(main())


def test_no_idle_time_is_one_request_per_connection() -> None:
    async def main() -> None:
        async with proxy(replying(OK), times=TIMES._replace(idle_s=0)) as (running, _):
            client = await running.connect()
            client.send(get() + get())
            assert (await client.answer()).header("connection") == "close"
            assert await client.rest() == b""

    run(main())


def test_a_head_is_not_given_more_time_for_each_byte() -> None:
    async def main() -> None:
        async with proxy(replying(OK), times=TIMES._replace(header_s=0.5)) as (running, _):
            client = await running.connect()
            dripping = asyncio.create_task(_drip(client, b"GET / HTTP/1.1\r\nX: " + b"y" * 10_000))
            assert (await client.answer()).status == 408
            dripping.cancel()

    run(main())


async def _drip(client: Wire, data: bytes) -> None:
    for at in range(len(data)):
        client.send(data[at : at + 1])
        await asyncio.sleep(0.01)


def test_a_body_may_take_longer_than_its_time_as_long_as_it_comes() -> None:
    async def take(wire: Wire) -> None:
        await wire.head()
        await wire.exactly(100)
        wire.send(OK)

    async def main() -> None:
        async with proxy(take, times=TIMES._replace(body_s=0.3)) as (running, _):
            client = await running.connect()
            client.send(POST)
            for _ in range(10):
                client.send(b"x" * 10)
                await asyncio.sleep(0.06)
            assert (await client.answer()).status == 200

    run(main())


def test_a_body_that_we_do_not_take_runs_no_clock_of_the_clients() -> None:
    """The upstream does not read: what ends the request is its time to send, and the fault is not the client's."""

    async def main() -> None:
        times = TIMES._replace(body_s=SHORT_S)
        async with proxy(times=times, timeout={"connect": 60, "send": 1, "read": 60}) as (running, upstream):
            client = await running.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
            wire = await upstream.accept()
            wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(bytes(32 << 20))
            assert (await client.answer()).status == 504

    run(main())


def test_a_body_that_waits_for_a_connection_runs_no_clock_of_the_clients() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            filling = socket.create_connection(full.getsockname())
            nodes = {"nodes": [{"host": "127.0.0.1", "port": full.getsockname()[1], "weight": 1}]}
            times = TIMES._replace(body_s=SHORT_S)
            timeout = {"connect": 1, "send": 60, "read": 60}
            async with proxy(times=times, timeout=timeout, **nodes) as (running, _):
                client = await running.connect()
                client.send(POST + b"x")
                assert (await client.answer()).status == 504
            filling.close()

    run(main())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n",
    ],
)
def test_an_answer_that_breaks_off_never_looks_whole(raw: bytes, version: str) -> None:
    """A client of HTTP/1.0 that was given no length can see it by an error alone."""

    async def main() -> None:
        async with proxy(replying(raw, close=True)) as (running, _):
            client = await running.connect()
            client.send(get(version=version))
            head = await client.head()
            received = b""
            is_reset = False
            try:
                while piece := await client.reader.read(65536):
                    received += piece
            except ConnectionResetError:
                is_reset = True
            has_length = b"content-length" in head
            is_chunked = b"transfer-encoding" in head
            assert is_chunked == (version == "1.1" and not has_length)
            assert is_reset == (not is_chunked and not has_length)
            assert not received.endswith(b"0\r\n\r\n")

    run(main())


@pytest.mark.parametrize("first_bytes", [0, 10, 3 << 20])
def test_an_upstream_that_does_not_read_holds_the_client_back_from_the_first_byte(first_bytes: int) -> None:
    """What came before there was a connection may fill it already."""
    sent = 64 << 20

    async def main() -> None:
        with socket.socket() as listening:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # As on a network. The loopback's large segments would let the first write be megabytes.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            nodes = {"nodes": [{"host": "127.0.0.1", "port": listening.getsockname()[1], "weight": 1}]}
            async with proxy(**nodes) as (running, _):
                client = await running.connect()
                client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % sent + bytes(first_bytes))
                await eventually(lambda: "opening=0" in repr(running.upstreams) and len(running.connections) == 1)
                client.send(bytes(sent - first_bytes))
                left = client.writer.transport.get_write_buffer_size
                unmoved, before = 0, left()
                while unmoved < 20:
                    await asyncio.sleep(0.01)  # that nothing moves any more shows in nothing but time
                    unmoved, before = (unmoved + 1, before) if left() == before else (0, left())
                assert left() > sent / 2
                client.reset()

    run(main())


def test_an_upstream_that_ends_its_side_and_reads_no_more_does_not_hold_the_request() -> None:
    async def end(wire: Wire) -> None:
        await wire.head()
        wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(SHORT_S)
        wire.writer.write_eof()
        await hold.wait()

    hold = asyncio.Event()

    async def main() -> None:
        async with proxy(end) as (running, _):
            client = await running.connect()
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
            client.send(bytes(64 << 20))
            assert (await client.answer()).status == 502
            hold.set()

    run(main())


@pytest.mark.parametrize("stage", ["head", "body", "waiting", "answer"])
def test_a_client_that_resets_leaves_nothing_at_any_stage(stage: str) -> None:
    async def play(wire: Wire) -> None:
        await wire.head()
        reached.set()
        if stage == "answer":
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await wire.rest()
        gone.set()

    reached, gone = asyncio.Event(), asyncio.Event()

    async def main() -> None:
        async with proxy(play) as (running, upstream):
            client = await running.connect()
            client.send({"head": get()[:-2], "body": POST + b"x"}.get(stage, get()))
            if stage == "head":
                await eventually(lambda: len(running.connections) == 1)
            else:
                await reached.wait()
            if stage == "answer":
                await client.head()
            client.reset()
            await eventually(lambda: len(running.connections) == 0)
            if stage == "head":
                assert upstream.connections == 0
            else:
                await gone.wait()
                await eventually(lambda: "connections=0 " in repr(running.upstreams))

    run(main())
