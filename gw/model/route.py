"""A route: which requests, and what happens to them. Built from dicts that `gw.schema.validate` has passed.

What the router needs of a route is read apart, by `gw.model.routing`, from the index and without this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from gw.model.references import reference
from gw.model.upstream import Timeout, Upstream


@dataclass(frozen=True, slots=True)
class Route:
    """Fields as written, the singular forms (`uri`, `host`, `remote_addr`) folded into the plural ones.

    Empty `hosts`, `methods`, `remote_addrs` and `vars` mean any. `status` 0: switched off. What a service or upstream
    adds is not in here; `gw.model.merge` puts them together.
    """

    id: str
    name: str | None
    uris: tuple[str, ...]
    hosts: tuple[str, ...]
    methods: tuple[str, ...]
    remote_addrs: tuple[str, ...]
    vars: Sequence[Any]
    filter_func: str | None
    priority: int
    status: int
    plugins: Mapping[str, Mapping[str, Any]]
    plugin_config_id: str | None
    script: str | None
    upstream: Upstream | None
    upstream_id: str | None
    service_id: str | None
    timeout: Timeout | None
    enable_websocket: bool | None
    labels: Mapping[str, str]

    @classmethod
    def from_dict(cls, id: str, route: Mapping[str, Any]) -> Self:
        upstream, timeout = route.get("upstream"), route.get("timeout")
        return cls(
            id=id,
            name=route.get("name"),
            uris=_one_or_many(route, "uri", "uris"),
            hosts=_one_or_many(route, "host", "hosts"),
            methods=tuple(route.get("methods", ())),
            remote_addrs=_one_or_many(route, "remote_addr", "remote_addrs"),
            vars=route.get("vars", ()),
            filter_func=route.get("filter_func"),
            priority=route["priority"],
            status=route["status"],
            plugins=route.get("plugins", {}),
            plugin_config_id=reference(route, "plugin_config_id"),
            script=route.get("script"),
            upstream=None if upstream is None else Upstream.from_dict(upstream),
            upstream_id=reference(route, "upstream_id"),
            service_id=reference(route, "service_id"),
            timeout=None if timeout is None else Timeout.from_dict(timeout),
            enable_websocket=route.get("enable_websocket"),
            labels=route.get("labels", {}),
        )


def _one_or_many(route: Mapping[str, Any], one: str, many: str) -> tuple[str, ...]:
    return tuple(route[many]) if many in route else (route[one],) if one in route else ()
