"""Routes that are chosen by a request's body, on either edge: who waits, and what the upstream gets afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gw.model.merge import Missing
from gw.model.route import Route
from gw.pipeline.context import Context
from gw.pipeline.request_body import TO_MATCH_BYTES
from gw.pipeline.route_condition import compile_route_condition
from tests.support.edge import (
    Edge,
    Wire,
    _Handle,
    compiled,
    edge,
    eventually,
    get,
    run,
    scripted_upstream,
    upstream_dict,
)

pytestmark = pytest.mark.usefixtures("each_edge")

ASKS = {
    "form": [["post_arg_name", "==", "jo"]],
    "graph": [["graphql_root_fields", "has", "owner"]],
    "staged": [["http_x_stage", "==", "canary"], ["post_arg_name", "==", "ann"]],
}


async def echo(wire: Wire) -> None:
    """Answer with what came, request by request."""
    while True:
        head = await wire.head()
        _, _, length = head.lower().partition(b"content-length: ")
        if b"transfer-encoding: chunked" in head.lower():
            pieces, _ = await wire.chunked()
            body = pieces if isinstance(pieces, bytes) else b"".join(pieces)
        else:
            body = await wire.exactly(int(length.split(b"\r\n")[0])) if length else b""
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@contextlib.asynccontextmanager
async def running(ended: list[Context] | None = None, limit_bytes: int = TO_MATCH_BYTES) -> AsyncIterator[Edge]:
    """`form`, `graph` and `staged` lead to the echo; what meets none of them is answered 503 by the rest."""
    async with scripted_upstream(echo) as upstream:
        route = compiled("asks", upstream_dict(upstream.port))
        rest = compiled("rest", Missing(503, "the rest"))
        conditions = [
            compile_route_condition(
                Route.from_dict(id, {"uri": "/*", "priority": 0, "status": 1, "vars": asked}), allow_code=False
            )
            for id, asked in ASKS.items()
        ]

        def find(path: str, host: str, method: str, ctx: Any) -> _Handle:
            return _Handle(route if any(condition(ctx) for condition in conditions) else rest)

        async with edge({}, ended=ended, max_body_to_match_bytes=limit_bytes) as made:
            made.routes.find = find  # type: ignore[method-assign]
            yield made


def is_waiting() -> bool:
    """Whether a request waits for its body to be matched."""
    return any("match by" in task.get_name() for task in asyncio.all_tasks())


def post(body: bytes, *headers: str, content_type: str = "application/x-www-form-urlencoded") -> bytes:
    fields = "".join(f"{each}\r\n" for each in (f"Content-Type: {content_type}", *headers))
    return f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (post(b"name=jo&x=1"), b"name=jo&x=1"),
        (post(b"name=ann"), None),
        (post(b"name=ann", "X-Stage: canary"), b"name=ann"),
        (post(b"{owner{name}}", content_type="text/plain"), b"{owner{name}}"),
        (post(b"{repo{name}}", content_type="text/plain"), None),
        (get(), None),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: application/x-www-form-urlencoded\r\n\r\n3\r\nnam\r\n4\r\ne=jo\r\n0\r\n\r\n",
            b"name=jo",
        ),
    ],
)
def test_the_body_decides_and_still_reaches_the_upstream(request_: bytes, expected: bytes | None) -> None:
    async def main() -> None:
        async with running() as made:
            answer = await made.ask(request_)
            assert (answer.status, answer.body) == ((200, expected) if expected else (503, answer.body))

    run(main())


def test_it_is_waited_for() -> None:
    async def main() -> None:
        async with running() as made:
            wire = await made.connect()
            whole = post(b"name=jo")
            wire.send(whole[:-3])
            other = await made.ask(post(b"name=jo"))
            assert other.status == 200, "who waits keeps nobody else"
            wire.send(whole[-3:])
            answer = await wire.answer()
            assert (answer.status, answer.body) == (200, b"name=jo")
            wire.close()

    run(main())


def test_the_node_is_not_charged_for_the_time_that_the_client_took() -> None:
    async def main() -> None:
        ended: list[Context] = []
        async with running(ended) as made:
            wire = await made.connect()
            whole = post(b"name=jo")
            wire.send(whole[:-3])
            await eventually(is_waiting)
            all_came_after_s = time.monotonic()
            wire.send(whole[-3:])
            assert (await wire.answer()).status == 200
            (attempt,) = ended[0].attempts
            assert attempt.started_s >= all_came_after_s
            wire.close()

    run(main())


def test_two_on_one_connection_are_answered_in_order() -> None:
    async def main() -> None:
        async with running() as made:
            wire = await made.connect()
            wire.send(post(b"name=jo") + post(b"name=ann") + post(b"name=jo&n=2"))
            answers = [await wire.answer() for _ in range(3)]
            assert [answer.status for answer in answers] == [200, 503, 200]
            assert answers[2].body == b"name=jo&n=2"
            wire.close()

    run(main())


def test_a_body_that_conditions_do_not_read_is_refused_and_falls_through_to_nobody() -> None:
    async def main() -> None:
        async with running() as made:
            assert (await made.ask(post(b"a" * (TO_MATCH_BYTES + 1)))).status == 413
            deep = post(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, content_type="application/json")
            assert (await made.ask(deep)).status == 400

    run(main())


@pytest.mark.parametrize(("limit_bytes", "status"), [(10, 200), (9, 413), (0, 200)])
def test_how_much_of_a_body_conditions_read_is_a_setting(limit_bytes: int, status: int) -> None:
    async def main() -> None:
        async with running(limit_bytes=limit_bytes) as made:
            assert (await made.ask(post(b"name=jo&xx"))).status == status

    run(main())


def test_a_client_that_leaves_meanwhile_is_let_go_of() -> None:
    async def main() -> None:
        async with running() as made:
            wire = await made.connect()
            wire.send(post(b"name=jo")[:-3])
            await eventually(is_waiting)
            wire.abort()
            await eventually(lambda: not is_waiting())

    run(main())
