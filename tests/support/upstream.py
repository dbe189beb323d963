"""A real upstream server in a thread: answers with what it was asked, and slowly where told to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.waiting import DEADLINE_S


class Upstream:
    """A running server: its port, its name (in each answer), and what it has seen."""

    def __init__(self, name: str = "upstream") -> None:
        self.name = name
        self.requests: list[str] = []
        self.release = threading.Event()  # requests of /slow answer when this is set
        self.arrived = threading.Event()  # a request of /slow is here
        handler = type("Handler", (_Handler,), {"upstream": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name=name)
        self._thread.start()

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = DEADLINE_S
    upstream: Upstream

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # of a worker that was killed
            super().handle()

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.upstream.requests.append(self.path)
        if self.path.startswith("/slow"):
            self.upstream.arrived.set()
            self.upstream.release.wait(DEADLINE_S)
        answer = json.dumps(
            {
                "upstream": self.upstream.name,
                "peer_port": self.client_address[1],
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode("latin-1"),
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running_upstream(name: str = "upstream") -> Iterator[Upstream]:
    upstream = Upstream(name)
    try:
        yield upstream
    finally:
        upstream.close()
