"""What a worker lends to its plugins, on the loop of a test: real connections, tasks that are owned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from gw.pipeline.gateway import Gateway
from gw.plugins.api import Environment
from gw.upstream.client import UpstreamClient
from gw.upstream.fetch import Fetcher


@contextlib.asynccontextmanager
async def environment(
    *,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    attr: Mapping[str, Mapping[str, Any]] | None = None,
    trusted_certificates: Path | None = None,
) -> AsyncIterator[Environment]:
    """`metadata` and `attr` by plugin; both may change while it is lent. Closed as a worker closes."""
    loop = asyncio.get_running_loop()
    upstreams = UpstreamClient(loop, trusted_certificates)
    owner = Gateway(None, upstreams, server_name="lender")  # type: ignore[arg-type]
    of_plugins = {} if metadata is None else metadata
    attrs = {} if attr is None else attr
    try:
        yield Environment(
            loop,
            fetcher=Fetcher(upstreams),
            metadata=lambda name: of_plugins.get(name, {}),
            attr=lambda name: attrs.get(name, {}),
            spawn=owner.spawn,
        )
    finally:
        await owner.close()
        await upstreams.close()
