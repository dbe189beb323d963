"""A real gateway logs what clients do, and believes only those about where a request comes from whom it was told to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway, request, running_gateway
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import wait_until

FORMAT = (
    '{"client": "$remote_addr", "peer": "$realip_remote_addr", "request": "$request", "status": $status, '
    '"route": "$route_id", "agent": "$http_user_agent", "upstream": "$upstream_addr", "tried": "$upstream_status", '
    '"took": $upstream_response_time, "sent": $body_bytes_sent, "length": $request_length}'
)
CONFIG = {
    "apisix": {"trusted_addresses": ["127.0.0.1"]},
    "nginx_config": {
        "http": {
            "access_log": "a.log",
            "access_log_format": FORMAT,
            "access_log_format_escape": "json",
            "access_log_buffer": 0,
            "real_ip_header": "X-Forwarded-For",
            "real_ip_recursive": True,
            "real_ip_from": ["127.0.0.1", "10.0.0.0/8"],
        }
    },
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("logging"), CONFIG) as running:
        assert running.put_route("1", "/hello", upstream.port).status == 201
        running.wait_served("/hello")
        yield running


def log_path(gateway: Gateway) -> Path:
    return gateway.directory / "data/a.log"


def logged(gateway: Gateway, mark: str) -> dict[str, Any]:
    """The line of the request with this user agent."""

    def found() -> list[dict[str, Any]]:
        lines = log_path(gateway).read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["agent"] == mark]

    return wait_until(found, what=f"the line of {mark}")[0]


def test_a_proxied_request(gateway: Gateway, upstream: Upstream) -> None:
    assert request(gateway.port, "GET", "/hello?a=1", headers={"User-Agent": "first"}).status == 200
    line = logged(gateway, "first")
    assert line["request"] == "GET /hello?a=1 HTTP/1.1"
    assert (line["client"], line["status"], line["route"], line["tried"]) == ("127.0.0.1", 200, "1", "200")
    assert line["upstream"] == f"127.0.0.1:{upstream.port}"
    assert line["took"] >= 0
    assert line["sent"] > 0
    assert line["length"] > len("GET /hello?a=1 HTTP/1.1")


def test_a_request_without_a_route(gateway: Gateway) -> None:
    assert request(gateway.port, "GET", "/none", headers={"User-Agent": "lost"}).status == 404
    line = logged(gateway, "lost")
    assert (line["status"], line["route"], line["upstream"], line["took"]) == (404, "", "", None)


def test_nobody_forges_a_line(gateway: Gateway) -> None:
    agent = 'x", "status": 777, "agent": "forged'
    assert request(gateway.port, "GET", "/hello", headers={"User-Agent": agent}).status == 200
    assert logged(gateway, agent)["status"] == 200
    assert '"agent": "forged' not in log_path(gateway).read_text().replace('\\"', "'")


def test_a_trusted_proxy_is_believed(gateway: Gateway) -> None:
    headers = {
        "User-Agent": "behind",
        "X-Forwarded-For": "6.6.6.6, 192.0.2.7, 10.0.0.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
        "Forwarded": "for=192.0.2.7",
    }
    seen = request(gateway.port, "GET", "/hello", headers=headers).json()["headers"]
    assert seen["x-real-ip"] == "192.0.2.7"
    assert seen["x-forwarded-for"] == "6.6.6.6, 192.0.2.7, 10.0.0.9, 192.0.2.7"
    assert (seen["x-forwarded-proto"], seen["x-forwarded-host"]) == ("https", "shop.example")
    assert seen["x-forwarded-port"] == str(gateway.port)
    assert seen["forwarded"] == "for=192.0.2.7"
    line = logged(gateway, "behind")
    assert (line["client"], line["peer"]) == ("192.0.2.7", "127.0.0.1")


def test_a_log_that_was_moved_goes_on_in_a_new_file(gateway: Gateway) -> None:
    path = log_path(gateway)
    path.rename(path.with_suffix(".1"))
    assert request(gateway.port, "GET", "/hello", headers={"User-Agent": "after"}).status == 200
    assert logged(gateway, "after")["status"] == 200
