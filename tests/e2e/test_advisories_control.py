"""What the listeners without a key tell: nothing secret (GHSA-2cjc-rgmp-x649), and nothing to a foreign page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gateway import ADMIN_KEY, Gateway, request, running_gateway
from tests.support.waiting import wait_until

SECRET = "planted-5f2c9a41d0"
REDIS = {"policy": "redis", "redis_host": "127.0.0.1", "redis_port": 1, "redis_password": SECRET}
LIMIT = {"limit-count": {"count": 1, "time_window": 1, **REDIS}}
LOGGER = {"http-logger": {"uri": f"http://user:{SECRET}@127.0.0.1:1/", "auth_header": SECRET}}
SETTER = {"proxy-rewrite": {"headers": {"set": {"Authorization": f"Bearer {SECRET}"}}}}
UPSTREAM = {"type": "roundrobin", "nodes": {"127.0.0.1:1": 1}}
RESOURCES = {
    "upstreams/1": UPSTREAM,
    "services/1": {"upstream": UPSTREAM, "plugins": LOGGER | LIMIT},
    "routes/1": {"uri": "/1", "service_id": "1", "plugins": SETTER},
    "routes/2": {"uri": "/2", "upstream_id": "1", "plugins": LIMIT},
    "global_rules/1": {"plugins": LOGGER},
    "plugin_configs/1": {"plugins": SETTER},
    "consumers/jack": {"username": "jack", "plugins": LIMIT},
    "secrets/vault/1": {"uri": "http://127.0.0.1:1", "prefix": "kv/a", "token": SECRET},
}
CONTROL = (
    "/v1/routes", "/v1/route/1", "/v1/route/2", "/v1/services", "/v1/service/1", "/v1/upstreams", "/v1/upstream/1",
    "/v1/plugin_metadatas", "/v1/plugin_metadata/http-logger", "/v1/schema", "/v1/healthcheck", "/v1/convergence",
    "/v1/consumers", "/v1/consumer/jack", "/v1/secrets", "/v1/ssls", "/v1/global_rules", "/v1/plugin_configs",
)  # fmt: skip


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory):
    with running_gateway(Path(tmp_path_factory.mktemp("control")), workers=1) as running:
        for path, resource in RESOURCES.items():
            reply = running.admin("PUT", f"/{path}", resource)
            assert reply.status == 201, (path, reply)
        running.put_route("3", "/3", 1)
        wait_until(
            lambda: request(running.control_port, "GET", "/v1/route/3").status == 200,
            what="the last of them to be served",
        )
        yield running


def test_no_listener_without_a_key_tells_a_secret(gateway: Gateway) -> None:
    for port, paths in (
        (gateway.control_port, CONTROL),
        (gateway.status_port, ("/status", "/status/ready")),
        (gateway.metrics_port, ("/apisix/prometheus/metrics",)),
    ):
        for path in paths:
            reply = request(port, "GET", path)
            assert reply.status in (200, 404), (path, reply)
            assert SECRET.encode() not in reply.body, path
            assert ADMIN_KEY.encode() not in reply.body, path
    assert SECRET not in gateway.output()
    # It is all there, for who has the key.
    assert SECRET.encode() in gateway.admin("GET", "/routes/1").body
    assert b"***" in request(gateway.control_port, "GET", "/v1/route/1").body


def test_a_foreign_host_reads_nothing(gateway: Gateway) -> None:
    for path in CONTROL:
        reply = request(gateway.control_port, "GET", path, headers={"Host": "evil.example"})
        assert reply.status == 403, path
