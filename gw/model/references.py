"""Which resources refer to which. Ids may be written as strings or numbers, and are strings everywhere behind this.

Sources, Apache APISIX 3.x: `check_conf` and `delete_checker` in apisix/admin/*.lua, `put` in apisix/admin/resource.lua
(credentials), `check_upstream_conf` in apisix/upstream.lua (client certificates).
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from gw.model.keys import ResourceKey


class Reference(NamedTuple):
    """That a resource names another one. `is_required`: it may not be written while the other one is not there.

    Those that stand in a plugin's configuration are not required, since APISIX looks for them when a request comes.
    """

    key: ResourceKey
    is_required: bool
    is_in_plugin: bool = False


class _Field(NamedTuple):
    path: tuple[str, ...]
    kind: str


_UPSTREAM: Final = _Field(("upstream_id",), "upstreams")
_SERVICE: Final = _Field(("service_id",), "services")
_CERTIFICATE: Final = _Field(("upstream", "tls", "client_cert_id"), "ssls")
# In the order in which APISIX checks them, so that of several missing ones the same is named.
_FIELDS: Final[Mapping[str, tuple[_Field, ...]]] = {
    "routes": (_CERTIFICATE, _UPSTREAM, _SERVICE, _Field(("plugin_config_id",), "plugin_configs")),
    "services": (_CERTIFICATE, _UPSTREAM),
    "upstreams": (_Field(("tls", "client_cert_id"), "ssls"),),
    "consumers": (_Field(("group_id",), "consumer_groups"),),
    "stream_routes": (_CERTIFICATE, _UPSTREAM, _SERVICE, _Field(("protocol", "superior_id"), "stream_routes")),
}
# Kinds that others may name.
REFERRED: Final = frozenset({"consumers", "protos"}) | {
    field.kind for fields in _FIELDS.values() for field in fields
}


def reference(resource: Mapping[str, Any], field: str) -> str | None:
    """The id that a field of a validated resource refers to, None when the field is not there."""
    id = resource.get(field)
    return None if id is None else str(id)


def references_of(key: ResourceKey, value: Mapping[str, Any]) -> Iterator[Reference]:
    """What a resource refers to. `value` may be anything that a store holds: what is of another shape names nothing."""
    if key.kind == "credentials":
        yield Reference(ResourceKey("consumers", key.id.partition("/")[0]), is_required=True)
    for field in _FIELDS.get(key.kind, ()):
        id = _at(value, field.path)
        if _is_id(id):
            yield Reference(ResourceKey(field.kind, str(id)), is_required=True)
    for id in _split_to(value):
        yield Reference(ResourceKey("upstreams", id), is_required=False, is_in_plugin=True)
    id = _at(value, ("plugins", "grpc-transcode", "proto_id"))
    if _is_id(id):
        yield Reference(ResourceKey("protos", str(id)), is_required=False, is_in_plugin=True)


def _split_to(value: Mapping[str, Any]) -> Iterator[str]:
    """Upstreams that the traffic-split plugin of a resource names."""
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        for rule in value["plugins"]["traffic-split"]["rules"]:
            for target in rule["weighted_upstreams"]:
                if _is_id(id := target.get("upstream_id")):
                    yield str(id)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(step)
    return value


def _is_id(id: Any) -> bool:
    return type(id) in (str, int)
