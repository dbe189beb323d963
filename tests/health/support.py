"""What the tests of health share: a clock moved by hand, and upstreams as a worker gets them."""

from __future__ import annotations

from typing import Any

from gw.model.keys import ResourceKey
from gw.model.upstream import Upstream
from gw.schema.validate import validate

KEY = ResourceKey("upstreams", "1")
A, B = "10.0.0.1:80", "10.0.0.2:80"
# Quick to change, and nothing that depends on a default.
CHECKS: dict[str, Any] = {
    "active": {
        "healthy": {"interval": 1, "successes": 2},
        "unhealthy": {"interval": 1, "http_failures": 2, "tcp_failures": 2, "timeouts": 2},
    },
    "passive": {
        "healthy": {"http_statuses": [200], "successes": 2},
        "unhealthy": {"http_statuses": [500], "http_failures": 2, "tcp_failures": 2, "timeouts": 2},
    },
}


class HandClock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    wall = cpu = monotonic


def upstream(nodes: dict[str, int] | None = None, checks: Any = CHECKS, **fields: Any) -> Upstream:
    """Validated, with every default of the schema."""
    written = {"nodes": {A: 1, B: 1} if nodes is None else nodes, "checks": checks, **fields}
    return Upstream.from_dict(validate("upstreams", "1", written))
