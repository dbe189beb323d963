"""What of an ASGI application's answer reaches a client, where the request is not all there or the answer never is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gw.server.draining import Connections
from gw.server.protocol import GatewayProtocol
from tests.support.edge import PATIENCE_S, TIMES, Wire, Worker, eventually, run

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
UNMEASURED = {"type": "http.response.start", "status": 200, "headers": []}
OK = {"type": "http.response.body", "body": b"ok"}
PIECE = {"type": "http.response.body", "body": b"o", "more_body": True}
EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n%b\r\n"
Say = Callable[[dict[str, Any]], Awaitable[None]]
Ask = Callable[[], Awaitable[dict[str, Any]]]


async def early(ask: Ask, say: Say) -> None:
    await say(START)
    await say(OK)


async def before_it_asks(ask: Ask, say: Say) -> None:
    await say(START)
    await say(PIECE)
    assert (await ask())["body"] == b"hi"
    await say({**PIECE, "body": b"k", "more_body": False})


async def after_it_asked(ask: Ask, say: Say) -> None:
    assert (await ask())["body"] == b"hi"
    await early(ask, say)


async def fails(ask: Ask, say: Say) -> None:
    await say(UNMEASURED)
    await say(PIECE)
    raise ValueError("broken")


async def stops(ask: Ask, say: Say) -> None:
    await say(UNMEASURED)
    await say(PIECE)


async def says_too_little(ask: Ask, say: Say) -> None:
    await say(START)
    await say({**PIECE, "more_body": False})


@pytest.mark.parametrize(
    ("application", "asked", "then", "told"),
    [
        (early, EXPECTING % b"", b"hi", (b"ok", True, "close")),
        (early, EXPECTING % b"Connection: close\r\n", b"hi", (b"ok", True, "close")),
        (before_it_asks, EXPECTING % b"", b"hi", (b"ok", True, "close")),
        (before_it_asks, EXPECTING % b"Connection: close\r\n", b"hi", (b"ok", True, "close")),
        (after_it_asked, EXPECTING % b"" + b"hi", b"", (b"ok", True, None)),
        (fails, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", (b"o", False, None)),
        (stops, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", (b"o", False, None)),
        (says_too_little, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"", (b"o", False, None)),
        # The end of the connection would be the body's.
        (fails, b"GET / HTTP/1.0\r\n\r\n", b"", ConnectionResetError),
        (stops, b"GET / HTTP/1.0\r\n\r\n", b"", ConnectionResetError),
    ],
)
def test_what_a_client_is_told(
    application: Callable[[Ask, Say], Awaitable[None]], asked: bytes, then: bytes, told: Any
) -> None:
    begun = asyncio.Event()

    async def app(_: object, ask: Ask, say: Say) -> None:
        async def telling(message: dict[str, Any]) -> None:
            await say(message)
            begun.set()

        await application(ask, telling)

    async def main() -> None:
        loop, connections = asyncio.get_running_loop(), Connections()
        worker = Worker(app, loop)
        server = await loop.create_server(lambda: GatewayProtocol(worker, app, connections, TIMES), "127.0.0.1", 0)  # type: ignore[arg-type]
        wire = Wire(*await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1]))
        try:
            wire.send(asked)
            if told is ConnectionResetError:
                with pytest.raises(ConnectionResetError):
                    await asyncio.wait_for(wire.reader.read(), PATIENCE_S)
            else:
                if then:
                    await asyncio.wait_for(begun.wait(), PATIENCE_S)
                    wire.send(then)
                answer = await wire.answer()
                assert (answer.body, answer.complete, answer.header("connection"), answer.interim) == (*told, [])
        finally:
            wire.close()
            server.close()
            connections.abort()
            await eventually(lambda: len(connections) == 0)

    run(main())
