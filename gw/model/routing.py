"""What the router needs of a route, so that an index can be built without decoding the route itself."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

# What a route may ask of a request that is not in the index: the route itself has to be read for that.
CONDITIONS: Final = ("remote_addr", "remote_addrs", "vars", "filter_func")


class RouteKey(NamedTuple):
    """The part of a route that decides where it stands in the index.

    A plain array in a snapshot's index and in records of the log: another field makes another gw.shm.layout.FORMAT.
    """

    uris: Sequence[str]
    hosts: Sequence[str]  # empty: any host, or the service's hosts
    methods: Sequence[str]  # empty: any method
    priority: int
    status: int  # 0: the route is switched off
    service_id: str | None  # its `hosts` hold for a route that names none
    is_conditional: bool  # asks for more than all that: see CONDITIONS


def route_key(route: Mapping[str, Any]) -> RouteKey:
    """Read a route key off a validated route (defaults filled in)."""
    service_id = route.get("service_id")
    return RouteKey(
        uris=route.get("uris") or [route["uri"]],
        hosts=route.get("hosts") or ([route["host"]] if route.get("host") else []),
        methods=route.get("methods") or [],
        priority=route.get("priority", 0),
        status=route.get("status", 1),
        service_id=None if service_id is None else str(service_id),
        is_conditional=any(route.get(name) for name in CONDITIONS),
    )
