"""When a gateway is ready, in APISIX's words."""

from __future__ import annotations

import falcon.testing
import pytest

from gw.control.status_app import readiness_problem, status_app
from gw.shm.layout import Cell, CellState


def cell(version: int = 1, state: CellState = CellState.SERVING) -> Cell:
    return Cell(state, pid=1, version=version)


EMPTY = cell(0, CellState.STARTING)
DRAINING = cell(3, CellState.DRAINING)


@pytest.mark.parametrize(
    ("expected", "live", "problem"),
    [
        (2, [(0, cell()), (1, cell())], None),
        (1, [(0, cell())], None),
        (0, [], "worker count: 0 but status report count: 0"),
        (2, [], "worker count: 2 but status report count: 0"),
        (16, [(n, cell()) for n in range(15)], "worker count: 16 but status report count: 15"),
        (2, [(0, cell()), (9, EMPTY)], "worker id: 9 has not received configuration"),
        # A reload: the old ones drain, the new ones are there or not.
        (2, [(0, DRAINING), (1, DRAINING), (2, cell()), (3, cell())], None),
        (2, [(0, DRAINING), (1, cell())], "worker count: 2 but status report count: 1"),
        (1, [(0, cell()), (1, EMPTY)], None),
        (2, [(0, cell()), (1, EMPTY), (2, EMPTY)], "worker id: 1 has not received configuration"),
    ],
)
def test_readiness(expected, live, problem):
    assert readiness_problem(expected, live) == problem


class Table:
    expected = 1

    def __init__(self, *cells: Cell) -> None:
        self.cells = cells

    def live(self):
        return iter(enumerate(self.cells))


@pytest.mark.parametrize(
    ("table", "path", "status", "answer"),
    [
        (Table(), "/status", 200, {"status": "ok"}),
        (Table(cell()), "/status/ready", 200, {"status": "ok"}),
        (Table(), "/status/ready", 503, {"status": "error", "error": "worker count: 1 but status report count: 0"}),
        (Table(), "/other", 404, {"error_msg": "404 Route Not Found"}),
    ],
)
def test_answers(table, path, status, answer):
    client = falcon.testing.TestClient(status_app(table))
    reply = client.simulate_get(path, host="127.0.0.1:7085")
    assert (reply.status_code, reply.json) == (status, answer)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7085", 200),
        ("10.1.2.3", 200),
        ("[::1]:7085", 200),
        ("localhost", 200),
        ("LocalHost:1", 200),
        ("this-host:7085", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("evil.example@127.0.0.1", 403),
        ("127.0.0.1/evil", 403),
        ("127.0.0.1:x", 403),
        ("", 403),
    ],
)
def test_host(host, status):
    client = falcon.testing.TestClient(status_app(Table(), {"This-Host"}))
    assert client.simulate_get("/status", host=host).status_code == status
