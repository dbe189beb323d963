"""Where in a resource the secrets stand, and how to go over them. Plain functions; nothing is changed in place.

Three sorts of places: what a plugin's schema names in `encrypt_fields`, by the rules of APISIX's process_encrypt_field
(apisix/plugin.lua); the private keys of an SSL; and `tls.client_key` of an upstream, also of one inside another
resource. Of private keys only PEM text is ever encrypted (apisix/ssl.lua), so a reference to a secret stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final, TypeAlias

from gw.schema.plugin_schemas import PluginSchemas
from gw.schema.wording import Place, Step


class Sort(Enum):
    """What stands at a place, which decides how it is treated."""

    FIELD = "a field of a plugin"
    SSL_KEY = "a private key of an SSL"
    CLIENT_KEY = "the private key of an upstream"


# Given the sort, the place and the text; gives what is to stand there instead.
Change: TypeAlias = Callable[[Sort, Place, str], str]

_SSL_KEYS: Final = (("key",), ("keys",))
_CLIENT_KEY: Final = ("tls", "client_key")
_CLIENT_KEY_INSIDE: Final = ("upstream", "tls", "client_key")


def change_secrets(
    kind: str, id: str, resource: dict[str, Any], plugins: PluginSchemas, change: Change
) -> dict[str, Any]:
    """The resource with each secret in it changed. The same object when nothing was.

    A resource of any shape: what is not where a schema would have it is left alone.
    """
    if kind == "ssls":
        keys: dict[str, Any] = resource
        for path in _SSL_KEYS:
            keys = _changed(keys, path, (), lambda place, text: change(Sort.SSL_KEY, place, text))
        return keys
    if kind == "plugin_metadata":
        return _changed_conf(resource, kind, id, (), plugins, change)
    inside = _CLIENT_KEY if kind == "upstreams" else _CLIENT_KEY_INSIDE
    resource = _changed(resource, inside, (), lambda place, text: change(Sort.CLIENT_KEY, place, text))
    confs: Any = resource.get("plugins")
    if not isinstance(confs, dict):
        return resource
    changed = {
        name: _changed_conf(conf, kind, name, ("plugins", name), plugins, change)
        for name, conf in confs.items()
        if isinstance(conf, dict)
    }
    result: dict[str, Any] = _with(resource, {"plugins": _with(confs, changed)})
    return result


def _changed_conf(
    conf: dict[str, Any], kind: str, name: str, above: Place, plugins: PluginSchemas, change: Change
) -> dict[str, Any]:
    schema = plugins.schema_for(kind, name)
    for path in () if schema is None else schema.encrypt_fields:
        conf = _changed(conf, path, above, lambda place, text: change(Sort.FIELD, place, text))
    return conf


def _changed(value: Any, path: Sequence[str], above: Place, change: Callable[[Place, str], str]) -> Any:
    """`value` with the texts at the end of `path` changed: a text itself, or those in an array or object."""
    if not path:
        return _changed_leaf(value, above, change)
    if isinstance(value, list):
        items = {index: _changed(item, path, (*above, index), change) for index, item in enumerate(value)}
        return _with(value, items)
    if not isinstance(value, dict) or path[0] not in value:
        return value
    return _with(value, {path[0]: _changed(value[path[0]], path[1:], (*above, path[0]), change)})


def _changed_leaf(value: Any, above: Place, change: Callable[[Place, str], str]) -> Any:
    if isinstance(value, str):
        return change(above, value)
    items: Iterable[tuple[Step, Any]] = ()
    if isinstance(value, list):
        items = enumerate(value)
    elif isinstance(value, dict):
        items = value.items()
    return _with(value, {step: change((*above, step), item) for step, item in items if isinstance(item, str)})


def _with(value: Any, items: Mapping[Any, Any]) -> Any:
    """The array or object with these items; the same one when they are those that it has."""
    if all(value[step] is item for step, item in items.items()):
        return value
    copy = list(value) if isinstance(value, list) else dict(value)
    for step, item in items.items():
        copy[step] = item
    return copy
