"""What one group of measurements starts its servers with, and what a server that was started is known by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import Nginx

# Above what is held at once, and so that no connection ends while it is measured.
MOST_CONNECTIONS = 12_000
KEEPALIVE_S = 3600


@dataclass(frozen=True, slots=True)
class Scene:
    """`routes`: as APISIX writes them; empty for one that takes every path. `plugins`: of one more route each, by
    label; the route is `/plugins/<label>`. Both access logs are off unless `logs_access`."""

    directory: Path
    origin: Nginx
    workers: int = 1
    routes: list[dict[str, Any]] = field(default_factory=list)
    plugins: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    logs_access: bool = False

    @property
    def origin_port(self) -> int:
        """Where the server behind listens."""
        return self.origin.port


@dataclass(frozen=True, slots=True)
class Running:
    """A server that serves: where, and the processes whose CPU and memory count."""

    port: int
    pids: list[int]
