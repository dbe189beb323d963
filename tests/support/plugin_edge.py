"""An edge whose one route has plugins, made as a worker makes them: configuration by schema, instance, phases."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import gw.schema
from gw.clock import Clock, SystemClock
from gw.model.route import Route
from gw.model.upstream import Upstream
from gw.pipeline.meta_filter import compile_filter
from gw.pipeline.phases import Instance, Phases, settle
from gw.pipeline.route import compile_route
from gw.pipeline.upstream import compile_upstream
from gw.plugins.api import Environment, Plugin
from gw.schema.plugin_schemas import PluginSchema
from tests.support.edge import Edge, Script, ScriptedUpstream, edge, scripted_upstream, upstream_dict

SCHEMAS = Path(gw.schema.__file__).parent / "plugins"


def checked(name: str, conf: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as the agent lets it pass, defaults filled in. Raises ValueError for one that it refuses."""
    path = SCHEMAS / f"{name}.json"
    value = copy.deepcopy(dict(conf))
    meta = value.pop("_meta", None)  # the same for all plugins, and none of the file's
    complaint = PluginSchema(json.loads(path.read_bytes()), path).complaint(value)
    if complaint is not None:
        raise ValueError(complaint.reason)
    return value if meta is None else {**value, "_meta": meta}


def instance(
    plugin: type[Plugin],
    conf: Mapping[str, Any],
    *,
    owner: str = "routes/1",
    clock: Clock | None = None,
    attr: Callable[[str], Mapping[str, Any]] = lambda name: {},
) -> Instance:
    """An instance, made on the running loop; `_meta` of the configuration is taken apart."""
    value = checked(plugin.name, conf)
    meta = value.pop("_meta", {})
    env = Environment(asyncio.get_running_loop(), clock=clock or SystemClock(), attr=attr)
    return Instance(plugin(value, env, owner), plugin.priority, owner, meta)


def phases(*instances: Instance, rules: tuple[Instance, ...] = ()) -> Phases:
    """What a route with these walks."""
    return settle(rules, instances, compile_filter)


@contextlib.asynccontextmanager
async def plugin_edge(
    settled: Phases, script: Script | None = None, **fields: Any
) -> AsyncIterator[tuple[Edge, ScriptedUpstream]]:
    """An edge with one route, everything to one scripted upstream (`fields`: of the upstream resource)."""
    route = Route.from_dict("1", {"uri": "/*", "priority": 0, "status": 1})
    async with scripted_upstream(script) as upstream:
        compiled = compile_upstream(Upstream.from_dict(upstream_dict(upstream.port, **fields)))
        async with edge({"/": compile_route(route, compiled, settled)}) as running:
            yield running, upstream
