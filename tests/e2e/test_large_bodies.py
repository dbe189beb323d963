"""1 GiB through a real worker, up and down, and peers that take a byte at a time, in bounded memory."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support.gateway import Gateway, running_gateway
from tests.support.memory import forget_peak, peak_mb, resident_mb
from tests.support.slow_peers import OFFERED_BYTES, PATHS, Seen, run_slow_peers

GIB = 1 << 30
PIECE = bytes(1 << 20)
ALLOWED_GROWTH_BYTES = 64 * 1000 * 1000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), workers=1) as gateway:
        yield gateway


def peak_growth_bytes(pid: int, work: Callable[[], None]) -> float:
    """By how much the process ever exceeds, during `work`, what it holds now."""
    forget_peak(pid)
    before_mb = resident_mb(pid)
    work()
    return (peak_mb(pid) - before_mb) * (1 << 20)


def read_head(connection: socket.socket) -> bytes:
    """Everything up to the end of a request's head, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    return data


def serve_one(handle: Callable[[socket.socket], None]) -> tuple[int, threading.Thread]:
    """An upstream for one connection, in a thread: its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with listener:
            connection, _ = listener.accept()
            with connection:
                handle(connection)

    thread = threading.Thread(target=run)
    thread.start()
    return listener.getsockname()[1], thread


def test_a_download_of_1_gib(gateway: Gateway):
    def send(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
        for _ in range(GIB // len(PIECE)):
            connection.sendall(PIECE)

    port, thread = serve_one(send)
    gateway.put_route("down", "/down", port)
    assert gateway.gw("status", "--wait", "10").returncode == 0

    def download() -> None:
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        client.request("GET", "/down")
        response = client.getresponse()
        received = 0
        while piece := response.read(1 << 20):
            received += len(piece)
        client.close()
        assert received == GIB

    assert peak_growth_bytes(gateway.worker_pids()[0], download) < ALLOWED_GROWTH_BYTES
    thread.join(10)


def test_an_upload_of_1_gib(gateway: Gateway):
    counted = []

    def count(connection: socket.socket) -> None:
        received = len(read_head(connection).partition(b"\r\n\r\n")[2])
        while received < GIB:
            received += len(connection.recv(1 << 20))
        counted.append(received)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    port, thread = serve_one(count)
    gateway.put_route("up", "/up", port)
    assert gateway.gw("status", "--wait", "10").returncode == 0

    def upload() -> None:
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        pieces = (PIECE for _ in range(GIB // len(PIECE)))
        client.request("POST", "/up", pieces, {"Content-Length": str(GIB)})
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"ok")
        client.close()

    assert peak_growth_bytes(gateway.worker_pids()[0], upload) < ALLOWED_GROWTH_BYTES
    thread.join(10)
    assert counted == [GIB]


def test_slow_peers_hold_nobody_up_and_little_memory(gateway: Gateway):
    """Some of each of five kinds, two of which are offered far more than they take; longer: bench/slow_peers.py."""
    found: list[Seen] = []
    each = 10
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        for path in PATHS:
            gateway.put_route(path[1:], path, listener.getsockname()[1])
        assert gateway.gw("status", "--wait", "10").returncode == 0

        def run() -> None:
            found.append(asyncio.run(run_slow_peers(gateway.port, listener, each=each, tick_s=0.1, run_s=3)))

        growth_bytes = peak_growth_bytes(gateway.worker_pids()[0], run)
    (seen,) = found
    assert not seen.failed
    assert not seen.cut
    assert seen.fine > 10
    assert len(seen.moved) == 5
    assert all(moved >= each for moved in seen.moved.values()), seen
    assert growth_bytes < 2 * each * OFFERED_BYTES / 16, "of two kinds the gateway could have taken all that is offered"
    print(f"{growth_bytes=} {seen}")
