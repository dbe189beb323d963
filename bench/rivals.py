"""Routers of other Python frameworks, as far as they can express the routes of bench.routeset.

| router | how it finds a route | what it cannot express |
|---|---|---|
| falcon | a tree, written as Python and compiled | hosts, methods, priority, prefixes that end inside a segment |
| werkzeug (Flask) | a tree of segments with regular expressions | priority; a prefix's rest may not begin with `/` |
| starlette (FastAPI) | one regular expression after the other | priority, other than by order: longest prefix first |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from bench.routeset import KINDS


class Rival(Protocol):
    """One router. `kinds` are those of bench.routeset that it can express."""

    kinds: tuple[str, ...]

    def add(self, route: dict[str, Any]) -> None: ...

    def ready(self) -> None:
        """What it does between the last route and the first request."""

    def match(self, path: str, host: str, method: str) -> str | None:
        """The id of the route that answers."""


class Falcon:
    kinds = ("exact", "parameters")

    def __init__(self) -> None:
        from falcon.routing import CompiledRouter

        self._router = CompiledRouter()

    def add(self, route: dict[str, Any]) -> None:
        self._router.add_route(_with_parameters(route["uri"], "{%s}"), _Resource(route["id"]))

    def ready(self) -> None:
        self._router.find("/")  # compiles

    def match(self, path: str, host: str, method: str) -> str | None:
        found = self._router.find(path)
        return None if found is None else found[0].id


class _Resource:
    def __init__(self, id: str) -> None:
        self.id = id

    def on_get(self, request: object, response: object, **parameters: str) -> None: ...


class Werkzeug:
    kinds = KINDS

    def __init__(self) -> None:
        from werkzeug.exceptions import HTTPException
        from werkzeug.routing import Map, Rule

        self._map = Map(host_matching=True, strict_slashes=False, merge_slashes=False)
        self._rule = Rule
        self._nothing = HTTPException

    def add(self, route: dict[str, Any]) -> None:
        path = _with_rest(_with_parameters(route["uri"], "<%s>"), "<path:rest>")
        for host in route.get("hosts", ["<any_host>"]):
            self._map.add(self._rule(path, endpoint=route["id"], methods=route.get("methods"), host=host))

    def ready(self) -> None:
        self._map.update()

    def match(self, path: str, host: str, method: str) -> str | None:
        try:
            return self._map.bind(host).match(path, method)[0]
        except self._nothing:
            return None


class Starlette:
    kinds = KINDS

    def __init__(self) -> None:
        from starlette import routing

        self._routing = routing
        self._routes: list[Any] = []

    def add(self, route: dict[str, Any]) -> None:
        path = _with_rest(_with_parameters(route["uri"], "{%s}"), "{rest:path}")
        methods = route.get("methods", ["GET"])
        made = self._routing.Route(path, _endpoint, methods=methods, name=route["id"])
        for host in route.get("hosts", ()):
            made = self._routing.Host(host, self._routing.Router([made]), name=route["id"])
        self._routes.append(made)

    def ready(self) -> None:
        """Its routes are tried in this order."""

    def match(self, path: str, host: str, method: str) -> str | None:
        headers = [(b"host", host.encode())]
        scope = {"type": "http", "path": path, "root_path": "", "method": method, "headers": headers}
        return self._first(self._routes, scope)

    def _first(self, routes: Iterable[Any], scope: dict[str, Any]) -> str | None:
        """The loop of starlette.routing.Router.app, without what it does with the answer."""
        full = self._routing.Match.FULL
        for route in routes:
            match, child = route.matches(scope)
            if match is full:
                if isinstance(route, self._routing.Host):
                    return self._first(route.routes, {**scope, **child})
                return route.name
        return None


async def _endpoint(request: object) -> None: ...


RIVALS: dict[str, Callable[[], Rival]] = {"falcon": Falcon, "werkzeug": Werkzeug, "starlette": Starlette}


def in_order_of_precedence(routes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The longest first, for routers that take the first match; nothing to the others."""
    return sorted(routes, key=lambda route: len(route["uri"]), reverse=True)


def _with_parameters(uri: str, form: str) -> str:
    return "/".join(form % segment[1:] if segment.startswith(":") else segment for segment in uri.split("/"))


def _with_rest(uri: str, rest: str) -> str:
    return uri[:-1] + rest if uri.endswith("*") else uri
