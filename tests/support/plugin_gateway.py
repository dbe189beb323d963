"""A gateway with one route, whose plugins a test brings, on the edge that was chosen; and two that many bring."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from gw.plugins.api import Context, Plugin
from tests.support.chains import walking
from tests.support.edge import Edge, ScriptedUpstream, edge, get, scripted_upstream

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Of: upstream\r\n\r\nhello"


@contextlib.asynccontextmanager
async def gateway(
    *plugins: Any, script: Any = None, rules: tuple[Any, ...] = (), **options: Any
) -> AsyncIterator[tuple[Edge, ScriptedUpstream]]:
    async with (
        scripted_upstream(script) as upstream,
        edge({"/": walking(upstream.port, *plugins, rules=rules)}, **options) as running,
    ):
        yield running, upstream


def post(body: bytes, headers: str = "", path: str = "/") -> bytes:
    return get(path, method="POST", headers=f"Content-Length: {len(body)}\r\n{headers}") + body


CHUNKED = "Transfer-Encoding: chunked\r\n"


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Logged(Plugin):
    """What the log phase saw, per test."""

    name = "logged"
    priority = -1
    seen: ClassVar[list[tuple[int, str | None]]] = []

    def prepare(self) -> None:
        self.seen.clear()

    def log(self, ctx: Context) -> None:
        self.seen.append((ctx.status, ctx.response.header("x-filtered") if ctx.response_headers else None))


class Marks(Plugin):
    """A header filter and a body filter that leave their mark on every response, whoever gave it."""

    name = "marks"
    priority = 5

    def header_filter(self, ctx: Context) -> None:
        ctx.response.set_header("x-filtered", "yes")

    def body_filter(self, ctx: Context, piece: bytes, is_last: bool) -> bytes:
        return piece.upper() + (b"!" if is_last else b"")
