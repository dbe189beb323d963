"""A gateway of real processes whose nodes are names: the settings reach the resolver, and moved names are followed."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support.dns_server import SERVFAIL, Records, dns_server
from tests.support.waiting import wait_until
from tests.support.workers import Workers


@contextlib.contextmanager
def node(host: str, port: int = 0) -> Iterator[int]:
    """A server that answers with the address it listens on. Yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(host)))
            self.end_headers()
            self.wfile.write(host.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((host, port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_a_moved_name_is_followed_and_an_outage_of_dns_is_not_noticed(tmp_path: Path) -> None:
    with dns_server() as dns, node("127.0.0.1") as port, node("127.0.0.2", port):
        dns.records["n.test"] = Records(a=["127.0.0.1"], ttl_s=3600)
        apisix = {"dns_resolver": [f"127.0.0.1:{dns.port}"], "dns_resolver_valid": 1, "resolver_timeout": 10}
        with Workers(tmp_path, {"apisix": apisix}, workers=1) as workers:
            upstream = {"type": "roundrobin", "nodes": {f"n.test:{port}": 1}}
            workers.publish({"1": {"uri": "/*", "upstream": upstream}})
            workers.wait_ready()

            def served_by() -> bytes:
                reply = workers.request("/")
                assert reply.status == 200
                return reply.body

            assert served_by() == b"127.0.0.1"
            dns.records["n.test"] = Records(a=["127.0.0.2"], ttl_s=3600)
            wait_until(lambda: served_by() == b"127.0.0.2", what="the new address serves, after the configured time")
            dns.behaviour[""] = SERVFAIL
            wait_until(lambda: "its last addresses serve on" in workers.output(), what="the failure is told")
            assert served_by() == b"127.0.0.2"
            dns.behaviour.clear()
            wait_until(lambda: "n.test is resolved again" in workers.output(), what="its end is told")
            assert workers.output().count("its last addresses serve on") == 1
