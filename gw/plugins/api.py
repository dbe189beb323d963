"""What a plugin is: a class; an instance is one validated configuration of it, made once per change.

    class Greeting(Plugin):
        name = "greeting"
        priority = 10

        def header_filter(self, ctx: Context) -> None:
            ctx.response.set_header("x-greeting", self.conf["text"])

Its JSON Schema is a data file (docs/plugins/writing.md says where). A class takes part in the phases that it has as
methods, plain or `async`:

    rewrite, access      before a node is chosen      -> None to go on, a Reply to answer now
    before_proxy         a node is chosen             -> None, or a Reply
    header_filter        the response's head is here  -> None; `ctx.response` may be changed
    body_filter(ctx, piece, is_last)                  -> the bytes to send instead (b"" holds them back)
    log                  the response is over         -> None

A method that raises ends the request with a 500, for this request alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gw.clock import Clock, SystemClock
from gw.pipeline.context import Context, Response
from gw.pipeline.reply import Reply, plugin_reply

__all__ = ["Context", "Environment", "Plugin", "Reply", "Response", "plugin_reply"]


def _no_metadata(_: str) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Environment:
    """What the worker lends to its plugins.

    `shared`: counters and values that all workers of the host share (gw.shared.store.SharedStore); `fetcher`: HTTP
    requests of a plugin's own (gw.upstream.fetch.Fetcher); `metadata`: a plugin's plugin_metadata resource as it is
    now, `{}` without one; `attr`: its section of `plugin_attr` in the configuration file; `spawn`: start a task that
    the worker owns, ends with, and whose failure it logs; with `patience_s`, a worker that stops lets it go on so long.
    `state`: what plugins keep once per worker; keys are theirs to keep apart.
    """

    loop: asyncio.AbstractEventLoop
    shared: Any = None
    fetcher: Any = None
    clock: Clock = field(default_factory=SystemClock)
    metadata: Callable[[str], Mapping[str, Any]] = _no_metadata
    attr: Callable[[str], Mapping[str, Any]] = _no_metadata
    spawn: Callable[..., asyncio.Task[Any]] | None = None
    state: dict[Any, Any] = field(default_factory=dict)


class Plugin:
    """Base of all plugins. `owner` is the resource the configuration was written in: `routes/1`.

    `only_reads_body`: the body filter looks at the response's body and never changes it, so that it keeps the length
    that was announced; what the method returns is ignored.

    `unconditional_phases` run also where `_meta.filter` does not hold, and do not ask it: its first answer counts for
    all phases, so a phase that only makes ready for a response must not ask before there is one.
    """

    name: ClassVar[str]
    priority: ClassVar[int]
    version: ClassVar[str] = "0.1"
    only_reads_body: ClassVar[bool] = False
    unconditional_phases: frozenset[str] = frozenset()

    def __init__(self, conf: Mapping[str, Any], env: Environment, owner: str) -> None:
        self.conf = conf
        self.env = env
        self.owner = owner
        self.prepare()

    def prepare(self) -> None:
        """Settle what can be settled before the first request. What it raises makes the route answer 500."""

    def close(self) -> None:
        """The configuration is gone: give back what `prepare` took. Requests under way may still call the phases."""
