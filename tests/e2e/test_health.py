"""Health checks in a whole gateway: real servers go down and up, and what must not matter does not."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.gateway import Gateway, request, running_gateway
from tests.support.waiting import wait_until


class Server:
    """A server on a port of its own that can go down, come up, and answer with another status."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.status = 200
        self.requests: list[str] = []
        self._server: http.server.ThreadingHTTPServer | None = None
        self.up()

    def up(self) -> None:
        handler = type("Handler", (_Handler,), {"server_": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name=f"server-{self.port}").start()

    def down(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    @property
    def node(self) -> str:
        return f"127.0.0.1:{self.port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server_: Server

    def do_GET(self) -> None:
        # HTTP/1.0: a connection per request, so that a server that went down is down for everybody.
        self.server_.requests.append(self.path)
        body = str(self.server_.port).encode()
        self.send_response(self.server_.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), workers=2) as gateway:
        yield gateway


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    servers = [Server(), Server()]
    yield servers
    for server in servers:
        server.down()


def checked(gateway: Gateway, id: str, servers: list[Server], checks: dict[str, Any], **more: Any) -> None:
    nodes = {server.node: 1 for server in servers}
    gateway.apply(
        {
            f"upstreams_{id}": {"type": "roundrobin", "nodes": nodes, "checks": checks, **more},
            f"routes_{id}": {"uri": f"/{id}", "upstream_id": id},
        }
    )


def who_answers(gateway: Gateway, path: str) -> tuple[set[int], set[bytes]]:
    """Statuses and bodies of enough requests to reach each worker and each node."""
    replies = [gateway.call(path) for _ in range(16)]
    return {reply.status for reply in replies}, {reply.body for reply in replies}


def states(gateway: Gateway, id: str) -> dict[int, str]:
    reply = request(gateway.control_port, "GET", f"/v1/healthcheck/upstreams/{id}")
    return {node["port"]: node["status"] for node in reply.json()["nodes"]} if reply.status == 200 else {}


def port_of(server: Server) -> bytes:
    return str(server.port).encode()


ACTIVE = {
    "active": {
        "type": "http",
        "http_path": "/health",
        "healthy": {"interval": 1, "successes": 1},
        "unhealthy": {"interval": 1, "http_failures": 1, "tcp_failures": 1},
    }
}


def test_a_node_that_goes_down_is_left_out_and_taken_back(gateway: Gateway, servers: list[Server]) -> None:
    first, second = servers
    checked(gateway, "active", servers, ACTIVE)
    wait_until(
        lambda: who_answers(gateway, "/active") == ({200}, {port_of(first), port_of(second)}), what="both to serve"
    )
    first.down()
    wait_until(lambda: states(gateway, "active").get(first.port) == "unhealthy", what="the node to be seen down")
    wait_until(lambda: who_answers(gateway, "/active") == ({200}, {port_of(second)}), what="all workers to know")
    assert states(gateway, "active")[second.port] in ("healthy", "mostly_healthy")

    # What has nothing to do with it resets nothing, and the agent is not needed.
    gateway.apply({"routes_unrelated": {"uri": "/unrelated", "upstream_id": "active"}})
    assert states(gateway, "active")[first.port] == "unhealthy"
    assert who_answers(gateway, "/active") == ({200}, {port_of(second)})
    os.kill(gateway.agent_pid(), signal.SIGKILL)
    assert who_answers(gateway, "/active") == ({200}, {port_of(second)})
    first.up()
    both = ({200}, {port_of(first), port_of(second)})
    wait_until(lambda: who_answers(gateway, "/active") == both, what="it to be taken back")
    assert "/health" in first.requests
    wait_until(lambda: gateway.admin("GET", "/routes").status == 200, what="the agent to be back")


def test_a_node_whose_answers_fail_is_left_out_by_its_traffic(gateway: Gateway, servers: list[Server]) -> None:
    first, second = servers
    passive = {"unhealthy": {"http_statuses": [500], "http_failures": 2}}
    hourly = {"interval": 3600}
    slow = {"active": {"type": "http", "http_path": "/", "healthy": hourly, "unhealthy": hourly}}
    checked(gateway, "passive", servers, slow | {"passive": passive})
    assert who_answers(gateway, "/passive")[0] == {200}
    first.status = 500
    wait_until(lambda: who_answers(gateway, "/passive") == ({200}, {port_of(second)}), what="traffic to go elsewhere")
    assert states(gateway, "passive")[first.port] == "unhealthy"


def test_when_all_are_down_all_take_traffic(gateway: Gateway, servers: list[Server]) -> None:
    for server in servers:
        server.status = 500
    checked(gateway, "all", servers, ACTIVE)
    gateway.call("/all")
    wait_until(lambda: set(states(gateway, "all").values()) == {"unhealthy"}, what="both to be seen down")
    both = {port_of(server) for server in servers}
    wait_until(lambda: who_answers(gateway, "/all") == ({500}, both), what="both to be tried")


def test_workers_that_die_take_no_verdict_with_them(gateway: Gateway, servers: list[Server]) -> None:
    first, second = servers
    first.status = 500
    checked(gateway, "worker", servers, ACTIVE)
    gateway.call("/worker")
    wait_until(lambda: states(gateway, "worker").get(first.port) == "unhealthy", what="the node to be seen down")
    before = set(gateway.worker_pids())
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(set(gateway.worker_pids()) - before) == 2, what="new workers")
    wait_until(lambda: who_answers(gateway, "/worker") == ({200}, {port_of(second)}), what="the new ones to know")
    first.status = 200
    wait_until(
        lambda: who_answers(gateway, "/worker") == ({200}, {port_of(first), port_of(second)}), what="probes to go on"
    )

