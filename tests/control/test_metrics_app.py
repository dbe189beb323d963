"""What the metrics listener answers, to whom, and in which form."""

from __future__ import annotations

import falcon.testing
import pytest

from gw.control.metrics_app import metrics_app
from gw.metrics.host_view import HostView
from tests.support.metrics import METRICS_PATH, Scrape

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# What Prometheus 3 sends.
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


def view() -> HostView:
    return HostView(slot=None, agent_is_alive=False, live=(), expected=2, now_ns=0, host_name="a-host")


def client(path: str = METRICS_PATH, prefix: str = "apisix_") -> falcon.testing.TestClient:
    return falcon.testing.TestClient(metrics_app(view, path=path, prefix=prefix, host_names={"A-Host"}))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, PLAIN),
        ("*/*", PLAIN),
        ("text/html", PLAIN),
        ("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", PLAIN),
        ("garbage;;;q=x", PLAIN),
        ("application/openmetrics-text;version=99.0.0", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        (PROMETHEUS, OPENMETRICS),
    ],
)
def test_the_form_is_the_one_asked_for(accept: str | None, content_type: str) -> None:
    headers = {} if accept is None else {"Accept": accept}
    reply = client().simulate_get(METRICS_PATH, headers=headers, host="127.0.0.1:9091")
    assert (reply.status_code, reply.headers["content-type"]) == (200, content_type)
    assert reply.text.endswith("# EOF\n") == (content_type == OPENMETRICS)
    assert "apisix_gateway_workers_expected 2.0\n" in reply.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", METRICS_PATH + "/"),
        ("GET", METRICS_PATH + "/more"),
        ("GET", "/apisix/prometheus"),
        ("POST", METRICS_PATH),
        ("HEAD", METRICS_PATH),
        ("OPTIONS", METRICS_PATH),
        ("DELETE", "/status"),
    ],
)
def test_everything_else_is_not_there(method: str, path: str) -> None:
    reply = client().simulate_request(method, path, host="127.0.0.1")
    assert reply.status_code == 404
    if method != "HEAD":
        assert reply.json == {"error_msg": "404 Route Not Found"}


@pytest.mark.parametrize("path", ["/", "/metrics", "/metrics/", "/a/b.c~d"])
def test_the_path_and_the_prefix_are_the_operators(path: str) -> None:
    reply = client(path, "edge_").simulate_get(path, host="127.0.0.1")
    assert Scrape(reply.text).value("edge_gateway_workers_expected") == 2


@pytest.mark.parametrize(("host", "status"), [("a-host:9091", 200), ("[::1]:9091", 200), ("evil.example", 403)])
def test_only_our_own_hosts_are_answered(host: str, status: int) -> None:
    assert client().simulate_get(METRICS_PATH, host=host).status_code == status
