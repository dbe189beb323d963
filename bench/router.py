"""The router alone: what it costs to build, to change one route, and to match, by mode, kind and number of routes.

Times are CPU. Requests are spread over all routes in random order, so at 100,000 most of the time is memory that is
not in the cache; `build` is one insert after the other with the cyclic collector off, as a worker does it; `change`
is a replace of a route by itself. Falcon's own router is measured on the kinds it knows, as far as it compiles in
reasonable time; it matches no hosts, methods or priorities.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import progress, save
from bench.routeset import KINDS, request_for, routes
from gw.model.routing import route_key
from gw.router import MODES, build_router

# Enough for the timer's grain to vanish, few enough for many combinations.
REQUESTS = 100_000
CHANGES = 2_000
# Falcon writes its router as Python source and compiles it: quadratic, minutes beyond this.
FALCON_ROUTES = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.router", description=__doc__)
    parser.add_argument("--routes", type=int, nargs="+", default=[1, 1_000, 10_000, 100_000])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=5, help="the best of them counts (shared cores are noisy)")
    parser.add_argument("--no-falcon", action="store_true", help="leave falcon's router out")
    arguments = parser.parse_args()
    rows = []
    for kind in arguments.kinds:
        for count in arguments.routes:
            for mode in arguments.modes:
                progress(f"{kind}, {count} routes, {mode}")
                rows.append(_measure_ours(kind, count, mode, arguments.rounds))
            if not arguments.no_falcon and kind in ("exact", "parameters") and count <= FALCON_ROUTES:
                progress(f"{kind}, {count} routes, falcon")
                rows.append(_measure_falcon(kind, count, arguments.rounds))
    save("router", rows, rounds=arguments.rounds)


def _measure_ours(kind: str, count: int, mode: str, rounds: int) -> dict[str, Any]:
    wanted = list(routes(count, kind))
    keys = [(route["id"], route_key(route), tuple(route.get("hosts", ()))) for route in wanted]
    requests = _spread([request_for(route, mode) for route in wanted])
    gc.collect()
    gc.disable()
    before_mb, began_s = _resident_mb(), time.process_time()
    router = build_router(mode)
    for id, key, hosts in keys:
        router.insert(id, key, hosts, None)
    build_s, memory_mb = time.process_time() - began_s, _resident_mb() - before_mb
    began_s = time.process_time()
    for number in range(CHANGES):
        id, key, hosts = keys[number * 7919 % count]
        router.insert(id, key, hosts, None)
    change_us = (time.process_time() - began_s) / CHANGES * 1e6
    match = router.match
    match_us = _best_us(
        rounds, requests, lambda: [None for path, host, method in requests if match(path, host, method) is None]
    )
    gc.enable()
    unmatched = sum(match(*request) is None for request in requests)
    return _row(kind, count, mode, build_s, match_us, memory_mb, unmatched, change_us)


def _measure_falcon(kind: str, count: int, rounds: int) -> dict[str, Any]:
    from falcon.routing import CompiledRouter

    class Resource:
        def on_get(self, request: object, response: object, **parameters: str) -> None: ...

    wanted = list(routes(count, kind))
    requests = _spread([request_for(route, "radixtree_uri_with_parameter") for route in wanted])
    before_mb, began_s = _resident_mb(), time.process_time()
    router, resource = CompiledRouter(), Resource()
    for route in wanted:
        router.add_route(route["uri"].replace(":id", "{id}").replace(":item", "{item}"), resource)
    router.find(requests[0][0])  # compiles
    build_s, memory_mb = time.process_time() - began_s, _resident_mb() - before_mb
    find = router.find
    match_us = _best_us(rounds, requests, lambda: [None for path, _, _ in requests if find(path) is None])
    unmatched = sum(find(path) is None for path, _, _ in requests)
    return _row(kind, count, "falcon", build_s, match_us, memory_mb, unmatched, None)


def _row(
    kind: str,
    count: int,
    router: str,
    build_s: float,
    match_us: float,
    memory_mb: float,
    unmatched: int,
    change_us: float | None,
) -> dict[str, Any]:
    return {
        "kind": kind,
        "routes": count,
        "router": router,
        "build_s": build_s,
        "change_us": "-" if change_us is None else change_us,
        "match_us": match_us,
        "matches_per_s": int(1e6 / match_us),
        "memory_mb": memory_mb,
        "unmatched": unmatched,
    }


def _spread(requests: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """As many requests as are measured, all routes equally often, in an order that favours no cache."""
    times = -(-REQUESTS // len(requests))
    spread = (requests * times)[:REQUESTS]
    random.Random(1).shuffle(spread)
    return spread


def _best_us(rounds: int, requests: list[Any], run: Callable[[], object]) -> float:
    best_s = float("inf")
    for _ in range(rounds):
        began_s = time.process_time()
        run()
        best_s = min(best_s, time.process_time() - began_s)
    return best_s / len(requests) * 1e6


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
