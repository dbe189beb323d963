"""The router alone: what it costs to build, to change one route, and to match, by mode, kind and number of routes.

Times are CPU. Requests are spread over all routes in random order, so at 100,000 most of the time is memory that is
not in the cache; `build` is one insert after the other with the cyclic collector off, as a worker does it; `change`
is a replace of a route by itself. Each row is measured in a process of its own.

Beside them the routers of other frameworks (bench/rivals.py), on the kinds they can express. They get so many seconds
to build and as many to match; `note` says how far they got. `unmatched` counts what found no route, for a rival also
what found another one.
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

from bench.isolated import in_child
from bench.plot import figure
from bench.report import progress, save
from bench.rivals import RIVALS, in_order_of_precedence
from bench.routeset import KINDS, request_for, routes
from gw.model.routing import route_key
from gw.router import MODES, build_router

# Enough for the timer's grain to vanish, few enough for many combinations.
REQUESTS = 100_000
CHANGES = 2_000
# Falcon writes its router as Python source and compiles it: quadratic, minutes beyond this, and nothing stops it.
FALCON_ROUTES = 10_000
# How often a rival's clock is looked at.
ADDED_AT_ONCE, MATCHED_AT_ONCE = 100, 20


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.router", description=__doc__)
    parser.add_argument("--routes", type=int, nargs="+", default=[1, 1_000, 10_000, 100_000])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=5, help="the best of them counts (shared cores are noisy)")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=list(RIVALS), help="which (none: --rivals)")
    parser.add_argument(
        "--rival-seconds", type=float, default=2, help="a rival's time to build, and again to match (default 2)"
    )
    parser.add_argument("--quick", action="store_true", help="up to 1,000 routes, one round: does it run?")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.routes, arguments.rounds, arguments.rival_seconds = [1, 1_000], 1, 1
    rows = []
    for kind in arguments.kinds:
        for count in arguments.routes:
            for mode in arguments.modes:
                progress(f"{kind}, {count} routes, {mode}")
                rows.append(in_child(_measure_ours, kind, count, mode, arguments.rounds))
            for name in arguments.rivals:
                if kind in RIVALS[name]().kinds and (name != "falcon" or count <= FALCON_ROUTES):
                    progress(f"{kind}, {count} routes, {name}")
                    rows.append(in_child(_measure_rival, kind, count, name, arguments.rival_seconds))
    save("router", rows, rounds=arguments.rounds, rival_seconds=arguments.rival_seconds)
    _plot(rows)


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


def _measure_rival(kind: str, count: int, name: str, seconds: float) -> dict[str, Any]:
    wanted = in_order_of_precedence(routes(count, kind))
    RIVALS[name]()  # imports it
    gc.collect()
    gc.disable()
    before_mb, began_s = _resident_mb(), time.process_time()
    rival = RIVALS[name]()
    added = 0
    while added < count and time.process_time() - began_s < seconds:
        for route in wanted[added : added + ADDED_AT_ONCE]:
            rival.add(route)
        added = min(count, added + ADDED_AT_ONCE)
    rival.ready()
    build_s, memory_mb = time.process_time() - began_s, _resident_mb() - before_mb
    # Of what it holds: the rest would only be found missing.
    asked = [(request_for(route, "radixtree_uri_with_parameter"), route["id"]) for route in wanted[:added]]
    random.Random(1).shuffle(asked)
    matched = wrong = 0
    began_s = time.process_time()
    while matched < REQUESTS and time.process_time() - began_s < seconds:
        for place in range(matched, matched + MATCHED_AT_ONCE):
            request, id = asked[place % len(asked)]
            wrong += rival.match(*request) != id
        matched += MATCHED_AT_ONCE
    took_s = time.process_time() - began_s
    gc.enable()
    note = "" if added == count else f"built {added} in {build_s:.1f} s"
    row = _row(kind, count, name, build_s, took_s / matched * 1e6, memory_mb, wrong, None)
    return {**row, "note": note or (f"matched {matched}" if matched < REQUESTS else "")}


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
        "note": "",
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


def _plot(rows: list[dict[str, Any]]) -> None:
    """A picture for each kind: matches a second by number of routes, without rivals that did not build them all."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    routers = list(dict.fromkeys(row["router"] for row in rows))
    with figure("router", columns=len(kinds), height=0.9) as drawn:
        for kind, axes in zip(kinds, [drawn] if len(kinds) == 1 else drawn, strict=True):
            for number, router in enumerate(routers):
                own = [row for row in rows if (row["kind"], row["router"]) == (kind, router)]
                own = [row for row in own if not row["note"].startswith("built")]
                counts, rates = [row["routes"] for row in own], [row["matches_per_s"] for row in own]
                axes.plot(counts, rates, "-o", markersize=3, color=f"C{number}", label=router)
            axes.set_title(kind, fontsize="medium")
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel("routes")
            axes.grid(alpha=0.3)
        first = drawn if len(kinds) == 1 else drawn[0]
        first.set_ylabel("matches per second of CPU")
        first.legend(fontsize="xx-small")


if __name__ == "__main__":
    main()
