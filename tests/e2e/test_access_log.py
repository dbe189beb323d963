"""The access log and the counters of a whole gateway: one line and one count per request, whatever became of it."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.canary import RawClient
from tests.support.gateway import Gateway, running_gateway
from tests.support.metrics import scrape
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import wait_until

FORMAT = (
    '{"request": "$request", "status": $status, "body": $body_bytes_sent, "tried": "$upstream_addr",'
    ' "came_to": "$upstream_status", "took": "$upstream_response_time", "agent": "$http_user_agent"}'
)
CONFIG = {
    "nginx_config": {
        "http": {
            "access_log": "access.log",
            "access_log_format": FORMAT,
            "access_log_format_escape": "json",
            "access_log_buffer": 0,
            "client_header_timeout": 2,
        }
    },
    "gw": {"edge": "h1"},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), CONFIG, workers=2) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def refusing() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def log_path(gateway: Gateway) -> Path:
    return gateway.directory / "data" / "access.log"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def line_of(path: Path, request_line: str) -> dict[str, Any]:
    """The one line of this request."""
    found = wait_until(
        lambda: [line for line in lines(path) if line["request"] == request_line], what=f"a line of {request_line}"
    )
    assert len(found) == 1
    return found[0]


def test_all_tries_are_in_the_line(gateway: Gateway, upstream: Upstream, refusing: int) -> None:
    nodes = [
        {"host": "127.0.0.1", "port": refusing, "weight": 1, "priority": 1},
        {"host": "127.0.0.1", "port": upstream.port, "weight": 1, "priority": 0},
    ]
    gateway.apply({"routes_retried": {"uri": "/retried", "upstream": {"type": "roundrobin", "nodes": nodes}}})
    assert gateway.call("/retried", headers={"User-Agent": 'a "quoted" one'}).status == 200
    line = line_of(log_path(gateway), "GET /retried HTTP/1.1")
    assert line["status"] == 200
    assert line["tried"] == f"127.0.0.1:{refusing}, 127.0.0.1:{upstream.port}"
    assert line["came_to"] == "502, 200"
    assert len(line["took"].split(", ")) == 2
    assert line["agent"] == 'a "quoted" one'


def test_what_reached_no_upstream_has_a_line_too(gateway: Gateway, refusing: int) -> None:
    nodes = {f"127.0.0.1:{refusing}": 1}
    gateway.apply({"routes_dead": {"uri": "/dead", "upstream": {"type": "roundrobin", "nodes": nodes}}})
    path = log_path(gateway)
    assert gateway.call("/nowhere").status == 404
    assert (line := line_of(path, "GET /nowhere HTTP/1.1"))["status"] == 404
    assert line["body"] == len(gateway.call("/nowhere-else").body)
    assert line["tried"] in ("", "-")
    assert gateway.call("/dead").status == 502
    assert (line := line_of(path, "GET /dead HTTP/1.1"))["came_to"] == "502"


def test_a_client_that_left_is_499(gateway: Gateway, upstream: Upstream) -> None:
    nodes = {f"127.0.0.1:{upstream.port}": 1}
    gateway.apply({"routes_slow": {"uri": "/slow/*", "upstream": {"type": "roundrobin", "nodes": nodes}}})
    with RawClient(gateway.port) as client:
        client.send(b"GET /slow/left HTTP/1.1\r\nHost: a\r\n\r\n")
        assert upstream.arrived.wait(10)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert line_of(log_path(gateway), "GET /slow/left HTTP/1.1")["status"] == 499
    upstream.release.set()


def test_a_log_that_was_moved_away_is_opened_anew(gateway: Gateway) -> None:
    path = log_path(gateway)
    gateway.call("/before")
    line_of(path, "GET /before HTTP/1.1")
    moved = path.with_suffix(".old")
    path.rename(moved)
    for pid in gateway.worker_pids():
        os.kill(pid, signal.SIGUSR1)
    wait_until(path.exists, what="a new file")
    # A worker that has not come to it yet writes to the old one: no line is lost, and both end in the new one.
    for number in range(20):
        gateway.call(f"/after/{number}")
    everywhere = {f"GET /after/{number} HTTP/1.1" for number in range(20)}
    wait_until(
        lambda: everywhere <= {line["request"] for line in lines(path) + lines(moved)}, what="a line for each request"
    )
    gateway.call("/last")
    wait_until(lambda: any(line["request"] == "GET /last HTTP/1.1" for line in lines(path)), what="the last line")


def test_each_request_is_counted_once_and_outlives_its_worker(gateway: Gateway, upstream: Upstream) -> None:
    nodes = {f"127.0.0.1:{upstream.port}": 1}
    gateway.apply({"routes_counted": {"uri": "/counted", "upstream": {"type": "roundrobin", "nodes": nodes}}})
    name = "apisix_gateway_http_request_duration_seconds_count"

    def counts() -> tuple[float, float]:
        found = scrape(gateway.metrics_port)
        return found.value(name, **{"class": "2xx"}), found.value(name, **{"class": "4xx"})

    good, bad = counts()
    for _ in range(15):
        assert gateway.call("/counted").status == 200
        assert gateway.call("/not-counted").status == 404
    with RawClient(gateway.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        client.expect(400)
    wait_until(lambda: counts() == (good + 15, bad + 16), what="all of them in shared memory")
    victim = gateway.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: victim not in gateway.worker_pids() and len(gateway.worker_pids()) == 2, what="another worker"
    )
    assert counts() == (good + 15, bad + 16)
    assert gateway.call("/counted").status == 200
    wait_until(lambda: counts() == (good + 16, bad + 16), what="the new worker to count on")
