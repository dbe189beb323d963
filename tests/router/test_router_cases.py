"""The sequences of shared/cases/router.json, which state what a matcher with APISIX's semantics answers.

What the index leaves to its callers (remote addresses, vars, filter functions) is asked as a worker asks it. The file
is beside the repository, not in it; without it these tests are skipped.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gw.expr import compile_expression
from gw.pipeline.conditions import address_set
from gw.pipeline.path import host_name
from gw.router import RouterIndex, build_router
from gw.schema.expressions import expression_complaint
from tests.router.naive import routing_key

FILE = Path(__file__).parents[3] / "shared" / "cases" / "router.json"
# The request that such a query was made from: GET /t?k=v, to this server.
LIVE = {"arg_k": "v", "host": "localhost", "server_port": "1984"}

Route = dict[str, Any]


def load_queries() -> list[Any]:
    if not FILE.exists():
        return [pytest.param(None, 0, marks=pytest.mark.skip(reason=f"{FILE} is not there"))]
    sequences = json.loads(FILE.read_text())
    return [
        pytest.param(sequence["steps"], number, id=f"{sequence['source']}-{number}")
        for sequence in sequences
        for number, step in enumerate(sequence["steps"])
        if step["op"] in ("match", "dispatch")
    ]


def as_list(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


class Tree:
    """One tree of a sequence: routes get their ids by order of creation, as a fresh etcd would list them."""

    def __init__(self, options: dict[str, Any]) -> None:
        mode = "radixtree_uri" if options.get("no_param_match") else "radixtree_uri_with_parameter"
        self.router: RouterIndex[Route] = build_router(mode, fits)
        self.routes: dict[str, Route] = {}
        self.created = 0

    def put(self, route: Route, id: str | None = None) -> None:
        route = {**route, "index": self.created}
        id = id or f"{self.created:03d}"
        self.created += 1
        self.routes[id] = route
        asks = any(route.get(name) for name in ("remote_addrs", "vars", "has_filter"))
        key = routing_key(as_list(route["paths"]), as_list(route.get("methods")), route.get("priority", 0), 1, asks)
        self.router.insert(id, key, as_list(route.get("hosts")), route)

    def id_of(self, route: Route) -> str:
        return next(id for id, present in self.routes.items() if present.get("id") == route["id"])

    def apply(self, step: dict[str, Any]) -> None:
        if step["op"] == "add":
            self.put(step["route"])
        elif step["op"] == "update":
            self.put(step["route"], self.id_of(step["old"]))
        elif step["op"] == "delete":
            id = self.id_of(step["route"])
            self.router.remove(id)
            del self.routes[id]
        self.router.check()


def fits(route: Route, query: dict[str, Any]) -> bool:
    """What the route asks beyond path, host and method: by the code that a worker asks it with."""
    addresses = as_list(route.get("remote_addrs"))
    if addresses and query.get("remote_addr", "") not in address_set(addresses):
        return False
    values = query.get("vars", LIVE)
    asked = compile_expression(route.get("vars", []), find=lambda name: lambda ctx: ctx.get(name), networks=address_set)
    return asked(values) and (not route.get("has_filter") or query["filters"][str(route["index"])])


def reason_to_skip(routes: list[Route], step: dict[str, Any]) -> str | None:
    hosts = [host for route in routes for host in as_list(route.get("hosts"))]
    if hosts and all(re.search(r"[^]:]:\d+$", host) for host in hosts) and step["expect"].get("route") is not None:
        return "a host with a port: compared with the raw Host header there, never asked for here (compatibility.md)"
    patterns = [rule[2] for route in routes if route["paths"] == step["query"]["path"] for rule in route.get("vars", ())
                if rule[1] == "~~"]
    if any(expression_complaint((), [["x", "~~", pattern]]) for pattern in patterns):
        return "a pattern that is none: refused by the schema, answered 500 from a store that has it nevertheless"
    return None


@pytest.mark.parametrize(("steps", "number"), load_queries())
def test_case(steps: list[dict[str, Any]], number: int) -> None:
    query, expect, name = steps[number]["query"], steps[number]["expect"], steps[number]["tree"]
    tree = None
    for step in steps[:number]:
        if step["tree"] != name or step["op"] in ("match", "dispatch"):
            continue
        if step["op"] == "new":
            tree = Tree(step.get("options", {}))
            for route in step["routes"]:
                tree.put(route)
        else:
            assert tree is not None
            tree.apply(step)
    assert tree is not None
    reason = reason_to_skip(list(tree.routes.values()), steps[number])
    if reason:
        pytest.skip(reason)

    router, method = tree.router, query.get("method", "")
    host = host_name(query["host"].encode()) if "host" in query else ""
    found = router.match(query["path"], host, method, query)

    if "route" in expect:
        assert (found and found.target["index"]) == expect["route"]
    if "metadata" in expect:
        assert (found and found.target["metadata"]) == expect["metadata"]
    if "matched" in expect:
        captured = {name: value for name, value in expect["matched"].items() if not name.startswith("_")}
        assert ((found and found.params) or {}) == captured
        assert (found and found.uri) == expect["matched"].get("_path")
    if "matched_fields" in expect:
        assert found is not None
        fitting = [each for each in found.hosts if each == host or (each[0] == "*" and host.endswith(each[1:]))]
        assert max(fitting, key=len, default=None) == expect["matched_fields"].get("_host")
