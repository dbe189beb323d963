"""The routes that benchmarks measure with: the same ones each time, for a kind, a count and a seed.

Kinds: `exact` paths; `prefix` with 64 distinct lengths, a twentieth of them enclosing the others; `hosts`, all on one
path and told apart by host; `parameters` in the path; `mixed`, of them all in turn, a third of it with methods.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

KINDS = ("exact", "prefix", "hosts", "parameters", "mixed")
SEED = 20260101
# Lengths run from the shortest that holds service, version and number, to 63 more: above the 60 the targets name.
SHORTEST_PREFIX = 28
DISTINCT_LENGTHS = 64
# Routes that share the first segment, the first of which takes all that the others leave.
ROUTES_PER_SERVICE = 20
NODES = {"127.0.0.1:1980": 1}
_WORDS = [
    "users",
    "orders",
    "items",
    "carts",
    "price",
    "stock",
    "search",
    "login",
    "token",
    "media",
    "image",
    "report",
    "invoice",
    "audit",
    "batch",
]


def routes(
    count: int, kind: str = "mixed", *, seed: int = SEED, nodes: dict[str, int] | None = None
) -> Iterator[dict[str, Any]]:
    """`count` routes as APISIX writes them, ids included. `nodes`: of each route's own upstream."""
    chance = random.Random(seed)
    turn = ("prefix", "exact", "prefix", "hosts", "parameters")
    for number in range(count):
        own = turn[number % len(turn)] if kind == "mixed" else kind
        route: dict[str, Any] = {"id": f"r{number}", **_MAKERS[own](number, chance)}
        if kind == "mixed" and number % 3 == 0:
            route["methods"] = ["GET", "POST"]
        yield {**route, "upstream": {"type": "roundrobin", "nodes": dict(nodes or NODES)}}


def request_for(route: dict[str, Any], mode: str) -> tuple[str, str, str]:
    """(path, host, method) of a request that this route answers in a mode."""
    path: str = route["uri"]
    if mode == "radixtree_uri_with_parameter":
        path = "/".join("value" if segment.startswith(":") else segment for segment in path.split("/"))
    if path.endswith("*"):
        path = path[:-1] + "42"
    return path, route.get("hosts", ["api.example.com"])[0], "GET"


def _exact(number: int, chance: random.Random) -> dict[str, Any]:
    return {"uri": f"/{_service(number)}/{chance.choice(_WORDS)}/{number}/{chance.choice(_WORDS)}"}


def _prefix(number: int, chance: random.Random) -> dict[str, Any]:
    service = _service(number)
    if number % ROUTES_PER_SERVICE == 0:
        return {"uri": f"/{service}/*"}
    length = SHORTEST_PREFIX + number % DISTINCT_LENGTHS
    head = f"/{service}/v{chance.randint(1, 3)}/{number}/"
    while len(head) < length:
        head += chance.choice(_WORDS) + "/"
    return {"uri": head[:length] + "*"}


def _hosts(number: int, chance: random.Random) -> dict[str, Any]:
    return {"uri": "/shared/path", "hosts": [f"tenant-{number}.{chance.choice(_WORDS)}.example.com"]}


def _parameters(number: int, chance: random.Random) -> dict[str, Any]:
    return {"uri": f"/{_service(number)}/{chance.choice(_WORDS)}/:id/{chance.choice(_WORDS)}-{number}/:item"}


def _service(number: int) -> str:
    return f"service-{number // ROUTES_PER_SERVICE}"


_MAKERS = {"exact": _exact, "prefix": _prefix, "hosts": _hosts, "parameters": _parameters}
