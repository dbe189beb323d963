"""Plugins of a test's own, put in order as the gateway does, on routes for tests.support.edge."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gw.pipeline.meta_filter import compile_filter
from gw.pipeline.phases import Instance, Phases, settle
from gw.pipeline.route import CompiledRoute
from gw.plugins.api import Environment, Plugin
from tests.support.edge import compiled, upstream_dict


def instance(
    cls: type[Plugin],
    conf: Mapping[str, Any] | None = None,
    env: Environment | None = None,
    *,
    owner: str = "routes/1",
    meta: Mapping[str, Any] | None = None,
) -> Instance:
    """One configuration of a plugin class."""
    made = cls(conf or {}, env or Environment(asyncio.get_running_loop()), owner)
    return Instance(made, cls.priority, owner, meta or {})


def chain(*plugins: Instance | type[Plugin], rules: tuple[Instance | type[Plugin], ...] = ()) -> Phases:
    """What a route with these plugins walks; `rules` are those of global rules."""
    return settle(
        [each if isinstance(each, Instance) else instance(each, owner="global_rules/1") for each in rules],
        [each if isinstance(each, Instance) else instance(each) for each in plugins],
        compile_filter,
    )


def walking(
    port: int, *plugins: Instance | type[Plugin], rules: tuple[Instance | type[Plugin], ...] = (), **upstream: Any
) -> CompiledRoute:
    """A route with these plugins to a node on this host."""
    return compiled("1", upstream_dict(port, **upstream)).walking(chain(*plugins, rules=rules))
