"""How a node fails, for which request, and what is tried then: statuses, attempts, the body that is sent again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gw.pipeline.context import Context
from tests.support.edge import (
    Answer,
    Wire,
    compiled,
    edge,
    full_backlog,
    get,
    refusing_port,
    run,
    scripted_upstream,
    upstream_dict,
)

pytestmark = pytest.mark.usefixtures("each_edge")

TIMEOUT = {"connect": 0.3, "send": 5, "read": 0.3}
SMALL, LARGE = b"hello", b"0123456789" * 30_000
REQUESTS = {
    "GET": get(),
    "PUT": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" + SMALL,
    "PUT nothing": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "PUT chunked": b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "PUT large": b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE,
    "POST": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n" + SMALL,
    "POST nothing": b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST large": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE,
    "LOCK": get(method="LOCK"),
}
ALL = frozenset(REQUESTS)
# What may be sent twice, and is still here to be sent: RFC 9110 section 9.2.2, and 64 KiB of a body.
TWICE = frozenset(("GET", "PUT", "PUT nothing", "PUT chunked"))
NONE: frozenset[str] = frozenset()


async def _body(wire: Wire, head: bytes) -> bytes:
    if b"transfer-encoding: chunked" in head:
        return (await wire.chunked())[0]
    _, _, after = head.partition(b"content-length: ")
    return await wire.exactly(int(after.partition(b"\r\n")[0])) if after else b""


async def closes_at_once(wire: Wire) -> None:
    wire.close()


async def resets_at_once(wire: Wire) -> None:
    wire.reset()


def reads_and(then: Callable[[Wire], None]) -> Callable[[Wire], Awaitable[None]]:
    async def play(wire: Wire) -> None:
        await _body(wire, await wire.head())
        then(wire)

    return play


def says(data: bytes, *, then: Callable[[Wire], None] = Wire.close) -> Callable[[Wire], Awaitable[None]]:
    def say(wire: Wire) -> None:
        wire.send(data)
        then(wire)

    return reads_and(say)


def stays(_: Wire) -> None:
    """Neither closes nor says more."""


# How the first node behaves: a script, what its try comes to, and for which requests the other node is tried.
BEHAVIOURS: dict[str, tuple[Any, int, frozenset[str]]] = {
    "refuses": ("refuses", 502, ALL),
    "takes no connection": ("full", 504, ALL),
    "closes at once": (closes_at_once, 502, TWICE),
    "resets at once": (resets_at_once, 502, TWICE),
    "closes when asked": (reads_and(Wire.close), 502, TWICE),
    "resets when asked": (reads_and(Wire.reset), 502, TWICE),
    "is silent": (reads_and(stays), 504, TWICE),
    "closes within the status line": (says(b"HTTP/1.1 2"), 502, TWICE),
    "closes within the head": (says(b"HTTP/1.1 200 OK\r\nContent-"), 502, TWICE),
    "is silent within the head": (says(b"HTTP/1.1 200 OK\r\nContent-", then=stays), 504, TWICE),
    "says garbage": (says(b"SSH-2.0-OpenSSH\r\n"), 502, NONE),
    "says what cannot be passed on": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"), 502, NONE),
}


@contextlib.asynccontextmanager
async def node(behaviour: Any) -> AsyncIterator[int]:
    """The port of a node that behaves so."""
    if callable(behaviour):
        async with scripted_upstream(behaviour) as upstream:
            yield upstream.port
        return
    with full_backlog() if behaviour == "full" else refusing_port() as port:
        yield port


async def _serve(wire: Wire) -> None:
    """The node that works says what it got."""
    while True:
        head = await wire.head()
        told = hashlib.sha256(await _body(wire, head)).hexdigest().encode()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))


def _nodes(*ports: int) -> list[dict[str, Any]]:
    """In this order: the first has the highest priority, and is tried first."""
    return [
        {"host": "127.0.0.1", "port": port, "weight": 1, "priority": len(ports) - number}
        for number, port in enumerate(ports)
    ]


async def _ask(request: bytes, *ports: int, **fields: Any) -> tuple[Answer, Context]:
    ended: list[Context] = []
    settled = upstream_dict(0, nodes=_nodes(*ports), timeout=TIMEOUT, **fields)
    async with edge({"/": compiled("1", settled)}, ended=ended) as running:
        client = await running.connect()
        client.send(request)
        answer = await client.answer()
        client.close()
        while not ended:
            await asyncio.sleep(0)
    (context,) = ended
    return answer, context


@pytest.mark.parametrize("what", list(BEHAVIOURS))
@pytest.mark.parametrize("name", list(REQUESTS))
def test_the_other_node_is_tried_where_that_is_safe(what: str, name: str) -> None:
    behaviour, failed, retried = BEHAVIOURS[what]
    if name.endswith("large") and what in ("closes at once", "resets at once"):
        pytest.skip("how much of the body was written by then is chance")

    async def main() -> None:
        async with node(behaviour) as bad, scripted_upstream(_serve) as good:
            answer, context = await _ask(REQUESTS[name], bad, good.port)
            tried = [(attempt.address, attempt.status) for attempt in context.attempts]
            if name in retried:
                body = {"PUT": SMALL, "PUT chunked": SMALL, "POST": SMALL, "PUT large": LARGE, "POST large": LARGE}
                assert (answer.status, answer.header("x-apisix-upstream-status")) == (200, None)
                assert answer.body.decode() == hashlib.sha256(body.get(name, b"")).hexdigest()
                assert tried == [(f"127.0.0.1:{bad}", failed), (f"127.0.0.1:{good.port}", 200)]
            else:
                assert (answer.status, answer.header("x-apisix-upstream-status")) == (failed, str(failed))
                assert tried == [(f"127.0.0.1:{bad}", failed)]
                assert good.connections == 0
            assert context.status == answer.status

    run(main())


@pytest.mark.parametrize("status", [500, 502, 503, 504, 404])
def test_an_answer_is_an_answer_whatever_it_says(status: int) -> None:
    async def main() -> None:
        bad = says(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nno" % status)
        async with scripted_upstream(bad) as first, scripted_upstream(_serve) as good:
            answer, context = await _ask(get(), first.port, good.port)
            assert (answer.status, answer.body) == (status, b"no")
            assert answer.header("x-apisix-upstream-status") == (str(status) if status >= 500 else None)
            assert [attempt.status for attempt in context.attempts] == [status]
            assert good.connections == 0

    run(main())


@pytest.mark.parametrize("framing", [b"Content-Length: 9", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("then", [Wire.close, Wire.reset, stays])
def test_nothing_is_tried_again_once_an_answer_has_begun(framing: bytes, then: Callable[[Wire], None]) -> None:
    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
        bad = says(head + (b"3\r\nabc\r\n" if b"chunked" in framing else b"abc"), then=then)
        async with scripted_upstream(bad) as first, scripted_upstream(_serve) as good:
            try:
                answer, _ = await _ask(get(), first.port, good.port)
            except (asyncio.IncompleteReadError, ConnectionResetError):
                pass  # an upstream's reset may take the head with it
            else:
                assert answer.status in (200, 502)
                assert not answer.complete or answer.status == 502
            if then is not Wire.reset:
                assert good.connections == 0

    run(main())


@pytest.mark.parametrize(
    ("behaviours", "fields", "status", "shown", "tries"),
    [
        (["refuses", "refuses", "works"], {}, 200, None, [502, 502, 200]),
        (["refuses", "is silent", "works"], {}, 200, None, [502, 504, 200]),
        (["refuses", "is silent", "refuses"], {}, 502, "502, 504, 502", [502, 504, 502]),
        (["refuses", "refuses", "works"], {"retries": 1}, 502, "502, 502", [502, 502]),
        (["refuses", "refuses", "works"], {"retries": 0}, 502, "502", [502]),
        (["refuses", "refuses", "works"], {"retries": 9}, 200, None, [502, 502, 200]),
        (["refuses", "refuses"], {"retries": 9}, 502, "502, 502", [502, 502]),
        (["refuses", "fails", "works"], {}, 500, "502, 500", [502, 500]),
        (["refuses", "says garbage", "works"], {}, 502, "502, 502", [502, 502]),
        # The time to try others counts from when the request came, and a try that began in time may end late.
        (["is silent", "works"], {"retry_timeout": 0.1}, 504, "504", [504]),
        (["is silent", "works"], {"retry_timeout": 5}, 200, None, [504, 200]),
        (["refuses", "is silent", "works"], {"retry_timeout": 0.2}, 504, "502, 504", [502, 504]),
        (["refuses", "works"], {"retry_timeout": 0}, 200, None, [502, 200]),
    ],
)
def test_how_many_and_for_how_long(
    behaviours: list[str], fields: dict[str, Any], status: int, shown: str | None, tries: list[int]
) -> None:
    known = {name: behaviour for name, (behaviour, _, _) in BEHAVIOURS.items()}
    known |= {"works": _serve, "fails": says(b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n")}

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            ports = [await stack.enter_async_context(node(known[name])) for name in behaviours]
            answer, context = await _ask(get(), *ports, **fields)
            assert (answer.status, answer.header("x-apisix-upstream-status")) == (status, shown)
            assert [attempt.status for attempt in context.attempts] == tries
            assert [attempt.address for attempt in context.attempts] == [
                f"127.0.0.1:{port}" for port in ports[: len(tries)]
            ]
            assert all(attempt.ended_s >= attempt.started_s > 0 for attempt in context.attempts)

    run(main())
