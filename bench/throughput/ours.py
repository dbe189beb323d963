"""Our gateway in a scene, on either edge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any, Final

from bench.fill import fill_store
from bench.throughput.scene import KEEPALIVE_S, Running, Scene
from tests.support.gateway import Gateway

# From the store alone, with 100,000 routes on a machine that does other things.
_START_DEADLINE_S: Final = 240

_LIMIT: Final = {"count": 10**9, "time_window": 60, "rejected_code": 429, "key": "remote_addr", "policy": "local"}
_REWRITE: Final = {"uri": "/rewritten", "headers": {"set": {"X-Api-Version": "v1"}}}
_HEADER: Final = {"headers": {"set": {"X-Server": "gateway"}}}
# One request each, for the plugins that count or call; {origin} is filled in.
PLUGINS: Final[Mapping[str, dict[str, Any]]] = {
    "none": {},
    "request-id": {"request-id": {}},
    "proxy-rewrite": {"proxy-rewrite": _REWRITE},
    "limit-count": {"limit-count": _LIMIT},
    "response-rewrite-header": {"response-rewrite": _HEADER},
    "response-rewrite-body": {"response-rewrite": {"filters": [{"regex": "x{16}", "scope": "global", "replace": "y"}]}},
    "forward-auth": {"forward-auth": {"uri": "{origin}/auth", "request_headers": ["Authorization"]}},
    "http-logger": {"http-logger": {"uri": "{origin}/log", "batch_max_size": 1000}},
    "three": {"limit-count": _LIMIT, "proxy-rewrite": _REWRITE, "response-rewrite": _HEADER},
}


def missing_plugins(label: str) -> list[str]:
    """The plugins of a label that are declared here and not written yet, or not even declared."""
    modules = {entry.name: entry.module for entry in entry_points(group="gw.plugins")}
    return [name for name in PLUGINS[label] if name not in modules or find_spec(modules[name]) is None]


@contextlib.contextmanager
def running_gateway(scene: Scene, edge: str, *, one_route: bool = False) -> Iterator[Running]:
    """Ready, and stopped at the end; what it printed goes with the error where it does not start.

    `one_route`: that takes every path, whatever routes the scene has.
    """
    if one_route:
        scene = replace(scene, directory=scene.directory / "one", routes=[])
    config = {
        "gw": {"edge": edge},
        "nginx_config": {
            "http": {
                "enable_access_log": scene.logs_access,
                "keepalive_timeout": f"{KEEPALIVE_S}s",
                # nginx is given as much: opening a connection every 1,000 requests is no part of what is compared.
                "upstream": {"keepalive_requests": 10**9},
            },
        },
    }
    gateway = Gateway(scene.directory / edge, config, workers=scene.workers)
    data = gateway.directory / "data"
    data.mkdir(mode=0o700)
    fill_store(data, ((f"routes/{route.pop('id')}", route) for route in _routes(scene)))
    try:
        gateway.start(ready=False)
        gateway.wait_ready(_START_DEADLINE_S)
        yield Running(gateway.port, gateway.worker_pids())
    finally:
        try:
            gateway.stop()
        finally:
            gateway.kill()


def _routes(scene: Scene) -> Iterator[dict[str, Any]]:
    upstream = {"type": "roundrobin", "nodes": {f"127.0.0.1:{scene.origin_port}": 1}}
    for route in scene.routes:
        yield dict(route)
    if not scene.routes:
        yield {"id": "bench", "uri": "/*", "upstream": upstream}
    for label, plugins in scene.plugins.items():
        filled = _filled(plugins, f"http://127.0.0.1:{scene.origin_port}")
        yield {"id": f"plugins-{label}", "uri": f"/plugins/{label}", "plugins": filled, "upstream": upstream}


def _filled(value: Any, origin: str) -> Any:
    if isinstance(value, dict):
        return {name: _filled(each, origin) for name, each in value.items()}
    return value.replace("{origin}", origin) if isinstance(value, str) else value
