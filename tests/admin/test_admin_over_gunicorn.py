"""The Admin API as it is reached in earnest: real workers, real agent, bytes on a socket."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from gw import __version__
from tests.support.admin import ROUTE
from tests.support.gateway import ADMIN_KEY, Gateway, running_gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Two workers on an empty SQLite store."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), workers=2) as started:
        yield started


def exchange(gateway: Gateway, request: bytes) -> bytes:
    """Everything that comes back on one connection until the gateway closes it."""
    with socket.create_connection(("127.0.0.1", gateway.admin_port), timeout=20) as connection:
        answer = b""
        try:
            connection.sendall(request)
            while piece := connection.recv(65536):
                answer += piece
        except (ConnectionResetError, BrokenPipeError):
            pass  # closed while it was still being sent to: what was answered before counts
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(line.split()[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.")]


def head(method: str, target: str, *more: str, key: str | None = ADMIN_KEY) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *more]
    lines += [] if key is None else [f"X-API-KEY: {key}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def test_headers(gateway: Gateway) -> None:
    reply = gateway.admin("PUT", "/routes/1", ROUTE)
    assert reply.status in (200, 201)
    assert reply.headers["server"] == f"Jitterway/{__version__}"
    assert reply.headers["x-api-version"] == "v3"
    assert reply.headers["content-type"] == "application/json"
    assert exchange(gateway, head("GET", "/apisix/admin/routes/1")).lower().count(b"\r\nserver:") == 1


@pytest.mark.parametrize(
    "target",
    [
        "/apisix/admin/routes",
        "/apisix/admin/../admin/routes",
        "/apisix/admin/%2e%2e/admin/routes",
        "//apisix/admin/routes",
        "http://127.0.0.1/apisix/admin/routes",
        "http://evil.example/apisix/admin/routes",
        "/",
    ],
)
def test_no_spelling_of_a_path_needs_no_key(gateway: Gateway, target: str) -> None:
    for method in ("GET", "PUT", "HEAD", "OPTIONS", "TRACE"):
        answer = exchange(gateway, head(method, target, "Content-Length: 0", key=None))
        assert statuses(answer)[0] in (400, 401, 403, 501), (method, answer[:200])
        assert b"/hello" not in answer


def test_a_body_that_says_it_is_too_long(gateway: Gateway) -> None:
    too_long = head("PUT", "/apisix/admin/routes/9", "Content-Length: 3000000")
    answer = exchange(gateway, too_long + b'{"uri":"/x"}')
    assert statuses(answer) == [413]
    assert gateway.admin("GET", "/routes/9").status == 404


def test_a_body_that_turns_out_too_long(gateway: Gateway) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (65536, b" " * 65536) for _ in range(40))
    request = head("PUT", "/apisix/admin/routes/9", "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"
    answer = exchange(gateway, request)
    assert statuses(answer) in ([413], []), "answered, or cut off in the middle of it; never stored"
    assert gateway.admin("GET", "/routes/9").status == 404
    assert gateway.admin("GET", "/routes").status == 200


def test_clients_of_all_workers_lose_no_update(gateway: Gateway) -> None:
    gateway.admin("PUT", "/routes/1", ROUTE)

    def patch(number: int) -> int:
        return gateway.admin("PATCH", "/routes/1", {"labels": {f"k{number}": "x"}}).status

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(patch, range(80))) == {200}
    labels = json.loads(gateway.admin("GET", "/routes/1").body)["value"]["labels"]
    assert set(labels) == {f"k{number}" for number in range(80)}


def test_the_traffic_port_is_not_the_admin_api(gateway: Gateway) -> None:
    for target in ("/apisix/admin/routes", f"http://127.0.0.1:{gateway.admin_port}/apisix/admin/routes"):
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=20) as connection:
            connection.sendall(head("GET", target))
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
        assert statuses(answer)[0] in (400, 404)
        assert b"modifiedIndex" not in answer
