"""Which upstream and which plugins a route has once its parents are put beside it, as in APISIX: the route wins.

Sources, Apache APISIX 3.x: `merge_service_route`, `merge_consumer_route` and `filter` in apisix/plugin.lua, `merge` in
apisix/plugin_config.lua, `http_access_phase` and `handle_upstream` in apisix/init.lua, `set_by_route` in
apisix/upstream.lua. Pure: what is looked up elsewhere comes in as a callable, so that the caller decides when and in
which version.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from gw.model.consumer import Consumer, ConsumerGroup
from gw.model.keys import ResourceKey
from gw.model.plugin_config import PluginConfig
from gw.model.route import Route
from gw.model.service import Service
from gw.model.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a route relies on is not there. A request for the route is answered `status`.

    `reason` is for the log, in APISIX's words, and not for the client.
    """

    status: int
    reason: str


# apisix/upstream.lua, set_by_route
NO_UPSTREAM: Final = Missing(503, "missing upstream configuration in Route or Service")


def effective_upstream(
    route: Route, service: Service | None, find_upstream: Callable[[str], Upstream | None]
) -> Upstream | Missing:
    """The upstream of a route, or what to answer when there is none.

    `service` is the one that `route.service_id` names, None when it is not there or the route names none. In order:

    1. a service that is named but not there: 404, whatever upstream the route has (init.lua, http_access_phase);
    2. the route's `upstream_id`, then its `upstream`, then the service's `upstream_id`, then its `upstream`: an id goes
       before an upstream written beside it (APISIX's t/config-center-yaml/route-upstream.t, "upstream_id priority
       upstream"), and either of the route's before either of the service's (plugin.lua);
    3. an `upstream_id` that names nothing: 502, without falling back to the next (init.lua, handle_upstream);
    4. none of them: 503.
    """
    if route.service_id is not None and service is None:
        return _missing_service(route.service_id)
    for holder in (route, service):
        if holder is None:
            continue
        if holder.upstream_id is not None:
            found = find_upstream(holder.upstream_id)
            return found or Missing(502, f"failed to find upstream by id: {holder.upstream_id}")
        if holder.upstream is not None:
            return holder.upstream
    return NO_UPSTREAM


class Layer(NamedTuple):
    """The plugins that one resource brings. `owner` is that resource."""

    owner: ResourceKey
    plugins: Mapping[str, Mapping[str, Any]]


class PluginConf(NamedTuple):
    """One plugin's configuration, without its `_meta`, and where it was written."""

    name: str
    conf: Mapping[str, Any]
    meta: Mapping[str, Any]
    owner: ResourceKey


def merge_plugins(layers: Iterable[Layer]) -> tuple[PluginConf, ...]:
    """The plugins of a route from those of the resources it is made of, the one that counts most first; by name.

    Of a plugin that several layers have, the first configuration counts as a whole: nothing of the others is mixed in.
    With `_meta.disable` it says that the plugin does not run, whatever the layers behind it say. APISIX's layers are
    consumer, consumer group, route, plugin config, service. A global rule is merged alone, and runs beside a route's.
    """
    first: dict[str, PluginConf] = {}
    for owner, plugins in layers:
        for name, written in plugins.items():
            if name not in first:
                conf = {field: value for field, value in written.items() if field != "_meta"}
                first[name] = PluginConf(name, conf, written.get("_meta") or {}, owner)
    return tuple(first[name] for name in sorted(first) if not first[name].meta.get("disable"))


def missing_parent(route: Route, plugin_config: PluginConfig | None, service: Service | None) -> Missing | None:
    """What a route answers before any of its plugins, because something that it names is not there.

    `plugin_config` and `service` are those that the route names, None when one is not there or it names none. In the
    order of http_access_phase in init.lua.
    """
    if route.plugin_config_id is not None and plugin_config is None:
        return Missing(503, f"failed to fetch plugin config by id: {route.plugin_config_id}")
    if route.service_id is not None and service is None:
        return _missing_service(route.service_id)
    return None


def plugin_layers(route: Route, plugin_config: PluginConfig | None, service: Service | None) -> tuple[Layer, ...]:
    """What `merge_plugins` takes for a route and those of its parents that are there."""
    layers = [Layer(ResourceKey("routes", route.id), route.plugins)]
    if plugin_config is not None:
        layers.append(Layer(ResourceKey("plugin_configs", plugin_config.id), plugin_config.plugins))
    if service is not None:
        layers.append(Layer(ResourceKey("services", service.id), service.plugins))
    return tuple(layers)


def missing_group(group_id: str) -> Missing:
    """What a request is answered whose consumer names a group that is not there (http_access_phase in init.lua)."""
    return Missing(503, f"failed to fetch consumer group config by id: {group_id}")


def consumer_layers(
    consumer: Consumer, group: ConsumerGroup | None, auth_plugins: Container[str]
) -> tuple[Layer, ...]:
    """What `merge_plugins` takes, before a route's layers, once it is known whose request it is.

    What a consumer has for an auth plugin is how it is recognised, and no configuration to run a request by: in the
    place of the route's it would ask for a credential in another way than the one that was just shown. A group has no
    credentials, but no auth plugin runs a second time for it either (the phase rewrite_in_consumer in plugin.lua).
    """
    layers = [Layer(ResourceKey("consumers", consumer.username), consumer.plugins)]
    if group is not None:
        layers.append(Layer(ResourceKey("consumer_groups", group.id), group.plugins))
    return tuple(
        Layer(owner, {name: conf for name, conf in plugins.items() if name not in auth_plugins})
        for owner, plugins in layers
    )


def _missing_service(id: str) -> Missing:
    return Missing(404, f"failed to fetch service configuration by id: {id}")
