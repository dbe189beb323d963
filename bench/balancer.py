"""The balancers alone: what a pick costs, and what a change of nodes or of health does, by type and number of nodes.

Times are CPU, the best of `--rounds`. `pick_ns` is a request's usual pick (with its key where the type needs one, over
`KEYS` different ones); `done_ns` is pick and done together, where done is needed; `retry_ns` is a pick with one node
tried. `build_us` makes a balancer, `change_us` makes the next one when a node went down. `first_us` is the first pick
of a fresh balancer, and `longest_us` the longest of those that follow it (chash makes an arc of its ring at a time).
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from typing import Any

from bench.report import progress, save
from gw.balancer.base import Balancer, Weighted
from gw.balancer.build import TYPES, build_balancer
from gw.pipeline.upstream import NodeRuntime
from gw.upstream.target import Target

PICKS = 20_000
# Enough to fall on all arcs of a ring many times over.
KEYS = 1_000
# How many of the first picks are looked at one by one.
FIRST = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.balancer", description=__doc__)
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES))
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 3, 10, 100, 1_000])
    parser.add_argument("--weights", type=int, nargs="+", default=[1], help="taken in turn by the nodes")
    parser.add_argument("--rounds", type=int, default=5, help="the best of them counts (shared cores are noisy)")
    arguments = parser.parse_args()
    gc.disable()
    rows = []
    for type in arguments.types:
        for count in arguments.nodes:
            progress(f"{type}, {count} nodes")
            rows.append(_measure(type, count, arguments.weights, arguments.rounds))
    save("balancer", rows, rounds=arguments.rounds, weights=arguments.weights)


def _measure(type: str, count: int, weights: list[int], rounds: int) -> dict[str, Any]:
    nodes = [_node(number, weights[number % len(weights)]) for number in range(count)]
    chance = random.Random(7).random

    def build(after: Balancer[NodeRuntime] | None = None) -> Balancer[NodeRuntime]:
        return build_balancer(type, nodes if after is None else nodes[1:], chance=chance, after=after)

    balancer = build()
    keys = [b"user-%05d" % number for number in range(KEYS)] if balancer.needs_key else [b""]
    keys *= PICKS // len(keys)
    firsts = [_first_picks(build(), keys) for _ in range(rounds)]
    _pick_all(balancer, keys)
    done_ns = _best(rounds, lambda: _pick_and_end_all(balancer, keys)) / PICKS if balancer.needs_done else None
    return {
        "type": type,
        "nodes": count,
        "pick_ns": round(_best(rounds, lambda: _pick_all(balancer, keys)) / PICKS),
        "done_ns": "-" if done_ns is None else round(done_ns),
        "retry_ns": round(_best(rounds, lambda: _retry_all(balancer, keys[:1000], nodes[0].candidate)) / 1000),
        "build_us": _best(rounds, build) / 1000,
        "change_us": _best(rounds, lambda: build(balancer)) / 1000,
        "first_us": min(first for first, _ in firsts) / 1000,
        "longest_us": min(longest for _, longest in firsts) / 1000,
    }


def _node(number: int, weight: int) -> Weighted[NodeRuntime]:
    host = f"10.0.{number // 250}.{number % 250}"
    name = f"{host}:80".encode()
    return Weighted(NodeRuntime(Target(host, 80, None), name, name.decode()), weight, name)


def _best(rounds: int, work: Callable[[], object]) -> float:
    """CPU nanoseconds of the shortest of some rounds."""
    shortest = float("inf")
    for _ in range(rounds):
        began = time.thread_time_ns()
        work()
        shortest = min(shortest, time.thread_time_ns() - began)
    return shortest


def _first_picks(balancer: Balancer[NodeRuntime], keys: list[bytes]) -> tuple[float, float]:
    """The first pick, and the longest of the `FIRST` after it."""
    times = []
    for key in keys[: FIRST + 1]:
        began = time.thread_time_ns()
        balancer.pick(key)
        times.append(time.thread_time_ns() - began)
    return times[0], max(times[1:])


def _pick_all(balancer: Balancer[NodeRuntime], keys: list[bytes]) -> None:
    pick = balancer.pick
    for key in keys:
        pick(key)


def _pick_and_end_all(balancer: Balancer[NodeRuntime], keys: list[bytes]) -> None:
    at_s = 1000.0
    for key in keys:
        picked = balancer.pick(key)
        assert picked is not None
        at_s += 0.001
        balancer.done(picked, at_s - 0.01, at_s, True)


def _retry_all(balancer: Balancer[NodeRuntime], keys: list[bytes], tried: NodeRuntime) -> None:
    for key in keys:
        balancer.pick(key, (tried,))


if __name__ == "__main__":
    main()
