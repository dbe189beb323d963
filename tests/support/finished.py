"""Requests that are over, as logs and variables see them: built without a gateway, for what reads a Context alone."""

from __future__ import annotations

from typing import Any

from gw.model.upstream import Upstream
from gw.pipeline.context import Attempt, Context, Link, Request
from gw.pipeline.headers import admit
from gw.pipeline.route import CompiledRoute
from gw.pipeline.upstream import UpstreamRuntime, compile_upstream
from gw.upstream.target import Timeouts

Pairs = list[tuple[bytes, bytes]]

STARTED_S = 100.0
HEADERS: Pairs = [
    (b"host", b"Gateway.example:9080"),
    (b"user-agent", b"curl/8.5.0"),
    (b"accept", b"*/*"),
    (b"referer", b"http://a.example/x"),
]
RESPONSE_HEADERS: Pairs = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
UPSTREAM = {
    "type": "roundrobin",
    "nodes": {"10.0.0.1:80": 1},
    "scheme": "http",
    "pass_host": "pass",
    "hash_on": "vars",
}


class SteadyClock:
    """A clock that is moved by hand."""

    def __init__(self, wall_s: float = 1_700_000_000.25, monotonic_s: float = STARTED_S + 0.5) -> None:
        self.wall_s = wall_s
        self.monotonic_s = monotonic_s

    def monotonic(self) -> float:
        return self.monotonic_s

    def wall(self) -> float:
        return self.wall_s

    def cpu(self) -> float:
        return 0.0


def request(headers: Pairs = HEADERS, *, admitted: bool = True, **more: Any) -> Request:
    facts: dict[str, Any] = {"target": b"/a/../b%20c", "query": b"x=1&y=a%20b&x=2", "connection_requests": 3, **more}
    link = Link("http", facts.pop("peer", "192.0.2.1"), 51000, "192.0.2.254", 9080)
    made = Request(
        facts.pop("method", "GET"), facts.pop("target"), facts.pop("query"), list(headers), link, **facts
    )
    if admitted:
        # Without a Host only HTTP/1.0 is admitted; what is shown of the version stays as asked for.
        made.http_version, version = "1.0", made.http_version
        admit(made)
        made.http_version = version
    return made


def upstream(scheme: str = "http") -> UpstreamRuntime:
    return compile_upstream(Upstream.from_dict({**UPSTREAM, "scheme": scheme}))


def attempt(
    address: str = "10.0.0.1:80",
    status: int = 200,
    *,
    connect_s: float | None = 0.001,
    header_s: float | None = 0.002,
    response_s: float | None = 0.003,
    tls: bool = False,
) -> Attempt:
    node = upstream("https" if tls else "http").pick(Context(request(), STARTED_S))
    made = Attempt(address, node, STARTED_S)
    made.status = status
    made.connected_s = 0.0 if connect_s is None else STARTED_S + connect_s
    made.head_s = 0.0 if header_s is None else STARTED_S + header_s
    made.ended_s = 0.0 if response_s is None else STARTED_S + response_s
    return made


def finished(of: Request | None = None, *attempts: Attempt, status: int = 200) -> Context:
    """A request that was answered; without `attempts` by one that went well."""
    ctx = Context(request() if of is None else of, STARTED_S)
    ctx.ended_s = STARTED_S + 0.0042
    ctx.status = status
    ctx.received_bytes, ctx.sent_bytes, ctx.body_sent_bytes = 120, 350, 200
    ctx.attempts = attempts or (attempt(),)
    ctx.response_headers = list(RESPONSE_HEADERS)
    ctx.route = CompiledRoute("r1", upstream(), Timeouts(1, 1, 1), name="orders", service_id="s1", service_name="shop")
    return ctx
