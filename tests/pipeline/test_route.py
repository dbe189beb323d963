from typing import Any

import pytest

from gw.model.merge import NO_UPSTREAM
from gw.model.route import Route
from gw.model.upstream import Upstream
from gw.pipeline.context import Context, Link, Request
from gw.pipeline.headers import admit
from gw.pipeline.route import compile_route
from gw.pipeline.upstream import DEFAULT_KEEPALIVE, compile_upstream
from gw.upstream.target import KeepAlive, Target, Timeouts, TlsIdentity


def upstream(**fields: Any) -> Upstream:
    return Upstream.from_dict(
        {
            "type": "roundrobin",
            "nodes": [{"host": "10.0.0.1", "port": 8080, "weight": 1}],
            "scheme": "http",
            "pass_host": "pass",
            "hash_on": "vars",
            **fields,
        }
    )


def route(**fields: Any) -> Route:
    return Route.from_dict("r", {"uri": "/", "priority": 0, "status": 1, **fields})


def request(host: bytes | None = b"Client.example:9080") -> Request:
    link = Link("http", "::1", 40000, "::1", 9080)
    made = Request("GET", b"/", b"", [(b"host", host)] if host else [], link, "1.1" if host else "1.0")
    admit(made)
    return made


CONTEXT = Context(request(), 0.0)


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ({}, b"Client.example:9080"),
        ({"pass_host": "node"}, b"10.0.0.1:8080"),
        ({"pass_host": "node", "nodes": [{"host": "api.internal", "port": 80, "weight": 1}]}, b"api.internal"),
        ({"pass_host": "node", "nodes": [{"host": "::1", "port": 81, "weight": 1}]}, b"[::1]:81"),
        ({"pass_host": "rewrite", "upstream_host": "other.example"}, b"other.example"),
    ],
)
def test_pass_host(fields: dict[str, Any], host: bytes) -> None:
    runtime = compile_upstream(upstream(**fields))
    node = runtime.pick(CONTEXT)
    assert node is not None
    assert runtime.host_header(request(), node) == host


def test_without_a_host_the_node_gets_its_own() -> None:
    runtime = compile_upstream(upstream())
    node = runtime.pick(CONTEXT)
    assert node is not None
    assert runtime.host_header(request(None), node) == b"10.0.0.1:8080"


def test_figures() -> None:
    plain = compile_upstream(upstream())
    assert plain.timeouts == Timeouts(60.0, 60.0, 60.0)
    assert plain.keepalive == DEFAULT_KEEPALIVE == KeepAlive(320, 60.0, 1000)
    own = compile_upstream(
        upstream(
            timeout={"connect": 1, "send": 2, "read": 3},
            keepalive_pool={"size": 4, "idle_timeout": 5, "requests": 6},
        ),
        KeepAlive(7, 8, 9),
    )
    assert (own.timeouts, own.keepalive) == (Timeouts(1, 2, 3), KeepAlive(4, 5, 6))
    assert compile_upstream(upstream(), KeepAlive(7, 8, 9)).keepalive == KeepAlive(7, 8, 9)
    never_idle = compile_upstream(upstream(keepalive_pool={"size": 4, "idle_timeout": 0, "requests": 6}))
    assert never_idle.keepalive.max_idle == 0
    assert compile_route(route(), own).timeouts == Timeouts(1, 2, 3)
    assert compile_route(route(timeout={"connect": 7, "send": 8, "read": 9}), own).timeouts == Timeouts(7, 8, 9)
    assert compile_route(route(), NO_UPSTREAM).upstream is NO_UPSTREAM


def test_tls_is_part_of_the_target() -> None:
    nodes = [{"host": "10.0.0.1", "port": 443, "weight": 1}]

    def target(**fields: Any) -> Target:
        node = compile_upstream(upstream(scheme="https", nodes=nodes, **fields)).pick(CONTEXT)
        assert node is not None
        return node.target

    assert target() == Target("10.0.0.1", 443, TlsIdentity("10.0.0.1", verify=False))
    assert target(tls={"verify": True}).tls == TlsIdentity("10.0.0.1", verify=True)
    rewritten = target(pass_host="rewrite", upstream_host="api.example:8443")
    assert rewritten.tls == TlsIdentity("api.example", verify=False)


@pytest.mark.parametrize(
    "fields",
    [
        {"scheme": "grpc"},
        {"scheme": "https", "tls": {"client_cert_id": "1"}},
        {"scheme": "https", "tls": {"verify": True, "ca_certs": ["no certificate"]}},
        {"nodes": [], "service_name": "x", "discovery_type": "dns"},
    ],
)
def test_what_cannot_be_done_says_so(fields: dict[str, Any]) -> None:
    runtime = compile_upstream(upstream(**fields))
    assert runtime.unsupported


def test_highest_priority_with_a_weight_serves() -> None:
    nodes = [
        {"host": "down", "port": 1, "weight": 0, "priority": 2},
        {"host": "first", "port": 1, "weight": 1, "priority": 1},
        {"host": "spare", "port": 1, "weight": 1, "priority": 0},
    ]
    runtime = compile_upstream(upstream(nodes=nodes))
    picked = [runtime.pick(CONTEXT) for _ in range(3)]
    assert {node.target.host for node in picked if node} == {"first"}


def test_no_node_with_a_weight() -> None:
    assert compile_upstream(upstream(nodes=[])).pick(CONTEXT) is None
    idle = [{"host": "a", "port": 1, "weight": 0}]
    assert compile_upstream(upstream(nodes=idle)).pick(CONTEXT) is None
