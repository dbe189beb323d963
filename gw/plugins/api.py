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
from typing import Any, ClassVar, Protocol

from gw.clock import Clock, SystemClock
from gw.pipeline.caller import Caller, attach, is_credential
from gw.pipeline.context import Context, Response
from gw.pipeline.reply import Reply, plugin_reply

__all__ = [
    "Caller",
    "Consumers",
    "Context",
    "Environment",
    "Plugin",
    "Reply",
    "Response",
    "attach",
    "is_credential",
    "plugin_reply",
]


class Consumers(Protocol):
    """Who a request may come from: the consumers as they are now. Whom a plugin found, it hands to `attach`."""

    def by_credential(self, plugin: str, value: str) -> Caller | None:
        """Who has this in the plugin's `credential_field`, None when nobody has. Costs the same for 100,000 of them.

        What else there is to check stands in `Caller.credentials[plugin]`: compare it with hmac.compare_digest.
        """
        ...

    def by_name(self, name: str) -> Caller | None:
        """The consumer of this name, such as the one for anonymous requests; None when there is none."""
        ...


class NoConsumers:
    """For who lends plugins no consumers."""

    def by_credential(self, plugin: str, value: str) -> Caller | None:
        return None

    def by_name(self, name: str) -> Caller | None:
        return None


def _no_metadata(_: str) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Environment:
    """What the worker lends to its plugins.

    `shared`: counters and values that all workers of the host share (gw.shared.store.SharedStore); `fetcher`: HTTP
    requests of a plugin's own (gw.upstream.fetch.Fetcher); `metadata`: a plugin's plugin_metadata resource as it is
    now, `{}` without one; `attr`: its section of `plugin_attr` in the configuration file; `spawn`: start a task that
    the worker owns, ends with, and whose failure it logs; with `patience_s`, a worker that stops lets it go on so long.
    `state`: what plugins keep once per worker; keys are theirs to keep apart. `consumers`: who requests may come from.
    """

    loop: asyncio.AbstractEventLoop
    shared: Any = None
    fetcher: Any = None
    clock: Clock = field(default_factory=SystemClock)
    metadata: Callable[[str], Mapping[str, Any]] = _no_metadata
    attr: Callable[[str], Mapping[str, Any]] = _no_metadata
    spawn: Callable[..., asyncio.Task[Any]] | None = None
    state: dict[Any, Any] = field(default_factory=dict)
    consumers: Consumers = field(default_factory=NoConsumers)


class Plugin:
    """Base of all plugins. `owner` is the resource the configuration was written in: `routes/1`.

    `only_reads_body`: the body filter looks at the response's body and never changes it, so that it keeps the length
    that was announced; what the method returns is ignored.

    `unconditional_phases` run also where `_meta.filter` does not hold, and do not ask it: its first answer counts for
    all phases, so a phase that only makes ready for a response must not ask before there is one.

    `attaches_consumers`: its rewrite phase may find out which consumer a request comes from; `prepare` may say so, too.
    `credential_field`: it is an auth plugin, and this field of what consumers and credentials have under its name is
    that by which it finds them; no two of them may have the same.
    """

    name: ClassVar[str]
    priority: ClassVar[int]
    version: ClassVar[str] = "0.1"
    only_reads_body: ClassVar[bool] = False
    unconditional_phases: frozenset[str] = frozenset()
    attaches_consumers: bool = False
    credential_field: ClassVar[str | None] = None

    def __init__(self, conf: Mapping[str, Any], env: Environment, owner: str) -> None:
        self.conf = conf
        self.env = env
        self.owner = owner
        self.prepare()

    def prepare(self) -> None:
        """Settle what can be settled before the first request. What it raises makes the route answer 500."""

    def close(self) -> None:
        """The configuration is gone: give back what `prepare` took. Requests under way may still call the phases."""
