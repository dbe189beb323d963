"""The control API of a worker process, over its socket."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path

from tests.support.waiting import DEADLINE_S, wait_until
from tests.support.workers import Workers

ROUTES = 10_000
UPSTREAM = {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}
# More than the kernel's buffers take while nobody reads, less than the whole answer.
GROWTH_BYTES = 2 << 20


def private_bytes(pid: int) -> int:
    """Without the pages of shared memory that reading a resource touches."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def test_many_routes_are_sent_a_piece_at_a_time(tmp_path: Path) -> None:
    with Workers(tmp_path, workers=1) as workers:
        workers.publish({str(n): {"uri": f"/r/{n}", "upstream": UPSTREAM, "desc": "d" * 200} for n in range(ROUTES)})
        workers.wait_ready()
        workers.wait_converged()
        (cell,) = workers.cells().values()
        first = workers.request("/v1/route/7", workers.control_port)
        assert first.json()["value"]["uri"] == "/r/7"
        before = private_bytes(cell.pid)
        connection = http.client.HTTPConnection("127.0.0.1", workers.control_port, timeout=DEADLINE_S)
        try:
            connection.request("GET", "/v1/routes")
            response = connection.getresponse()
            beginning = response.read(1 << 16)
            # The client does not read, the worker goes on serving, and does not hold the answer ready.
            for id in range(100):
                assert workers.request(f"/v1/route/{id}", workers.control_port).status == 200
            assert private_bytes(cell.pid) - before < GROWTH_BYTES
            whole = beginning + response.read()
        finally:
            connection.close()
        assert len(whole) > 2 * GROWTH_BYTES
        assert private_bytes(cell.pid) - before < GROWTH_BYTES
        items = json.loads(whole)
        assert [item["value"]["id"] for item in items] == sorted(map(str, range(ROUTES)))
        assert items[0].keys() == {"key", "value", "has_domain"}


def test_what_is_shown_is_what_is_served(tmp_path: Path) -> None:
    with Workers(tmp_path, workers=1) as workers:
        workers.publish({"1": {"uri": "/a", "upstream": UPSTREAM}})
        workers.wait_ready()
        workers.publish({"1": None, "2": {"uri": "/b", "upstream": UPSTREAM}})

        def ids() -> list[str]:
            return [item["value"]["id"] for item in workers.request("/v1/routes", workers.control_port).json()]

        wait_until(lambda: ids() == ["2"], what="the newest routes to be shown")
        assert workers.request("/v1/gc", workers.control_port, "POST").status == 200
        schema = workers.request("/v1/schema", workers.control_port).json()
        assert schema["plugins"]["request-id"]["priority"] == 12015
        reloaded = workers.request("/v1/plugins/reload", workers.control_port, "PUT")
        assert (reloaded.status, reloaded.body) == (200, b"done")
