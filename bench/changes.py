"""Which changes are made while a load runs: each one matters to the gateway, and none to the answers.

Most give a route another uri beside its own, or its upstream's node another weight. Every twentieth changes a service
and every twentieth an upstream; two in a hundred of the routes stand behind these. Each request of the load is answered
as before throughout, so that an answer other than 200 is an error of the gateway.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from bench.routeset import routes

# How many services there are, and how many upstreams.
PARENTS: Final = 10
_EVERY: Final = 20
# Routes that changes go to: many beside the changes of a block, few beside what a process should hold.
_CHANGED_ROUTES: Final = 2_000
_TIMEOUTS_S: Final = {"connect": 60, "send": 60, "read": 60}

Resource = tuple[str, dict[str, Any]]


def resources(count: int, nodes: dict[str, int]) -> Iterator[Resource]:
    """What the store holds: `count` routes, and the services and upstreams behind some of them."""
    for number in range(PARENTS):
        yield f"services/s{number}", {"upstream": _upstream(nodes)}
        yield f"upstreams/u{number}", _upstream(nodes)
    for number, route in enumerate(routes(count, nodes=nodes)):
        yield f"routes/{route['id']}", _placed(number, route)


def changeable(count: int, nodes: dict[str, int]) -> list[dict[str, Any]]:
    """The routes that changes go to, spread evenly over all kinds."""
    own = [route for number, route in enumerate(routes(count, nodes=nodes)) if "upstream" in _placed(number, route)]
    return random.Random(2).sample(own, min(len(own), _CHANGED_ROUTES))


def change(number: int, among: list[dict[str, Any]], nodes: dict[str, int]) -> Resource:
    """The change of this number: the key, and what it holds from now on."""
    if number % _EVERY == 7:
        parent = number // _EVERY % PARENTS
        return f"services/s{parent}", {"upstream": {**_upstream(nodes), "timeout": _timeouts(number)}}
    if number % _EVERY == 17:
        parent = number // _EVERY % PARENTS
        return f"upstreams/u{parent}", {**_upstream(nodes), "timeout": _timeouts(number)}
    route = dict(among[number % len(among)])
    if number % 2:
        uri = route.pop("uri")
        route["uris"] = [uri, f"/changed/{number}{uri}"]
    else:
        route["upstream"] = _upstream(dict.fromkeys(nodes, 2 + number % 97))
    return f"routes/{route['id']}", route


def _placed(number: int, route: dict[str, Any]) -> dict[str, Any]:
    """A route with its own upstream, or, one in a hundred each, behind a service or an upstream."""
    if number % 100 not in (41, 83):
        return route
    placed = {name: value for name, value in route.items() if name != "upstream"}
    parent = number // 100 % PARENTS
    return {**placed, "service_id": f"s{parent}"} if number % 100 == 41 else {**placed, "upstream_id": f"u{parent}"}


def _upstream(nodes: dict[str, int]) -> dict[str, Any]:
    return {"type": "roundrobin", "nodes": dict(nodes)}


def _timeouts(number: int) -> dict[str, int]:
    return {name: seconds + number % 89 for name, seconds in _TIMEOUTS_S.items()}
