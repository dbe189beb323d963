"""What is measured: groups of loads, and who takes part in each. Data alone."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final

from bench.throughput.origin import SIZES, UP_ANSWER_BYTES
from bench.throughput.others import running_falcon, running_haproxy, running_nginx
from bench.throughput.ours import PLUGINS, running_gateway
from bench.throughput.scene import Running, Scene

REFERENCE: Final = "nginx"
# A server that gets the requests of the group routes and has one route for all: what many routes cost, in one round.
ONE_ROUTE: Final = ", 1 route"


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of request. `answer_bytes`: None where a plugin decides. `body`: the size sent, by its name.

    `connections`: requests in flight when the time is up are not counted though they took CPU, so large bodies have
    few. `every_route`: paths and hosts come from the scene's routes.
    """

    name: str
    path: str
    connections: int
    answer_bytes: int | None = None
    body: str = ""
    every_route: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Measurements with one setting of all servers. `loads` of nginx alone: its first one, in place of all."""

    name: str
    about: str
    loads: tuple[Load, ...]
    servers: tuple[str, ...]
    workers: int = 1
    many_routes: bool = False
    logs_access: bool = False
    plugins: bool = False


@dataclass(frozen=True, slots=True)
class Server:
    """How one is started, and what it needs: a program or a module, and how to install that.

    `is_lazy`: the first request to a route costs more than those that follow.
    """

    run: Callable[[Scene], AbstractContextManager[Running]]
    program: str = ""
    module: str = ""
    is_lazy: bool = False

    def missing(self) -> str:
        """What to install, empty when all is there."""
        if self.program and shutil.which(self.program) is None:
            return f"apt-get install {self.program}"
        if self.module and importlib.util.find_spec(self.module) is None:
            return "make .venv/.bench-installed"
        return ""


SERVERS: Final = {
    "nginx": Server(running_nginx, program="nginx"),
    "haproxy": Server(running_haproxy, program="haproxy"),
    "h1": Server(partial(running_gateway, edge="h1"), is_lazy=True),
    "asgi": Server(partial(running_gateway, edge="asgi"), is_lazy=True),
    "falcon+aiohttp": Server(running_falcon, module="aiohttp"),
    "h1" + ONE_ROUTE: Server(partial(running_gateway, edge="h1", one_route=True)),
    "asgi" + ONE_ROUTE: Server(partial(running_gateway, edge="asgi", one_route=True)),
}
_CONNECTIONS: Final = {"0": 32, "1k": 32, "100k": 16, "10m": 2}
_DOWN: Final = {name: Load(f"down {name}", f"/down/{name}", _CONNECTIONS[name], size) for name, size in SIZES.items()}
_UP: Final = {name: Load(f"up {name}", "/up", _CONNECTIONS[name], UP_ANSWER_BYTES, body=name) for name in SIZES}
_ALL: Final = tuple(name for name in SERVERS if not name.endswith(ONE_ROUTE))
_OURS: Final = ("nginx", "h1", "asgi")

GROUPS: Final = (
    Group("proxy", "GET, 1 KB, one route, one worker", (_DOWN["1k"],), _ALL),
    Group("bodies", "other bodies, down and up", (*(_DOWN[n] for n in ("0", "100k", "10m")), *_UP.values()), _ALL),
    Group("workers", "two workers", (_DOWN["1k"],), _ALL, workers=2),
    Group(
        "routes",
        "many routes, requests spread over all (falcon has no such prefixes)",
        (Load("every route", "/", 32, SIZES["1k"], every_route=True),),
        ("nginx", "haproxy", "h1", "h1" + ONE_ROUTE, "asgi", "asgi" + ONE_ROUTE),
        many_routes=True,
    ),
    Group("log", "access logs on (haproxy and falcon write none to a file)", (_DOWN["1k"],), _OURS, logs_access=True),
    Group(
        "plugins",
        "each plugin alone and three together, beside none",
        tuple(Load(label, f"/plugins/{label}", 32) for label in PLUGINS),
        _OURS,
        plugins=True,
    ),
)
IDLE: Final = "idle"
NAMES: Final = (*(group.name for group in GROUPS), IDLE)
