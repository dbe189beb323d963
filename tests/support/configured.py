"""An edge over a worker's own configuration: resources as the agent publishes them, all plugins of ours, real sockets.

    async with configured(tmp_path, {"routes/1": {...}, "consumers/jack": {...}}) as world:
        world.apply({"consumers/jack": None})
        answer = await world.ask("/", apikey="x")
        world.served[-1]                              # what the upstream got
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from gw.clock import SystemClock
from gw.model.keys import parse_store_key
from gw.pipeline.context import Context
from gw.pipeline.meta_filter import compile_filter
from gw.pipeline.origin import Origin
from gw.plugins.registry import Registry, load_registry
from gw.rebuild.state import ConfigState
from gw.settings.load import load_settings
from gw.settings.tree import OWN_PLUGINS
from gw.shared.store import SharedStore
from tests.support.edge import OK, Answer, Edge, Wire, edge, fields_of, get, scripted_upstream
from tests.support.lent import environment
from tests.support.workers import change

Resources = Mapping[str, Mapping[str, Any] | None]


class Configured:
    """`served`: the heads that the upstream got; `ended`: the exchanges that are over."""

    def __init__(self, state: ConfigState, port: int, served: list[bytes], ended: list[Context]) -> None:
        self.state = state
        self.served = served
        self.ended = ended
        self.edge: Edge
        self._port = port

    def apply(self, resources: Resources) -> None:
        """Take changes up as a worker does, keys as in a store. Routes without an upstream get the scripted one."""
        for name, resource in resources.items():
            key = parse_store_key(name)
            assert key is not None, name
            if key.kind == "routes" and resource is not None:
                resource = {"upstream": {"nodes": {f"127.0.0.1:{self._port}": 1}}, **resource}
            for _ in self.state.update([change(*key, resource)]):
                pass

    async def ask(self, path: str = "/", *headers: str, **named: str) -> Answer:
        """`headers` are lines; `named` are headers, too, with `_` for `-`."""
        lines = [*headers, *(f"{name.replace('_', '-')}: {value}" for name, value in named.items())]
        return await self.edge.ask(get(path, headers="".join(f"{line}\r\n" for line in lines)))

    def told(self, number: int = -1) -> dict[str, str]:
        """The headers of a request as the upstream got it."""
        fields = fields_of(self.served[number])
        assert len(dict(fields)) == len(fields), fields
        return dict(fields)

    def asked_for(self, number: int = -1) -> str:
        """Its target, as the upstream got it."""
        return self.served[number].split(b" ")[1].decode("latin-1")


@contextlib.asynccontextmanager
async def configured(
    directory: Path, resources: Resources, *, answer: bytes = OK, registry: Registry | None = None
) -> AsyncIterator[Configured]:
    """`answer`: the upstream's, to every request; `registry`: the plugins, ours if not said."""
    served: list[bytes] = []
    ended: list[Context] = []

    async def play(wire: Wire) -> None:
        while True:
            served.append(await wire.head())
            wire.send(answer)

    config = directory / "config.yaml"
    config.write_text("")
    state = ConfigState("radixtree_host_uri")
    registry = registry or load_registry(OWN_PLUGINS)
    shared = SharedStore.open(directory / "state", 4 << 20, SystemClock())
    try:
        async with scripted_upstream(play) as upstream, environment() as lent:
            env = dataclasses.replace(lent, shared=shared, metadata=state.metadata, consumers=state)
            state.use_plugins(registry.maker(env), compile_filter, registry.credential_fields)
            world = Configured(state, upstream.port, served, ended)
            world.apply(resources)
            locate = Origin.from_settings(load_settings(config))
            async with edge(state, ended=ended, locate=locate) as world.edge:
                yield world
            state.close()
    finally:
        shared.close()
