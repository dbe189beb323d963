"""What consumers cost a worker: memory, a change, who is found, and a request of one that brings plugins.

One process, no gateway: the state that workers hold, fed as by the change log. Times are CPU, the best of some rounds.
`taken in`: of one consumer among all the others; `first`: a look at a consumer that nobody asked for yet; `again`: at
one that was; `unknown`: a key that nobody has; `joined`: the step at which the plugins of a consumer come in, once they
were merged; `merged`: when they were not.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.report import progress, save
from gw.model.digest import content_hash, encode_resource
from gw.model.keys import ResourceKey
from gw.model.routing import route_key
from gw.pipeline.caller import attach
from gw.pipeline.conditions import compile_condition
from gw.pipeline.context import Context, Link, Request
from gw.plugins.api import Environment
from gw.plugins.key_auth import KeyAuth
from gw.plugins.registry import load_registry
from gw.rebuild.state import ConfigState
from gw.settings.tree import OWN_PLUGINS
from gw.shm.log import Change
from tests.support.plugin_edge import checked

ROUNDS = 5
CALLS = 1000
LINK = Link("http", "192.0.2.1", 50000, "192.0.2.254", 9080)
REWRITE = {"proxy-rewrite": checked("proxy-rewrite", {"headers": {"set": {"x-tier": "gold"}}})}
STEP = 1000


def change(kind: str, id: str, resource: dict[str, Any]) -> Change:
    key = ResourceKey(kind, id)
    blob = encode_resource(resource)
    return Change(key, content_hash(key, blob), blob, route_key(resource) if kind == "routes" else None)


def consumer(number: int) -> Change:
    plugins = {"key-auth": {"key": f"key-of-{number:07d}"}, **REWRITE}
    return change("consumers", f"c{number:07d}", {"username": f"c{number:07d}", "plugins": plugins})


def resident_mb() -> float:
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * 4096 / 2**20


def apply(state: ConfigState, changes: Sequence[Change]) -> float:
    """CPU seconds that it took."""
    began_s = time.process_time()
    for _ in state.update(changes):
        pass
    return time.process_time() - began_s


def context(key: str) -> Context:
    headers = [(b"host", b"a.example"), (b"user-agent", b"bench"), (b"apikey", key.encode())]
    return Context(Request("GET", b"/", b"", headers, LINK), 0.0)


def best_us(run: Callable[[int], Any], calls: int = CALLS) -> float:
    """CPU of one call in microseconds; it gets a number that never comes twice."""
    best, number = float("inf"), 0
    for _ in range(ROUNDS):
        began_s = time.process_time()
        for _ in range(calls):
            run(number)
            number += 1
        best = min(best, (time.process_time() - began_s) / calls)
    return best * 1e6


async def measure(count: int) -> dict[str, Any]:
    state = ConfigState("radixtree_host_uri")
    registry = load_registry(OWN_PLUGINS)
    env = Environment(asyncio.get_running_loop(), consumers=state)
    state.use_plugins(registry.maker(env), compile_condition, registry.credential_fields)
    plugins = {"key-auth": checked("key-auth", {})}
    route = {"uri": "/*", "plugins": plugins, "priority": 0, "status": 1}
    apply(state, [change("routes", "1", {**route, "upstream": _upstream()})])
    gc.collect()
    before_mb = resident_mb()
    taken_s = sum(apply(state, list(map(consumer, range(start, start + STEP)))) for start in range(0, count, STEP))
    gc.collect()
    held_mb = resident_mb() - before_mb

    find, auth = state.by_credential, KeyAuth(plugins["key-auth"], env, "routes/1")
    calls = min(CALLS, count // (2 * ROUNDS))
    first_us = best_us(lambda number: find("key-auth", f"key-of-{number:07d}"), calls)
    again_us = best_us(lambda _: find("key-auth", "key-of-0000001"))
    unknown_us = best_us(lambda _: find("key-auth", "nobody's-at-all"))
    rewrite_us = best_us(lambda _: auth.rewrite(context("key-of-0000001"))) - best_us(lambda _: context("x"))

    handle = state.find("/", "a.example", "GET", None)
    assert handle is not None
    base = handle.resolve()
    join = base.phases.request[-1].run

    def joined(number: int) -> None:
        caller = find("key-auth", f"key-of-{number:07d}")
        assert caller is not None
        ctx: Any = context("x")
        ctx.route, ctx._client = base, None
        attach(ctx, caller)
        join(ctx)

    merged_us = best_us(joined, calls)
    joined_us = best_us(lambda _: joined(1)) - best_us(lambda _: attach(context("x"), state.by_name("c0000001")))  # type: ignore[arg-type]
    return {
        "consumers": count,
        "memory_mb": held_mb,
        "bytes_each": held_mb * 2**20 / count,
        "taken_in_us": taken_s / count * 1e6,
        "first_us": first_us,
        "again_us": again_us,
        "unknown_us": unknown_us,
        "key_auth_us": rewrite_us,
        "joined_us": joined_us,
        "merged_us": merged_us,
    }


def _upstream() -> dict[str, Any]:
    node = {"host": "127.0.0.1", "port": 80, "weight": 1}
    return {"type": "roundrobin", "nodes": [node], "scheme": "http", "pass_host": "pass", "hash_on": "vars"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.consumers", description=__doc__)
    parser.add_argument("--consumers", type=int, nargs="+", default=[1000, 10_000, 100_000])
    rows = []
    for count in parser.parse_args().consumers:
        progress(f"{count} consumers")
        rows.append(asyncio.run(measure(count)))
    save("consumers", rows)


if __name__ == "__main__":
    main()
