"""What a worker serves, over the control API. Facts of t/control/{routes,services,upstreams,plugin-metadata}.t."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import falcon.testing
import pytest

from gw.control.app import control_app
from gw.control.dumps import Dumps
from gw.control.masking import Masking
from gw.control.schemas import Schemas
from gw.control.upkeep import Upkeep
from gw.plugins.catalogue import Catalogue
from gw.plugins.registry import load_registry
from gw.plugins.reloading import PluginReload
from gw.rebuild.state import ConfigState
from gw.schema import load_plugin_schemas, published_schemas
from gw.settings import Settings, load_settings
from gw.settings.tree import OWN_PLUGINS
from tests.support.workers import change

TLS = Path(__file__).resolve().parent.parent / "data" / "tls"
NODES = {"127.0.0.1:1980": 1}
UPSTREAM = {"type": "roundrobin", "nodes": NODES}
LISTED = [{"host": "127.0.0.1", "port": 1980, "weight": 1}]


class Served:
    """A worker's state, and the control API over it."""

    def __init__(self, settings: Settings) -> None:
        self.state = ConfigState("radixtree_uri")
        catalogue = Catalogue(load_registry(OWN_PLUGINS))
        parts = [
            Dumps(self.state, Masking(catalogue.schemas)),
            Schemas(catalogue),
            Upkeep(PluginReload(settings)),
        ]
        self._client = falcon.testing.TestClient(control_app(_convergence, parts=parts))

    def put(self, kind: str, resources: Mapping[str, Mapping[str, Any] | None]) -> None:
        for _ in self.state.update([change(kind, id, resource) for id, resource in resources.items()]):
            pass

    def ask(self, path: str, method: str = "GET") -> falcon.testing.Result:
        return self._client.simulate_request(method, path, host="127.0.0.1:9090")


@pytest.fixture
def served(tmp_path: Any) -> Served:
    config = tmp_path / "config.yaml"
    config.write_text("apisix: {}\n")
    config.chmod(0o600)
    return Served(load_settings(config))


async def _convergence() -> dict[str, Any]:
    return {}


@pytest.mark.parametrize("path", ["/v1/routes", "/v1/services", "/v1/upstreams", "/v1/plugin_metadatas", "/v1/routes/"])
def test_nothing_is_an_empty_list(served: Served, path: str) -> None:
    answer = served.ask(path)
    assert (answer.status_code, answer.text) == (200, "[]")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["server"].startswith("Jitterway/")


def test_a_service_is_shown_with_its_defaults_and_its_nodes_as_a_list(served: Served) -> None:
    served.put("services", {"200": {"upstream": UPSTREAM, "plugins": {"limit-count": {"count": 2, "time_window": 60}}}})
    (item,) = served.ask("/v1/services").json
    assert item == served.ask("/v1/service/200").json
    assert item.keys() == {"key", "value", "has_domain"}
    assert (item["key"], item["has_domain"]) == ("/apisix/services/200", False)
    assert item["value"]["id"] == "200"
    assert item["value"]["upstream"].items() >= {"hash_on": "vars", "nodes": LISTED, "scheme": "http"}.items()
    assert item["value"]["plugins"]["limit-count"]["rejected_code"] == 503


def test_an_upstream_with_a_name_among_its_nodes_says_so(served: Served) -> None:
    served.put(
        "upstreams",
        {
            "1": UPSTREAM,
            "2": {"type": "roundrobin", "nodes": {"foo.com": 2}},
            "3": {"type": "roundrobin", "nodes": [{"host": "::1", "port": 1, "weight": 0, "priority": -1}]},
        },
    )
    shown = {item["value"]["id"]: item for item in served.ask("/v1/upstreams").json}
    assert [item["has_domain"] for item in shown.values()] == [False, True, False]
    assert shown["2"]["value"]["nodes"] == [{"host": "foo.com", "port": 80, "weight": 2}]
    assert shown["3"]["value"]["nodes"] == [{"host": "::1", "port": 1, "weight": 0, "priority": -1}]


def test_routes_are_those_of_now_in_the_order_of_their_ids(served: Served) -> None:
    ids = [f"r{number}" for number in range(1000)]
    served.put("routes", {id: {"uri": f"/{id}", "upstream_id": "1"} for id in ids})
    assert [item["value"]["id"] for item in served.ask("/v1/routes").json] == sorted(ids)
    served.put("routes", {"r7": None, "r8": {"uri": "/other", "service_id": "1"}})
    shown = {item["value"]["id"]: item["value"] for item in served.ask("/v1/routes").json}
    assert len(shown) == 999
    assert shown["r8"]["uri"] == "/other"
    assert served.ask("/v1/route/r8").json["value"] == shown["r8"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/v1/route/2", "route[2] not found"),
        ("/v1/service/2", "service[2] not found"),
        ("/v1/upstream/2", "upstream[2] not found"),
        ("/v1/plugin_metadata/batch-requests", "plugin metadata[batch-requests] not found"),
        ("/v1/route/", "404 Route Not Found"),
        ("/v1/discovery/dns/dump", "404 Route Not Found"),
        ("/v1/discovery/eureka/show_dump_file", "404 Route Not Found"),
        ("/v1/consumers", "404 Route Not Found"),
        ("/v1/ssl", "404 Route Not Found"),
        ("/v2/routes", "404 Route Not Found"),
    ],
)
def test_what_is_not_there_is_answered_404(served: Served, path: str, reason: str) -> None:
    served.put("routes", {"1": {"uri": "/", "upstream_id": "1"}})
    answer = served.ask(path)
    assert (answer.status_code, answer.json) == (404, {"error_msg": reason})


def test_metadata_stands_alone_with_its_id(served: Served) -> None:
    metadata = {"log_format": {"host": "$host"}}
    served.put("plugin_metadata", {"http-logger": metadata})
    assert served.ask("/v1/plugin_metadatas").json == [{"id": "http-logger", **metadata}]
    assert served.ask("/v1/plugin_metadata/http-logger").json == {"id": "http-logger", **metadata}


def test_secrets_are_in_no_answer(served: Served) -> None:
    secret = "planted-5f2c9a"
    redis = {"policy": "redis", "redis_host": "127.0.0.1", "redis_password": secret}
    limit = {"limit-count": {"count": 1, "time_window": 1, **redis}}
    pair = {"client_cert": (TLS / "server.pem").read_text(), "client_key": (TLS / "server.key").read_text()}
    keyed = UPSTREAM | {"tls": pair}
    served.put("routes", {"1": {"uri": "/", "plugins": limit, "upstream": keyed}})
    served.put("services", {"1": {"plugins": limit, "upstream": keyed}})
    served.put("upstreams", {"1": keyed})
    for path in ("routes", "services", "upstreams", "route/1", "service/1", "upstream/1"):
        answer = served.ask(f"/v1/{path}")
        assert answer.status_code == 200
        assert "127.0.0.1" in answer.text
        assert "BEGIN CERTIFICATE" in answer.text
        assert secret not in answer.text
        assert "PRIVATE KEY" not in answer.text


def test_the_schemas_of_kinds_and_plugins(served: Served) -> None:
    answer = served.ask("/v1/schema").json
    assert answer.keys() == {"main", "plugins", "stream_plugins"}
    assert answer["main"].keys() >= {"route", "service", "upstream", "plugin_config", "global_rule", "plugin_metadata"}
    # What clients check the key of an upstream by, beside the kinds.
    keys = {"upstream_hash_vars_schema": "arg_a", "upstream_hash_header_schema": "x-a"}
    assert answer["main"].keys() == set(published_schemas()) | set(keys)
    for name, key in keys.items():
        assert answer["main"][name]["type"] == "string"
        assert re.search(answer["main"][name]["pattern"], key)
        assert not re.search(answer["main"][name]["pattern"], "a b")
    assert answer["plugins"].keys() == set(OWN_PLUGINS)
    schemas = load_plugin_schemas(OWN_PLUGINS)
    assert answer["plugins"]["request-id"]["schema"] == schemas.schema_of("request-id")
    assert answer["plugins"]["request-id"]["priority"] == 12015


def test_upkeep(served: Served) -> None:
    collected = served.ask("/v1/gc", "POST")
    assert (collected.status_code, collected.content) == (200, b"")
    reloaded = served.ask("/v1/plugins/reload", "PUT")
    assert (reloaded.status_code, reloaded.text) == (200, "done")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/gc"), ("POST", "/v1/plugins/reload"), ("GET", "/v1/plugins/reload"), ("DELETE", "/v1/routes")],
)
def test_another_method_is_refused(served: Served, method: str, path: str) -> None:
    answer = served.ask(path, method)
    assert answer.status_code == 405
    assert answer.json == {"error_msg": f"no {method} here"}
    assert answer.headers["allow"]
