"""A service: what several routes have in common. Built from dicts that `gw.schema.validate` has passed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from gw.model.references import reference
from gw.model.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Service:
    """Hosts hold for routes that name none; plugins and upstream for routes that do not say otherwise."""

    id: str
    name: str | None
    hosts: tuple[str, ...]
    plugins: Mapping[str, Mapping[str, Any]]
    upstream: Upstream | None
    upstream_id: str | None
    enable_websocket: bool | None
    script: str | None
    labels: Mapping[str, str]

    @classmethod
    def from_dict(cls, id: str, service: Mapping[str, Any]) -> Self:
        upstream = service.get("upstream")
        return cls(
            id=id,
            name=service.get("name"),
            hosts=tuple(service.get("hosts", ())),
            plugins=service.get("plugins", {}),
            upstream=None if upstream is None else Upstream.from_dict(upstream),
            upstream_id=reference(service, "upstream_id"),
            enable_websocket=service.get("enable_websocket"),
            script=service.get("script"),
            labels=service.get("labels", {}),
        )
