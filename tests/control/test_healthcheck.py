"""/v1/healthcheck in APISIX's forms, over a real board."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from typing import Any

import falcon.testing
import pytest

from gw.clock import SystemClock
from gw.control.app import control_app
from gw.control.healthcheck import Healthchecks
from gw.health.board import Board
from gw.health.view import HealthView
from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.schema.validate import validate
from gw.shared.store import SharedStore
from gw.shm.segment import SHM_DIR

CHECKS = {
    "active": {"type": "http", "host": "a.example"},
    "passive": {"unhealthy": {"http_statuses": [500], "http_failures": 2}},
}
NODES = {"10.0.0.1:80": 1, "10.0.0.2:81": 1}
UPSTREAM = {"nodes": NODES, "checks": CHECKS}
RESOURCES = {
    ResourceKey("upstreams", "1"): UPSTREAM,
    ResourceKey("upstreams", "no"): {"nodes": NODES},
    ResourceKey("routes", "1"): {"uri": "/", "upstream": {"nodes": NODES, "checks": {"active": {"type": "tcp"}}}},
    ResourceKey("routes", "2"): {"uri": "/", "upstream_id": "1"},
    ResourceKey("services", "<b>"): {"upstream": UPSTREAM},
}


@pytest.fixture
def view() -> Iterator[HealthView]:
    path = SHM_DIR / f"test-{uuid.uuid4().hex[:12]}.v2.state"
    store = SharedStore.open(path, 4 << 20, SystemClock())
    yield HealthView(Board(store, SystemClock()), SystemClock())
    store.close()
    shutil.rmtree(path, ignore_errors=True)


class Client(falcon.testing.TestClient):
    """Asks by the name of the listener."""

    def simulate_get(self, path="/", **parameters):
        return super().simulate_get(path, host="127.0.0.1:9090", **parameters)


@pytest.fixture
def client(view) -> falcon.testing.TestClient:
    return Client(control_app(_convergence, parts=[Healthchecks(view._board, RESOURCES.get)]))


async def _convergence() -> dict[str, Any]:
    return {}


def use(view: HealthView, kind: str, id: str) -> Any:
    resource = RESOURCES[ResourceKey(kind, id)]
    written = validate("upstreams", "1", resource.get("upstream", resource))
    watch = view.watch(ResourceKey(kind, id), Upstream.from_dict(written), lambda down: None)
    assert watch is not None
    return watch


def node(ip: str, port: int, status: str = "healthy", hostname: str = "a.example", **counts: int) -> dict[str, Any]:
    counter = {"success": 0, "http_failure": 0, "tcp_failure": 0, "timeout_failure": 0} | counts
    return {"ip": ip, "port": port, "hostname": hostname, "status": status, "counter": counter}


def test_what_is_used_and_how_it_is(view, client):
    assert client.simulate_get("/v1/healthcheck").json == []
    watch = use(view, "upstreams", "1")
    use(view, "routes", "1")
    for _ in range(2):
        watch.report_http("10.0.0.1:80", 500)
    watch.report_timeout("10.0.0.2:81")
    upstream = {
        "name": "/apisix/upstreams/1",
        "type": "http",
        "nodes": [
            node("10.0.0.1", 80, "unhealthy", http_failure=2),
            node("10.0.0.2", 81, "mostly_healthy", timeout_failure=1),
        ],
    }
    route = {
        "name": "/apisix/routes/1",
        "type": "tcp",
        "nodes": [node("10.0.0.1", 80, hostname="10.0.0.1"), node("10.0.0.2", 81, hostname="10.0.0.2")],
    }
    assert client.simulate_get("/v1/healthcheck").json == [route, upstream]
    assert client.simulate_get("/v1/healthcheck/upstreams/1").json == upstream
    assert client.simulate_get("/v1/healthcheck/routes/1").json == route


def test_what_is_not_configured_any_more_is_not_shown(view):
    """For some seconds it stays on the board, for workers that are behind (t/control/healthcheck-stale-nodes.t)."""
    resources = dict(RESOURCES)
    client = Client(control_app(_convergence, parts=[Healthchecks(view._board, resources.get)]))
    for kind in ("upstreams", "routes"):
        use(view, kind, "1")
    resources[ResourceKey("upstreams", "1")] = {**UPSTREAM, "nodes": [{"host": "10.0.0.1", "port": 80, "weight": 1}]}
    kept = [node("10.0.0.1", 80)]
    assert client.simulate_get("/v1/healthcheck/upstreams/1").json["nodes"] == kept
    del resources[ResourceKey("routes", "1")]
    assert [report["nodes"] for report in client.simulate_get("/v1/healthcheck").json] == [kept]
    resources[ResourceKey("upstreams", "1")] = {"nodes": NODES}
    assert client.simulate_get("/v1/healthcheck").json == []


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("/v1/healthcheck/routes/9", 404, {"error_msg": "routes[9] not found"}),
        ("/v1/healthcheck/routes/2", 404, {"error_msg": "no checker for routes[2]"}),
        ("/v1/healthcheck/upstreams/no", 404, {"error_msg": "no checker for upstreams[no]"}),
        ("/v1/healthcheck/route/1", 400, {"error_msg": "invalid src type route"}),
        ("/v1/healthcheck/routes", 404, {"error_msg": "missing src id for src type routes"}),
        # Configured, and nobody asked for it yet.
        ("/v1/healthcheck/upstreams/1", 200, {"name": "/apisix/upstreams/1", "type": "http", "nodes": []}),
    ],
)
def test_what_is_not_there(client, path, status, answer):
    reply = client.simulate_get(path)
    assert (reply.status_code, reply.json) == (status, answer)


def test_a_page_for_a_browser(view, client):
    watch = use(view, "services", "<b>")
    for _ in range(2):
        watch.report_http("10.0.0.1:80", 500)
    for path in ("/v1/healthcheck", "/v1/healthcheck/services/%3Cb%3E"):
        reply = client.simulate_get(path, headers={"Accept": "text/html,*/*"})
        assert reply.headers["content-type"].startswith("text/html")
        down, up = [line for line in reply.text.splitlines() if "<td>" in line]
        assert down == (
            '<tr bgcolor="#FF0000"><td>1</td><td>/apisix/services/&lt;b&gt;</td><td>http</td><td>10.0.0.1:80</td>'
            "<td>unhealthy</td><td>0</td><td>0</td><td>2</td><td>0</td></tr>"
        )
        assert up.startswith("<tr><td>2</td>")


def test_a_name_of_the_node_and_the_host_a_probe_sends(view, client):
    fields = {"pass_host": "rewrite", "upstream_host": "r.example"}
    written = validate("upstreams", "1", {**UPSTREAM, **fields})
    view.watch(ResourceKey("upstreams", "1"), Upstream.from_dict(written), lambda down: None)
    nodes = client.simulate_get("/v1/healthcheck/upstreams/1").json["nodes"]
    assert [(each["hostname"], each["hostheader"]) for each in nodes] == [("a.example", "r.example")] * 2


def test_the_prefix_of_the_store_is_in_the_name(view):
    use(view, "upstreams", "1")
    app = control_app(_convergence, parts=[Healthchecks(view._board, RESOURCES.get, "/gw")])
    reply = Client(app).simulate_get("/v1/healthcheck")
    assert [each["name"] for each in reply.json] == ["/gw/upstreams/1"]
