"""What one proxied request costs in our own code, without sockets and loop: bytes in, bytes out, both sides in memory.

The client's connection, the exchange and the upstream's connection are the real ones; the transports only take what is
written. So it shows what a change of the request path gains or costs with little noise: the least of many rounds. On
the ASGI edge a request needs turns of the loop, for its task: they are in the figure, and the bench's own beside them.
`fields` says whether the client's fields and the upstream's head are those of the request before, as they mostly are
(gw.pipeline.repeated), or new each time. `--profile` prints where the time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import socket
import time
from collections.abc import Awaitable
from typing import Any, cast

import uvloop

from bench.report import save
from gw.model.route import Route
from gw.model.upstream import Upstream
from gw.pipeline.gateway import Gateway
from gw.pipeline.phases import NO_PHASES, Phases
from gw.pipeline.route import CompiledRoute, compile_route
from gw.pipeline.upstream import compile_upstream
from gw.server.asgi import traffic_app
from gw.server.client_pace import ClientTimes
from gw.server.draining import Connections
from gw.server.h1.connection import H1Connection
from gw.server.h1.request_head import HeadLimits
from gw.server.protocol import GatewayProtocol
from gw.upstream.client import UpstreamClient
from gw.upstream.connection import UpstreamConnection
from tests.support.edge import Worker

REQUESTS = {
    "wrk": b"GET /bench HTTP/1.1\r\nHost: 127.0.0.1:9080\r\n\r\n",
    "browser": b"GET /a/b?x=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) x\r\n"
    b"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\nReferer: http://www.example.com/\r\n\r\n",
    "post": b"POST /bench HTTP/1.1\r\nHost: 127.0.0.1:9080\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024,
}
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sat, 21 Nov 2026 13:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 1024\r\nConnection: keep-alive\r\n\r\n" + b"x" * 1024
)
ROUNDS = 15


class _Transport:
    """Takes what is written."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_extra_info(self, name: str) -> Any:
        return {"socket": self._socket, "peername": ("192.0.2.1", 40000), "sockname": ("192.0.2.2", 9080)}.get(name)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class _Routes:
    def __init__(self, route: CompiledRoute) -> None:
        self._route = route
        self.params = None

    def find(self, path: str, host: str, method: str, ctx: Any) -> Any:
        return self

    def resolve(self) -> CompiledRoute:
        return self._route

    def unmatched(self) -> Phases:
        return NO_PHASES


async def measure(rows: list[dict[str, Any]], edge: str, *, profile: bool) -> None:
    loop = asyncio.get_running_loop()
    upstreams = UpstreamClient(loop)
    fields = {"type": "roundrobin", "scheme": "http", "pass_host": "pass", "hash_on": "vars"}
    upstream = compile_upstream(Upstream.from_dict({**fields, "nodes": {"127.0.0.1:80": 1}}))
    route = compile_route(Route.from_dict("1", {"uri": "/*", "priority": 0, "status": 1}), upstream)
    gateway = Gateway(cast(Any, _Routes(route)), upstreams, server_name="Jitterway/0")
    gateway.counters.write_behind(loop.call_later)  # as in a worker
    near, far = socket.socketpair()
    client = _Transport(near)
    limits, times = HeadLimits(8190, 100, 8190, 32768), ClientTimes(60, 60, 60, 60)
    connection: H1Connection | GatewayProtocol
    if edge == "h1":
        connection = H1Connection(gateway, Connections(), limits, times)
    else:
        app = traffic_app(gateway)
        connection = GatewayProtocol(Worker(app, loop), app, Connections(), times)
    connection.connection_made(cast(Any, client))
    target = upstream.target(next(iter(upstream._candidates.values())).candidate, b"x")
    behind = UpstreamConnection(loop, target, upstreams)
    transport = _Transport(near)
    behind.connection_made(cast(Any, transport))
    upstreams.connection_idle(behind, 320)

    async def requests(pairs: list[tuple[bytes, bytes]], count: int) -> None:
        for _ in range(count // len(pairs)):
            for request, response in pairs:
                connection.data_received(request)
                while not transport.written:
                    await asyncio.sleep(0)
                behind.data_received(response)
                behind._requests = 1  # never worn out
                while not client.written:
                    await asyncio.sleep(0)
                transport.written.clear()
                client.written.clear()

    for name, request in REQUESTS.items():
        for fields, pairs in (("repeated", [(request, RESPONSE)]), ("new", _varied(request, RESPONSE))):
            await requests(pairs, 2000)
            best = min([await _timed(requests(pairs, 4000)) for _ in range(ROUNDS)])
            rows.append({"edge": edge, "request": name, "fields": fields, "us_per_request": best / 4000 * 1e6})
            if profile:
                profiler = cProfile.Profile()
                with profiler:
                    await requests(pairs, 20_000)
                pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
    near.close()
    far.close()


def _varied(request: bytes, response: bytes) -> list[tuple[bytes, bytes]]:
    """The same twice, with one letter of a name in another case: nothing is what it was a request ago."""
    return [
        (request.replace(b"Host:", host), response.replace(b"Server:", server))
        for host, server in ((b"Host:", b"Server:"), (b"host:", b"server:"))
    ]


async def _timed(run: Awaitable[None]) -> float:
    started = time.process_time()
    await run
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.request_path", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="print the functions that take the time")
    parser.add_argument("--edge", choices=("h1", "asgi"), default="h1")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(rows, arguments.edge, profile=arguments.profile))
    save("request_path", rows)


if __name__ == "__main__":
    main()
