"""What a router must answer, without an index: every route is asked, and the order is a key that can be read.

Independent of gw.router: patterns become plain regular expressions, hosts are compared as they are written.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from gw.model.routing import RouteKey


class Route(NamedTuple):
    """`asks`: what a request must be, where the key says that the route is conditional."""

    id: str
    key: RouteKey
    hosts: tuple[str, ...]
    asks: Callable[[Any], bool] = lambda request: True

    @property
    def routing(self) -> RouteKey:
        """The key with the hosts, as a route that goes in unopened has it."""
        return self.key._replace(hosts=self.hosts)


def routing_key(
    uris: Sequence[str] = ("/x",),
    methods: Sequence[str] = (),
    priority: int = 0,
    status: int = 1,
    is_conditional: bool = False,
) -> RouteKey:
    return RouteKey(uris, (), methods, priority, status, None, is_conditional)


@cache
def head_of(uri: str, parameters: bool) -> str:
    """Up to the first star or parameter segment."""
    special = re.search(r"\*|(?:(?<=/)|^):" if parameters else r"\*", uri)
    return uri[: special.start()] if special else uri


@cache
def regex_of(uri: str, parameters: bool) -> re.Pattern[str]:
    segments = []
    all_segments = uri.split("/")
    for number, segment in enumerate(all_segments):
        last = number == len(all_segments) - 1
        if parameters and segment.startswith(":"):
            segments.append("([^/]+)")
        elif segment.startswith("*") and (last or len(segment) > 1 or number):
            # A star that starts a segment takes the rest of the segment as its name.
            segments.append("(.*)")
        elif last and segment == "?" and head_of(uri, parameters) != uri:
            segments[-1] += "/?"
        else:
            segments.append(".*".join(re.escape(part) for part in segment.split("*")))
    return re.compile("/".join(segments) + r"\Z", re.DOTALL)


def host_step(hosts: Sequence[str], host: str) -> tuple[int, int] | None:
    """How near a route's hosts come to a host: (0, 0) equal, (1, -length) wildcard, (2, 0) any; None: not at all."""
    if not hosts:
        return (2, 0)
    if host in hosts:
        return (0, 0)
    suffixes = [pattern[1:] for pattern in hosts if pattern.startswith("*")]
    lengths = [len(suffix) for suffix in suffixes if host.endswith(suffix)]
    return (1, -max(lengths)) if lengths else None


def ordered(routes: Sequence[Route], mode: str, path: str, host: str) -> list[tuple[str, str]]:
    """(id, uri) of all candidates of any method, in the order in which they are tried."""
    parameters = mode == "radixtree_uri_with_parameter"
    found = []
    for route in routes:
        step = host_step([pattern.lower() for pattern in route.hosts], host)
        if route.key.status == 0 or step is None:
            continue
        for uri in set(route.key.uris):
            if not regex_of(uri, parameters).match(path):
                continue
            head = head_of(uri, parameters)
            exact = head == uri
            found.append(
                (
                    step if mode == "radixtree_host_uri" else (0, 0),
                    0 if exact else 1,
                    -len(head),
                    -route.key.priority,
                    -len(uri.encode()),
                    route.id,
                    uri,
                )
            )
    return [(entry[-2], entry[-1]) for entry in sorted(found)]


def answer(
    routes: Sequence[Route], mode: str, path: str, host: str, method: str, request: Any = None
) -> tuple[str, str] | None:
    by_id = {route.id: route for route in routes}
    for id, uri in ordered(routes, mode, path, host):
        route = by_id[id]
        if (not route.key.methods or method in route.key.methods) and route.asks(request):
            return id, uri
    return None
