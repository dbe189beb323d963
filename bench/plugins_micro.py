"""What request-id, proxy-rewrite and response-rewrite cost a request: their phases alone, without a gateway.

CPU of the calls with a context of their own each, the best of some rounds. `before`: the phases before the upstream is
asked; `after`: those of the response. What the pipeline adds once plugins are there (headers read a second time, a
filter between upstream and client) is in bench/proxy.py.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import time
from collections.abc import Callable
from typing import Any

from bench.access_log import BROWSER
from bench.report import save
from gw.pipeline.conditions import compile_condition
from gw.pipeline.context import Context
from gw.pipeline.phases import Phases
from gw.plugins.proxy_rewrite import ProxyRewrite
from gw.plugins.request_id import RequestId
from gw.plugins.response_rewrite import ResponseRewrite
from tests.support.finished import finished, request
from tests.support.plugin_edge import instance, phases

BODY = json.dumps([{"id": number, "host": "inner.example", "name": f"item {number}"} for number in range(200)]).encode()
HELLO = [{"regex": "inner\\.example", "replace": "outer", "scope": "global"}]
ONCE = [{"regex": "inner\\.example", "replace": "outer"}]
GZIP_MAGIC = b"\x1f\x8b"
ROUNDS = 5
CALLS = 300

CASES: list[tuple[str, Any, dict[str, Any], bytes]] = [
    ("request-id: uuid", RequestId, {}, b""),
    ("request-id: uuid, not in the response", RequestId, {"include_in_response": False}, b""),
    ("request-id: nanoid", RequestId, {"algorithm": "nanoid"}, b""),
    ("request-id: range_id of 16", RequestId, {"algorithm": "range_id"}, b""),
    ("request-id: ksuid", RequestId, {"algorithm": "ksuid"}, b""),
    ("request-id: the client's own", RequestId, {"header_name": "X-Trace"}, b""),
    ("proxy-rewrite: uri", ProxyRewrite, {"uri": "/new"}, b""),
    ("proxy-rewrite: uri with a variable", ProxyRewrite, {"uri": "/new/$arg_x"}, b""),
    ("proxy-rewrite: regex_uri", ProxyRewrite, {"regex_uri": ["^/api/(.*)/(.*)", "/$1-$2"]}, b""),
    ("proxy-rewrite: host, method", ProxyRewrite, {"host": "a.example", "method": "POST"}, b""),
    ("proxy-rewrite: headers, constant", ProxyRewrite, {"headers": {"set": {"X-A": "1"}, "remove": ["X-B"]}}, b""),
    ("proxy-rewrite: headers, a variable", ProxyRewrite, {"headers": {"set": {"X-A": "$remote_addr"}}}, b""),
    ("response-rewrite: status", ResponseRewrite, {"status_code": 201}, b""),
    ("response-rewrite: headers, constant", ResponseRewrite, {"headers": {"set": {"X-A": "1"}}}, b""),
    ("response-rewrite: vars do not hold", ResponseRewrite, {"status_code": 201, "vars": [["status", "==", 404]]}, b""),
    ("response-rewrite: body", ResponseRewrite, {"body": "new"}, BODY),
    ("response-rewrite: a filter, once, 11 KB", ResponseRewrite, {"filters": ONCE}, BODY),
    ("response-rewrite: a filter, 200 places, 11 KB", ResponseRewrite, {"filters": HELLO}, BODY),
    ("response-rewrite: the same, gzip", ResponseRewrite, {"filters": HELLO}, gzip.compress(BODY)),
]
CONDITIONS = {
    "condition: status == 200": [["status", "==", 200]],
    "condition: arg_x == 1 and a pattern": [["arg_x", "==", "1"], ["http_user_agent", "~~", "^Moz"]],
    "condition: remote_addr ipmatch 2 blocks": [["remote_addr", "ipmatch", ["10.0.0.0/8", "192.0.2.0/24"]]],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plugins_micro", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="the best of them counts (shared cores are noisy)")
    arguments = parser.parse_args()
    rows = asyncio.run(_plugins(arguments.rounds))
    for name, expression in CONDITIONS.items():
        holds = compile_condition(expression)
        rows.append({"what": name, "before_us": _best(holds, arguments.rounds), "after_us": 0.0})
    save("plugins_micro", rows, calls=CALLS)


async def _plugins(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, plugin, conf, body in CASES:
        settled = phases(instance(plugin, conf))
        before = _best(lambda ctx, settled=settled: _before(settled, ctx), rounds)
        after = _best(
            lambda ctx, settled=settled, body=body: _after(settled, ctx, body),
            rounds,
            lambda ctx, settled=settled: _before(settled, ctx),
        )
        rows.append({"what": name, "before_us": before, "after_us": after})
    return rows


def _before(settled: Phases, ctx: Context) -> None:
    for step in settled.request:
        step.run(ctx)


def _after(settled: Phases, ctx: Context, body: bytes) -> None:
    if body.startswith(GZIP_MAGIC):
        ctx.response_headers.append((b"content-encoding", b"gzip"))
    for step in settled.header_filter:
        step.run(ctx)
    for step in settled.body_filter:
        step.run(ctx, body, False)
        step.run(ctx, b"", True)


def _best(run: Callable[[Context], Any], rounds: int, first: Callable[[Context], Any] | None = None) -> float:
    best = float("inf")
    for _ in range(rounds):
        contexts = [_context(number) for number in range(CALLS)]
        for ctx in contexts if first is not None else ():
            first(ctx)
        begun = time.thread_time()
        for ctx in contexts:
            run(ctx)
        spent = time.thread_time() - begun
        begun = time.thread_time()
        for _ in contexts:
            pass
        best = min(best, (spent - (time.thread_time() - begun)) / CALLS * 1e6)
    return max(best, 0.0)


def _context(number: int) -> Context:
    headers = [pair for pair in BROWSER if pair[0] != b"x-request-id"] + [(b"x-trace", b"0123456789abcdef")]
    return finished(request(headers, target=b"/api/books/%d" % number, query=b"x=1&y=2"))


if __name__ == "__main__":
    main()
