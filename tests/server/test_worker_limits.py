"""What the configuration allows a client, and how connections are used: each setting by what a real worker does."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.upstream import Upstream, running_upstream
from tests.support.workers import Workers


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with running_upstream() as server:
        yield server


def talk(workers: Workers, sent: bytes) -> bytes:
    """Send this, and return all that comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", workers.port), timeout=20) as client:
        client.sendall(sent)
        return everything(client)


def everything(client: socket.socket) -> bytes:
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


class Flood:
    """An upstream that sends a body without end, until its connection breaks."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(20)
        self.port: int = self._server.getsockname()[1]
        self.sent_bytes = 0
        self.broken = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        with connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
            while True:
                self.sent_bytes += connection.send(bytes(65536))
        self.broken.set()

    def close(self) -> None:
        self._thread.join(40)
        self._server.close()


@pytest.fixture
def flood() -> Iterator[Flood]:
    flood = Flood()
    yield flood
    flood.close()


def test_a_client_that_takes_nothing_is_cut_off_and_its_upstream_too(tmp_path: Path, flood: Flood):
    config = {"nginx_config": {"http": {"send_timeout": "1s"}}}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.publish({"1": {"uri": "/*", "upstream": {"nodes": {f"127.0.0.1:{flood.port}": 1}}}})
        workers.wait_ready()
        with socket.create_connection(("127.0.0.1", workers.port), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            # As long as something is taken, however little beside what there is, it goes on.
            end_s = time.monotonic() + 3
            while time.monotonic() < end_s:
                assert client.recv(32768)
                time.sleep(0.05)
            assert not flood.broken.is_set()
            assert flood.broken.wait(20)
            with pytest.raises(ConnectionResetError):
                everything(client)


@pytest.mark.parametrize(
    ("framing", "piece"),
    [("Content-Length: 50000000", bytes(65536)), ("Transfer-Encoding: chunked", b"10000\r\n" + bytes(65536) + b"\r\n")],
)
def test_a_client_in_the_middle_of_a_large_body_can_read_why_it_is_refused(
    tmp_path: Path, upstream: Upstream, framing: str, piece: bytes
):
    config = {"nginx_config": {"http": {"client_max_body_size": "100k"}}}
    # One that says nothing: the answer is nobody else's.
    with socket.create_server(("127.0.0.1", 0)) as silent, Workers(tmp_path, config, workers=1) as workers:
        ports = {"/": upstream.port, "/refused": silent.getsockname()[1]}
        workers.publish(
            {str(port): {"uri": uri, "upstream": {"nodes": {f"127.0.0.1:{port}": 1}}} for uri, port in ports.items()}
        )
        workers.wait_ready()
        with socket.create_connection(("127.0.0.1", workers.port), timeout=20) as client:
            client.sendall(f"POST /refused HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
            # Far more than the sockets hold: it is taken although nobody wants it, and no reset takes the answer away.
            for _ in range(300):
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
            assert everything(client).startswith(b"HTTP/1.1 413 ")
        assert workers.request("/", method="POST", body=b"x" * 102400).status == 200


def test_a_client_that_pauses_in_a_body_is_answered_408(tmp_path: Path, upstream: Upstream):
    """Shorter than what the master has for a worker that stands still, and not in whole seconds."""
    config = {"nginx_config": {"http": {"client_body_timeout": "300ms"}}}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.publish({"1": {"uri": "/*", "upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}})
        workers.wait_ready()
        began_s = time.monotonic()
        assert talk(workers, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx").startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - began_s < 25


def test_limits_of_a_request_head(tmp_path: Path):
    limits = {"request_line": 200, "request_headers": 5, "request_header": 300}
    with Workers(tmp_path, {"gw": {"limits": limits}}, workers=1) as workers:
        workers.publish({})
        workers.wait_ready()

        def status(line: str, *headers: str) -> int:
            head = "\r\n".join((line, "Host: a", "Connection: close", *headers, "", ""))
            found = re.match(rb"HTTP/1.1 (\d+) ", talk(workers, head.encode()))
            assert found is not None
            return int(found[1])

        assert status("GET /fits HTTP/1.1", "a: 1", "b: 2", "c: 3") == 404
        assert status(f"GET /{'x' * 200} HTTP/1.1") == 414
        assert status("GET / HTTP/1.1", "a: 1", "b: 2", "c: 3", "d: 4") == 431
        assert status("GET / HTTP/1.1", "a: 1", f"b: {'x' * 300}") == 431


@pytest.mark.parametrize("passed", ["on", "off"])
def test_header_names_with_underscores(tmp_path: Path, upstream: Upstream, passed: str):
    config = {"nginx_config": {"http": {"underscores_in_headers": passed}}}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.publish({"1": {"uri": "/*", "upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}}}})
        workers.wait_ready()
        seen = workers.request("/", headers={"app_id": "1", "app-id": "2"}).json()["headers"]
        assert seen["app-id"] == "2"
        assert seen.get("app_id") == ("1" if passed == "on" else None)


def test_an_idle_connection_is_closed_in_its_time_or_at_once(tmp_path: Path):
    for written in ("0", "200ms"):
        config = {"nginx_config": {"http": {"keepalive_timeout": written}}}
        with Workers(tmp_path, config, workers=1) as workers:
            workers.publish({})
            workers.wait_ready()
            received = talk(workers, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (b"\r\nconnection: close\r\n" in received) is (written == "0")


def test_what_is_switched_off_is_not_listened_to(tmp_path: Path):
    config = {"apisix": {"enable_admin": False, "enable_control": False}, "nginx_config": {"worker_processes": 2}}
    with Workers(tmp_path, config, workers=None) as workers:
        workers.publish({})
        workers.wait_ready()
        assert len(workers.cells()) == 2
        for port in (workers.admin_port, workers.control_port):
            with pytest.raises(ConnectionRefusedError):
                workers.request("/", port)


def test_an_upstreams_connections_are_used_as_often_as_said_there_or_else_here(tmp_path: Path, upstream: Upstream):
    config = {"nginx_config": {"http": {"upstream": {"keepalive_requests": 2}}}}
    nodes = {f"127.0.0.1:{upstream.port}": 1}
    with Workers(tmp_path, config, workers=1) as workers:
        workers.publish(
            {
                "1": {"uri": "/default", "upstream": {"nodes": nodes}},
                "2": {"uri": "/own", "upstream": {"nodes": nodes, "keepalive_pool": {"requests": 1}}},
            }
        )
        workers.wait_ready()
        ports = [workers.request("/default").json()["peer_port"] for _ in range(4)]
        assert ports[0] == ports[1] != ports[2] == ports[3]
        assert len({workers.request("/own").json()["peer_port"] for _ in range(2)}) == 2
