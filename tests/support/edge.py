"""An edge on a loop of the test: our own protocol, or gunicorn's before `traffic_app`; a scripted upstream behind it.

Bytes on both sides are the test's: it writes a request, plays the upstream, and reads what came back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from gunicorn.config import Config

from gw.model.merge import Missing
from gw.model.route import Route
from gw.model.upstream import Upstream
from gw.pipeline.context import Context, Request
from gw.pipeline.gateway import Gateway
from gw.pipeline.path_view import PathView
from gw.pipeline.phases import NO_PHASES, Phases
from gw.pipeline.request_body import TO_MATCH_BYTES
from gw.pipeline.route import CompiledRoute, Routes, compile_route
from gw.pipeline.upstream import compile_upstream
from gw.server.asgi import traffic_app
from gw.server.client_pace import ClientTimes
from gw.server.draining import Connections
from gw.server.h1.connection import H1Connection
from gw.server.h1.request_head import HeadLimits
from gw.server.protocol import GatewayProtocol
from gw.upstream.client import UpstreamClient

PATIENCE_S = 30.0  # for what must happen; nothing waits for it when all is well


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on uvloop, as the workers do."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, 4 * PATIENCE_S))


def upstream_dict(port: int, **fields: Any) -> dict[str, Any]:
    """A validated upstream with one node on this host."""
    nodes = [{"host": "127.0.0.1", "port": port, "weight": 1}]
    return {"type": "roundrobin", "nodes": nodes, "scheme": "http", "pass_host": "pass", "hash_on": "vars", **fields}


def compiled(
    id: str, upstream: dict[str, Any] | Missing, phases: Phases = NO_PHASES, **fields: Any
) -> CompiledRoute:
    """A route to this upstream (`phases`: of its plugins; `fields`: of the route)."""
    route = Route.from_dict(id, {"uri": "/*", "priority": 0, "status": 1, **fields})
    settled = upstream if isinstance(upstream, Missing) else compile_upstream(Upstream.from_dict(upstream))
    return compile_route(route, settled, phases)


class StaticRoutes:
    """Routes by prefix, the longest first; and what was asked of it."""

    def __init__(self, routes: dict[str, CompiledRoute]) -> None:
        self._routes = sorted(routes.items(), key=lambda item: -len(item[0]))
        self.asked: list[tuple[str, str, str]] = []

    def find(self, path: str, host: str, method: str, ctx: Any) -> _Handle | None:
        self.asked.append((path, host, method))
        return next((_Handle(route) for prefix, route in self._routes if path.startswith(prefix)), None)

    def unmatched(self) -> Phases:
        return NO_PHASES


@dataclass
class _Handle:
    route: CompiledRoute
    params: dict[str, str] | None = None

    def resolve(self) -> CompiledRoute:
        return self.route


@dataclass
class Answer:
    """A response as the client saw it. `complete` False: it broke off."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    complete: bool = True
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    reason: str = ""

    def header(self, name: str) -> str | None:
        values = [value for each, value in self.headers if each == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class Wire:
    """One end of a TCP connection, for scripts. Every read has patience's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        """Everything to the first empty line."""
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)

    async def line(self) -> bytes:
        """Everything to the next CRLF, without it."""
        return (await asyncio.wait_for(self.reader.readuntil(b"\r\n"), PATIENCE_S))[:-2]

    async def chunked(self) -> tuple[bytes, list[bytes]]:
        """A chunked body, and the trailer lines behind it."""
        body, trailers = b"", []
        while size := int(await self.line(), 16):
            body += await self.exactly(size)
            assert await self.exactly(2) == b"\r\n"
        while line := await self.line():
            trailers.append(line)
        return body, trailers

    async def exactly(self, count: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(count), PATIENCE_S)

    async def rest(self) -> bytes:
        """Everything to the end of the connection, however it ends."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(self.reader.read(65536), PATIENCE_S):
                received += piece
        return bytes(received)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """Read one response, strictly."""
        interim: list[int] = []
        while True:
            lines = (await self.head()).decode("latin-1").split("\r\n")[:-2]
            version, status = lines[0].split(" ")[:2]
            assert version in ("HTTP/1.1", "HTTP/1.0")
            if status == "101" or not status.startswith("1"):
                break
            interim.append(int(status))
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        answer = Answer(int(status), headers, reason=lines[0].partition(" ")[2].partition(" ")[2], interim=interim)
        try:
            answer.body = b"" if to_head or answer.status in (204, 304) else await self._body(answer)
        except asyncio.IncompleteReadError as error:
            answer.body, answer.complete = error.partial, False
        return answer

    async def _body(self, answer: Answer) -> bytes:
        length = answer.header("content-length")
        if length is not None:
            return await self.exactly(int(length))
        if answer.header("transfer-encoding") != "chunked":
            return await self.rest()
        body = b""
        try:
            while size := int(await self.line(), 16):
                body += await self.exactly(size)
                assert await self.exactly(2) == b"\r\n"
            while trailer := await self.line():
                name, _, value = trailer.decode("latin-1").partition(":")
                answer.trailers.append((name.lower(), value.strip()))
        except asyncio.IncompleteReadError as error:
            raise asyncio.IncompleteReadError(body + error.partial, None) from None
        return body

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()

    def reset(self) -> None:
        """Leave so that the other side sees an error at once, and not an end that may be half a one."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


@dataclass
class ScriptedUpstream:
    """A server on this host. `accept` hands a connection to the test; with a script, each plays it instead."""

    port: int
    script: Script | None
    connections: int = 0
    _accepted: asyncio.Queue[Wire] = field(default_factory=asyncio.Queue)
    _wires: list[Wire] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        wire = Wire(reader, writer)
        self._wires.append(wire)
        if self.script is None:
            self._accepted.put_nowait(wire)
            return
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.script(wire)

    async def accept(self) -> Wire:
        return await asyncio.wait_for(self._accepted.get(), PATIENCE_S)

    def abort_all(self) -> None:
        for wire in self._wires:
            wire.abort()


@contextlib.asynccontextmanager
async def scripted_upstream(
    script: Script | None = None, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream(0, script)
    server = await asyncio.start_server(upstream.serve, host, 0, ssl=tls)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        upstream.abort_all()
        server.close()
        await asyncio.sleep(0.01)  # transports close in the loop's next turns; a wait_closed may wait for ever in 3.11


def replying(raw: bytes, *, close: bool = False) -> Script:
    """A script: answer every request (without a body) of a connection with these bytes."""

    async def play(wire: Wire) -> None:
        while True:
            await wire.head()
            wire.send(raw)
            if close:
                wire.close()
                return

    return play


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Worker:
    """What ASGIProtocol needs of its worker."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.cfg = Config()
        self.cfg.set("asgi_disconnect_grace_period", 0)
        self.cfg.set("keepalive", 30)
        self.cfg.set("forwarded_allow_ips", "")  # as ours: gunicorn takes the scheme from nobody's headers
        self.cfg.set("header_map", "dangerous")  # as ours: names with underscores are ours to judge
        self.log: Any = logging.getLogger("tests.edge.gunicorn")
        self.log.access_log_enabled = False
        self.asgi = app
        self.loop = loop
        self.nr_conns = 0
        self.nr = 0
        self.max_requests = sys.maxsize
        self.alive = True


class Edge:
    """The running edge: `connect` to it, look at `upstreams` and `routes`."""

    def __init__(self, port: int, routes: Any, upstreams: UpstreamClient, connections: Connections) -> None:
        self.port = port
        self.routes = routes
        self.upstreams = upstreams
        self.connections = connections
        self._wires: list[Wire] = []

    async def connect(self) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port))
        self._wires.append(wire)
        return wire

    async def ask(self, request: bytes) -> Answer:
        """Send one request on a connection of its own, and read the answer."""
        wire = await self.connect()
        wire.send(request)
        answer = await wire.answer(to_head=request.startswith(b"HEAD "))
        wire.close()
        return answer

    def abort_all(self) -> None:
        for wire in self._wires:
            wire.abort()


# Which edge a test runs against that does not say: set by the fixture of tests/conftest.py.
chosen: ContextVar[str] = ContextVar("edge", default="asgi")
LIMITS = HeadLimits(line_bytes=8190, fields=100, field_bytes=8190, head_bytes=32 * 1024)
TIMES = ClientTimes(header_s=30, body_s=30, idle_s=30, send_s=30)


@contextlib.asynccontextmanager
async def edge(
    routes: dict[str, CompiledRoute] | Routes,
    *,
    max_body_bytes: int = 0,
    max_body_to_match_bytes: int = TO_MATCH_BYTES,
    path_view: PathView | None = None,
    trusted_certificates: Path | None = None,
    times: ClientTimes = TIMES,
    limits: HeadLimits = LIMITS,
    ended: list[Context] | None = None,
    locate: Callable[[Request], None] | None = None,
    shows_every_status: bool = False,
) -> AsyncIterator[Edge]:
    """`routes` by prefix, or all that a worker knows of them. `ended`: gets each exchange when it is over."""
    loop = asyncio.get_running_loop()
    upstreams = UpstreamClient(loop, trusted_certificates)
    table = StaticRoutes(routes) if isinstance(routes, dict) else routes
    on_ended = None if ended is None else ended.append
    gateway = Gateway(
        table,
        upstreams,
        server_name="Jitterway/0.1.0",
        max_body_bytes=max_body_bytes,
        max_body_to_match_bytes=max_body_to_match_bytes,
        path_view=path_view,
        on_ended=on_ended,
        locate=locate,
        shows_every_status=shows_every_status,
    )
    connections = Connections()
    worker = Worker(traffic_app(gateway), loop)

    def protocol() -> asyncio.Protocol:
        if chosen.get() == "h1":
            return H1Connection(gateway, connections, limits, times)
        return GatewayProtocol(worker, worker.asgi, connections, times)

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    running = Edge(server.sockets[0].getsockname()[1], table, upstreams, connections)
    try:
        yield running
    finally:
        running.abort_all()
        server.close()
        connections.abort()
        await gateway.close()
        await upstreams.close()
        await eventually(lambda: worker.nr_conns == 0 and len(connections) == 0)


@contextlib.asynccontextmanager
async def proxy(
    script: Script | None = None,
    *,
    max_body_bytes: int = 0,
    times: ClientTimes = TIMES,
    limits: HeadLimits = LIMITS,
    route: dict[str, Any] | None = None,
    **fields: Any,
) -> AsyncIterator[tuple[Edge, ScriptedUpstream]]:
    """An edge with one route, everything to one scripted upstream (`fields`: of the upstream resource)."""
    async with scripted_upstream(script) as upstream:
        routes = {"/": compiled("1", upstream_dict(upstream.port, **fields), **(route or {}))}
        async with edge(routes, max_body_bytes=max_body_bytes, times=times, limits=limits) as running:
            yield running, upstream


async def asked(running: Edge, upstream: ScriptedUpstream, request: bytes | None = None) -> tuple[Wire, Wire]:
    """A client's connection, and the upstream's, which has got the head of its request (a GET, if nothing else)."""
    client = await running.connect()
    client.send(get() if request is None else request)
    wire = await upstream.accept()
    await wire.head()
    return client, wire


async def connections_used_once(running: Edge, upstream: ScriptedUpstream) -> tuple[Wire, Wire]:
    """Both after one request that left them idle."""
    client, wire = await asked(running, upstream)
    wire.send(OK)
    await client.answer()
    return client, wire


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port that answers no further SYN: nobody accepts what waits there."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port that nobody listens on, nor can: it is bound."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def small_client(running: Edge) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client whose kernel takes little for it, and which reads when it is told to."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", running.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    return reader, writer


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so, with patience's end."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


def get(path: str = "/", *, version: str = "1.1", headers: str = "", method: str = "GET") -> bytes:
    """A request without a body. `headers`: lines, each ended with CRLF."""
    return f"{method} {path} HTTP/{version}\r\nHost: example.com\r\n{headers}\r\n".encode("latin-1")


def fields_of(head: bytes) -> list[tuple[str, str]]:
    """Header fields of a request as an upstream got it, names in lower case."""
    lines = head.decode("latin-1").split("\r\n")[1:-2]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
