"""client_max_body_size: what is announced too large never leaves, and what turns out too large is broken off."""

import asyncio

import pytest

from tests.support.edge import OK, Wire, eventually, proxy, run

pytestmark = pytest.mark.usefixtures("each_edge")

LIMIT_BYTES = 1000


def post(headers: str, body: bytes = b"") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n".encode() + body


async def answer_whole_body(wire: Wire) -> None:
    """An upstream that answers once the body has ended."""
    head = await wire.head()
    if b"transfer-encoding" in head.lower():
        await wire.reader.readuntil(b"0\r\n\r\n")
    else:
        await wire.exactly(LIMIT_BYTES)
    wire.send(OK)


def test_an_announced_body_that_is_too_large_goes_nowhere() -> None:
    async def main() -> None:
        async with proxy(max_body_bytes=LIMIT_BYTES) as (running, upstream):
            client = await running.connect()
            client.send(post(f"Content-Length: {LIMIT_BYTES + 1}\r\nExpect: 100-continue"))
            answer = await client.answer()  # not 100
            assert answer.status == 413
            assert answer.body == b'{"error_msg":"413 Request Entity Too Large"}\n'
            assert answer.header("connection") == "close"
            assert await client.rest() == b""
            assert upstream.connections == 0

    run(main())


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(f"Content-Length: {LIMIT_BYTES}", bytes(LIMIT_BYTES)),
        post("Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (LIMIT_BYTES, bytes(LIMIT_BYTES))),
    ],
    ids=["length", "chunked"],
)
def test_a_body_of_just_the_limit_passes(request_bytes: bytes) -> None:
    async def main() -> None:
        async with proxy(answer_whole_body, max_body_bytes=LIMIT_BYTES) as (running, _):
            assert (await running.ask(request_bytes)).status == 200

    run(main())


def test_a_chunked_body_that_grows_too_large_is_answered_413_and_leaves_the_upstream() -> None:
    async def main() -> None:
        async with proxy(max_body_bytes=LIMIT_BYTES) as (running, upstream):
            client = await running.connect()
            client.send(post("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (LIMIT_BYTES, bytes(LIMIT_BYTES))))
            wire = await upstream.accept()
            await wire.head()
            client.send(b"1\r\nx\r\n")
            assert (await client.answer()).status == 413
            # The upstream sees no end of the body: it cannot take it for whole.
            assert b"0\r\n\r\n" not in await wire.rest()
            await eventually(lambda: "connections=0 " in repr(running.upstreams))

    run(main())


def test_with_the_answer_on_its_way_the_connection_is_cut() -> None:
    async def main() -> None:
        async with proxy(max_body_bytes=LIMIT_BYTES) as (running, upstream):
            client = await running.connect()
            client.send(post("Transfer-Encoding: chunked", b"1\r\nx\r\n"))
            wire = await upstream.accept()
            await wire.head()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun")
            received = await client.head()
            assert received.startswith(b"HTTP/1.1 200 ")
            client.send(b"%x\r\n%b\r\n" % (LIMIT_BYTES, bytes(LIMIT_BYTES)))
            assert await client.rest() == b"begun"
            await asyncio.wait_for(wire.rest(), 10)
            await eventually(lambda: "connections=0 " in repr(running.upstreams))

    run(main())
