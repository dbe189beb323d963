"""What each edge carries, a column each: docs/architecture.md, "What the ASGI edge cannot carry"."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.edge import OK, PATIENCE_S, Edge, ScriptedUpstream, get, proxy, run

pytestmark = pytest.mark.usefixtures("each_edge")

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def trailers_of_a_request(running: Edge, upstream: ScriptedUpstream) -> object:
    client = await running.connect()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n")
    wire = await upstream.accept()
    await wire.head()
    return await wire.chunked()


async def trailers_of_an_answer(running: Edge, upstream: ScriptedUpstream) -> object:
    client = await running.connect()
    client.send(get())
    wire = await upstream.accept()
    await wire.head()
    wire.send(CHUNKED + b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n")
    answer = await client.answer()
    return answer.body, answer.trailers


async def interim_responses(running: Edge, upstream: ScriptedUpstream) -> object:
    client = await running.connect()
    client.send(get())
    wire = await upstream.accept()
    await wire.head()
    wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    answer = await client.answer()
    return answer.status, answer.interim


async def a_phrase(running: Edge, upstream: ScriptedUpstream) -> object:
    client = await running.connect()
    client.send(get())
    wire = await upstream.accept()
    await wire.head()
    wire.send(OK.replace(b"200 OK", b"200 Fine"))
    return (await client.head()).partition(b"\r\n")[0]


async def a_client_that_says_no_more(running: Edge, upstream: ScriptedUpstream) -> object:
    client = await running.connect()
    client.send(get())
    client.writer.write_eof()
    wire = await upstream.accept()
    with contextlib.suppress(asyncio.IncompleteReadError):  # the other edge takes it for a client that left
        await wire.head()
        wire.send(OK)
    return (await client.rest()).endswith(b"ok")


async def a_tunnel(running: Edge, upstream: ScriptedUpstream) -> object:
    client = await running.connect()
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    client.send(get("/ws", headers=f"Connection: Upgrade\r\nUpgrade: websocket\r\n{key}"))
    head = asyncio.create_task(client.head())
    accepting = asyncio.create_task(upstream.accept())
    await asyncio.wait([head, accepting], return_when=asyncio.FIRST_COMPLETED)
    if accepting.done():
        wire = accepting.result()
        await wire.head()
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    accepting.cancel()
    return (await head).split(b" ")[1]


async def a_head_before_its_body(running: Edge, upstream: ScriptedUpstream) -> object:
    """An event stream whose first event is long in coming: whoever listens wants to know that it stands."""
    client = await running.connect()
    client.send(get())
    wire = await upstream.accept()
    await wire.head()
    wire.send(CHUNKED)
    head = asyncio.create_task(client.head())
    await asyncio.wait([head], timeout=PATIENCE_S)
    came = head.done()
    wire.send(b"1\r\na\r\n0\r\n\r\n")
    await head
    return came


async def a_body_of_unknown_length_that_breaks_off(running: Edge, upstream: ScriptedUpstream) -> object:
    """To a client of HTTP/1.0, which takes the end of the connection for the body's: whether it may think so."""
    client = await running.connect()
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    wire = await upstream.accept()
    await wire.head()
    wire.send(CHUNKED + b"1\r\na\r\n")
    await client.head()
    wire.abort()
    try:
        while await client.reader.read(65536):
            pass
    except ConnectionResetError:
        return False
    return True


@pytest.mark.parametrize(
    ("what", "h1", "asgi"),
    [
        (trailers_of_a_request, (b"a", [b"x-sum: 1"]), (b"a", [])),
        (trailers_of_an_answer, (b"a", [("x-sum", "1")]), (b"a", [])),
        (interim_responses, (200, [103]), (200, [])),
        (a_phrase, b"HTTP/1.1 200 Fine", b"HTTP/1.1 200 OK"),
        (a_client_that_says_no_more, True, False),
        (a_tunnel, b"101", b"403"),
        (a_head_before_its_body, True, True),
        (a_body_of_unknown_length_that_breaks_off, False, False),
    ],
)
def test_what_each_edge_carries(
    what: Callable[[Edge, ScriptedUpstream], Awaitable[object]], h1: object, asgi: object, each_edge: str
) -> None:
    route: dict[str, Any] = {"enable_websocket": True}

    async def main() -> None:
        async with proxy(route=route) as (running, upstream):
            assert await what(running, upstream) == (h1 if each_edge == "h1" else asgi)

    run(main())
