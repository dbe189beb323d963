"""Any bytes from a client, any from an upstream, over real sockets: no exception, no answer to somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.edge import PATIENCE_S, Edge, Wire, eventually, get, proxy

# Parts that streams are made of, in order or out of it.
PARTS = [
    *(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(3)),
    b"POST /3 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /4 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    *(b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b"HTTP/1.1\r\n"),
    b"GET /5 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"HEAD /6 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /7 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /8 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"GET /9 HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"GET /10 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
]
STREAMS = st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=6)), min_size=1, max_size=7)
CUTS = st.lists(st.integers(0, 300), max_size=4)

# What is answered to each request but the odd one, whose path ends in the body: heads and lengths are always the same.
USUAL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
ANSWERS = [
    USUAL + b"evil",
    USUAL,
    b"evil",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    *(b"2\r\nok\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"\r\n", b"\n", b"\0", b" ", b"HTTP/1.1 "),
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 500 Oh\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
]
ANSWER_STREAMS = st.lists(st.one_of(st.sampled_from(ANSWERS), st.binary(max_size=6)), max_size=5)


async def tells_the_target(wire: Wire) -> None:
    """Answers with the target it was asked for, once the request is whole."""
    while True:
        head = await wire.head()
        if b"transfer-encoding: chunked" in head:
            await wire.chunked()
        elif length := re.search(rb"content-length: ([0-9]+)", head):
            await wire.exactly(int(length[1]))
        target = head.split(b" ")[1]
        is_head = head.startswith(b"HEAD ")
        fields = b"X-Target: %b\r\nX-Head: %d\r\nContent-Length: %d\r\n" % (target, is_head, len(target))
        wire.send(b"HTTP/1.1 200 OK\r\n%b\r\n%b" % (fields, b"" if is_head else target))


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def run_once(main) -> None:  # type: ignore[no-untyped-def]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main(), PATIENCE_S))


def answers_in(received: bytes) -> list[tuple[int, bytes | None]]:
    """Status and target of each answer. Fails if it is no sequence of whole answers."""
    found = []
    while received:
        line, _, fields = received.partition(b"\r\n")
        head, _, received = fields.partition(b"\r\n\r\n")
        status = int(line.removeprefix(b"HTTP/1.1 ")[:3])
        if status == 100:
            continue
        target = re.search(rb"x-target: (\S+)", head)
        length = int(re.findall(rb"content-length: ([0-9]+)", head)[0])
        is_head = b"x-head: 1" in head
        assert is_head or len(received) >= length, received
        received = received if is_head else received[length:]
        found.append((status, None if target is None else target[1]))
    return found


@pytest.fixture
def no_errors(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR)
    return caplog


def forget_and_check(caplog: pytest.LogCaptureFixture) -> None:
    records = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    assert not records


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STREAMS, CUTS)
@example([PARTS[4], b"3\r\nabc\r\n", b"0\r\n\r\n", PARTS[0]], [10, 80])
@example([PARTS[0], b"\r\n", b"\r\n", PARTS[1], b"\0"], [])
@example([PARTS[17], PARTS[15]], [])  # what the body leaves is a request with the method D
def test_any_stream_of_a_client_gets_answers_to_its_requests_in_order(
    no_errors: pytest.LogCaptureFixture, parts: list[bytes], cuts: list[int]
) -> None:
    sent = b"".join(parts)

    async def main() -> None:
        async with proxy(tells_the_target, route={"enable_websocket": True}) as (running, _):
            client = await running.connect()
            for piece in split(sent, cuts):
                client.send(piece)
                await asyncio.sleep(0)
            with contextlib.suppress(OSError):
                client.writer.write_eof()
            answers = answers_in(await client.rest())
            targets = [target for _, target in answers if target is not None]
            # Each answer names a request that was sent, and they come in its order.
            offered = re.findall(rb"(?:GET|HEAD|POST) (/[0-9]*)", sent)
            assert is_subsequence(targets, offered), (answers, offered)
            # After a refusal nothing follows.
            assert all(status == 200 for status, _ in answers[:-1]), answers
            await eventually(lambda: len(running.connections) == 0)

    run_once(main)
    forget_and_check(no_errors)


def is_subsequence(found: list[bytes], offered: list[bytes]) -> bool:
    rest = iter(offered)
    return all(any(each == target for each in rest) for target in found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANSWER_STREAMS, CUTS, st.booleans(), st.sampled_from(["GET", "HEAD", "POST"]))
def test_any_stream_of_an_upstream_gives_one_answer_and_spoils_none_after_it(
    no_errors: pytest.LogCaptureFixture, parts: list[bytes], cuts: list[int], resets: bool, method: str
) -> None:
    async def play(wire: Wire) -> None:
        while (target := (await wire.head()).split(b" ")[1]) != b"/odd":
            wire.send(USUAL + target[-4:])
        for piece in split(b"".join(parts), cuts):
            if wire.writer.transport.is_closing():
                return  # we have had enough of it
            wire.send(piece)
            await asyncio.sleep(0)
        if wire.writer.transport.is_closing():
            return
        if resets:
            wire.reset()
        else:
            wire.close()

    async def main() -> None:
        async with proxy(play, timeout={"connect": 5, "send": 5, "read": 5}) as (running, _):
            client = await running.connect()
            for path in ("/0001", "/0002"):
                client.send(get(path))
                assert (await client.answer()).body == path[1:].encode()
            client.send(get("/odd", method=method))
            try:
                answer = await client.answer(to_head=method == "HEAD")
            except (ConnectionResetError, asyncio.IncompleteReadError):
                pass  # cut
            else:
                assert answer.status in (200, 204, 304, 500, 502)
                if answer.complete and answer.header("connection") is None:
                    client.send(get("/0003"))
                    following = await client.answer()
                    assert (following.status, following.body) == (200, b"0003")
            await mine_is_mine(running)
            client.close()

    run_once(main)
    forget_and_check(no_errors)


async def mine_is_mine(running: Edge) -> None:
    """Whatever the upstream said before, the next request gets its own answer."""
    for path in ("/0004", "/0005"):
        answer = await running.ask(get(path))
        assert (answer.status, answer.body) == (200, path[1:].encode())
