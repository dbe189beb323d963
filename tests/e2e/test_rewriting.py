"""request-id, proxy-rewrite and response-rewrite in a whole gateway, configured by the Admin API."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import running_upstream

PLUGINS = ["request-id", "proxy-rewrite", "response-rewrite"]


def test_one_request_through_all_three(tmp_path: Path):
    attr = {"response-rewrite": {"max_body_bytes": 100_000}}
    with (
        running_upstream() as upstream,
        running_gateway(tmp_path / "gateway", {"plugins": PLUGINS, "plugin_attr": attr}) as gateway,
    ):
        nodes = {"upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}
        rewriting = {
            "proxy-rewrite": {
                "regex_uri": ["^/api/(.*)/(.*)", "/v2/$2?kind=$1"],
                "method": "POST",
                "host": "inner.example",
                "headers": {"set": {"X-Kind": "$1", "X-Client": "$remote_addr"}, "remove": ["X-Secret"]},
            },
            "response-rewrite": {
                "status_code": 203,
                "headers": {"add": ["X-Route: $route_id"]},
                "filters": [{"regex": "inner\\.example", "scope": "global", "replace": "outer.example"}],
                "vars": [["status", "==", 200]],
            },
        }
        filtered = {"response-rewrite": {"body": "for curl", "_meta": {"filter": [["http_user_agent", "~~", "^curl"]]}}}
        origin = {"proxy-rewrite": {"headers": {"X-Forwarded-Host": "ours.example"}}}
        broken = {"response-rewrite": {"vars": [["no_such_variable", "==", "1"]], "body": "never"}}
        gateway.apply(
            {
                "global_rules_g": {"plugins": {"request-id": {"algorithm": "nanoid"}}},
                "routes_1": {"uri": "/api/*", "plugins": rewriting} | nodes,
                "routes_2": {"uri": "/filtered", "plugins": filtered} | nodes,
                "routes_4": {"uri": "/origin", "plugins": origin} | nodes,
                "routes_3": {"uri": "/broken", "plugins": broken} | nodes,
            }
        )
        reply = gateway.call("/api/books/7%2F8?page=1", headers={"X-Secret": "s", "X-Request-Id": "mine"})
        seen = json.loads(reply.body)
        assert (reply.status, reply.headers["x-route"], reply.headers["x-request-id"]) == (203, "1", "mine")
        assert (seen["method"], seen["path"]) == ("POST", "/v2/7%2F8?kind=books&page=1")
        headers = seen["headers"]
        assert (headers["host"], headers["x-kind"], headers["x-client"]) == ("outer.example", "books", "127.0.0.1")
        assert headers["x-request-id"] == "mine"
        assert "x-secret" not in headers

        assert of_agent(gateway, "curl/8.0") == "for curl"
        assert of_agent(gateway, "other") != "for curl"

        # As in apisix's t/plugin/proxy-rewrite3.t: what the plugin says of the origin counts, whatever a client says.
        for claimed in ({}, {"X-Forwarded-Host": "theirs.example"}):
            seen = json.loads(gateway.call("/origin", headers=claimed).body)
            assert seen["headers"]["x-forwarded-host"] == "ours.example"
            assert seen["headers"]["x-forwarded-proto"] == "http"

        refused = gateway.call("/broken")
        assert refused.status == 500
        assert len(refused.headers["x-request-id"]) == 21


def of_agent(gateway: Gateway, agent: str) -> str:
    return gateway.call("/filtered", headers={"User-Agent": agent}).body.decode()
