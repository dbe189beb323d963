"""1 GiB through a real worker, up and down, in bounded memory."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, running_gateway

GIB = 1 << 30
PIECE = bytes(1 << 20)
ALLOWED_GROWTH_BYTES = 64 * 1000 * 1000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), workers=1) as gateway:
        yield gateway


def resident_bytes(pid: int, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def peak_growth_bytes(pid: int, work: Callable[[], None]) -> int:
    """By how much the process ever exceeds, during `work`, what it holds now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here on
    before = resident_bytes(pid, "VmRSS")
    work()
    return resident_bytes(pid, "VmHWM") - before


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
