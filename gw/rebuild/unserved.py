"""What a route may ask for that this version does not do yet, and that must not be left out in silence.

A condition or a plugin is there to keep requests out or to change them. A route served without it would let in what
its owner keeps out, so such a route answers 500 for itself and is reported; an existing store loses nothing. (Whether a
plugin is there and can be prepared is found out in `gw.rebuild.instances`, and what of its conditions can be asked in
`gw.pipeline.route_condition`; both end the same way.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gw.model.route import Route
from gw.model.service import Service


def unserved(route: Route, service: Service | None) -> str | None:
    """Why the route cannot be served as it is meant; None when it can."""
    if route.script or (service is not None and service.script):
        return "script is not supported yet"
    return None


def unserved_meta(meta: Mapping[str, Any], *, has_filters: bool) -> str | None:
    """Why a plugin cannot run as its `_meta` asks; None when it can. `has_filters`: whether expressions are known."""
    if meta.get("filter") is not None and not has_filters:
        return "_meta.filter is not supported yet"
    if meta.get("pre_function") is not None:
        return "_meta.pre_function is not supported yet"
    return None
