"""forward-auth and http-logger in a whole gateway: an authorization service, a log server, workers that come and go."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.gateway import Gateway, running_gateway
from tests.support.upstream import running_upstream
from tests.support.waiting import wait_until


class Service:
    """Says who somebody is on GET /auth, and takes logs on POST /logs."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    service: Service

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == "alice's":
            self._answer(200, {"X-User-ID": "alice"})
        else:
            self._answer(401, {"WWW-Authenticate": "Custom"}, b"who are you?")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != "gateway's":
            self._answer(403, {})
            return
        self.service.entries += json.loads(body)
        self._answer(200, {})

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running_service() -> Iterator[Service]:
    service = Service()
    try:
        yield service
    finally:
        service.close()


def ask(gateway: Gateway, number: int, **headers: str) -> Any:
    return gateway.call(f"/{number}", headers={"X-User-ID": "mallory", **headers})


def test_who_may_pass_and_what_is_logged(tmp_path: Path) -> None:
    with running_service() as service, running_upstream() as upstream, running_gateway(tmp_path) as gateway:
        logger = {"uri": f"{service.url}/logs", "auth_header": "gateway's", "inactive_timeout": 1}
        auth = {
            "uri": f"{service.url}/auth",
            "request_headers": ["Authorization"],
            "upstream_headers": ["X-User-ID"],
            "client_headers": ["WWW-Authenticate"],
        }
        gateway.apply(
            {
                "global_rules_1": {"plugins": {"http-logger": logger}},
                "routes_1": {
                    "uri": "/*",
                    "plugins": {"forward-auth": auth},
                    "upstream": {"nodes": {f"127.0.0.1:{upstream.port}": 1}},
                },
            }
        )
        for number in range(10):
            refused = ask(gateway, number)
            assert (refused.status, refused.body) == (401, b"who are you?")
            assert refused.headers["www-authenticate"] == "Custom"
            passed = ask(gateway, number, Authorization="alice's")
            assert passed.status == 200
            assert passed.json()["headers"]["x-user-id"] == "alice"
        assert len(upstream.requests) == 10
        wait_until(lambda: len(service.entries) == 20, what="all entries to arrive")

        # What the metadata says holds from then on, and what waits in a worker that is stopped is not lost.
        gateway.apply({"plugin_metadata_http-logger": {"log_format": {"status": "$status", "uri": "$uri"}}})
        gateway.apply({"global_rules_1": {"plugins": {"http-logger": {**logger, "inactive_timeout": 3600}}}})
        service.entries.clear()
        for number in range(5):
            ask(gateway, number)
        assert service.entries == []
        gateway.stop()
        expected = [{"status": "401", "uri": f"/{number}", "route_id": "1"} for number in range(5)]
        assert sorted(service.entries, key=lambda entry: entry["uri"]) == expected
        assert "gateway's" not in gateway.output()


def test_an_entry_is_complete(tmp_path: Path) -> None:
    with running_service() as service, running_upstream() as upstream, running_gateway(tmp_path, workers=1) as gateway:
        logger = {"uri": f"{service.url}/logs", "auth_header": "gateway's", "batch_max_size": 2}
        logger |= {"include_req_body": True, "include_resp_body": True}
        nodes = {"nodes": {f"127.0.0.1:{upstream.port}": 1}}
        gateway.apply({"routes_1": {"uri": "/*", "plugins": {"http-logger": logger}, "upstream": nodes}})
        for body in (b"one", b"two"):
            assert gateway.call("/a", method="POST", body=body).status == 200
        wait_until(lambda: len(service.entries) == 2, what="the batch to arrive")
        entry = service.entries[1]
        assert (entry["request"]["method"], entry["request"]["uri"], entry["request"]["body"]) == ("POST", "/a", "two")
        assert json.loads(entry["response"]["body"])["body"] == "two"
        assert entry["upstream"] == f"127.0.0.1:{upstream.port}"
        assert entry["client_ip"] == "127.0.0.1"
