"""Which upstream a route has once its service is put beside it, as in APISIX: the route wins.

Sources, Apache APISIX 3.x: `merge_service_route` in apisix/plugin.lua, `http_access_phase` and `handle_upstream` in
apisix/init.lua, `set_by_route` in apisix/upstream.lua. Pure: what is looked up elsewhere comes in as a callable, so
that the caller decides when and in which version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

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
        return Missing(404, f"failed to fetch service configuration by id: {route.service_id}")
    for holder in (route, service):
        if holder is None:
            continue
        if holder.upstream_id is not None:
            found = find_upstream(holder.upstream_id)
            return found or Missing(502, f"failed to find upstream by id: {holder.upstream_id}")
        if holder.upstream is not None:
            return holder.upstream
    return NO_UPSTREAM
