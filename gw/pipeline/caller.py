"""Who a request comes from: the consumer that an auth plugin found, and what upstreams are told of it.

The headers are the gateway's own word. What a client sends under these names never passes, in no spelling that a
backend may take for them, whether or not the route has an auth plugin (CVE-2026-39998 and its kin).

Source: attach_consumer in apisix/consumer.lua.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from gw.pipeline.context import Context, Request
from gw.pipeline.fields import Headers
from gw.pipeline.forwarded import spellings
from gw.pipeline.headers import note_origin_header

_USERNAME: Final = b"x-consumer-username"
_CREDENTIAL: Final = b"x-credential-identifier"
_CUSTOM_ID: Final = b"x-consumer-custom-id"


IDENTITY_HEADERS: Final = (_USERNAME, _CREDENTIAL, _CUSTOM_ID)
_SPELLINGS: Final = frozenset(spelling for name in IDENTITY_HEADERS for spelling in spellings(name))


# What stands for a secret that could not be resolved: to show the reference must not be enough (apisix#13667).
_REFERENCES: Final = ("$secret://", "$env://")


class Caller:
    """A consumer, and the credential by which it was known.

    `name` is the consumer's; `credential_id` is empty where the consumer itself holds what was shown, and for an
    anonymous one. `group_id` and `custom_id` (its label) are empty where it has none. `credentials`: the configurations
    of auth plugins that stand in the resource that was found, by plugin. `brings_plugins`: a route may have other
    plugins for it. `entry` is the consumer as the worker holds it: another one when it has changed.
    """

    __slots__ = ("brings_plugins", "credential_id", "credentials", "custom_id", "entry", "fields", "group_id", "name")

    def __init__(
        self,
        name: str,
        entry: object,
        *,
        group_id: str = "",
        custom_id: str = "",
        credential_id: str = "",
        credentials: Mapping[str, Mapping[str, Any]] | None = None,
        brings_plugins: bool = False,
    ) -> None:
        self.name = name
        self.entry = entry
        self.group_id = group_id
        self.custom_id = custom_id
        self.credential_id = credential_id
        self.credentials = {} if credentials is None else credentials
        self.brings_plugins = brings_plugins
        told = ((_USERNAME, name), (_CREDENTIAL, credential_id), (_CUSTOM_ID, custom_id))
        # The resources' schemas let no control characters into any of these.
        self.fields: Headers = [(header, value.encode()) for header, value in told if value]

    def __repr__(self) -> str:
        return f"<Caller {self.name!r} credential={self.credential_id!r}>"  # no credentials: it may be logged


def is_credential(value: Any) -> TypeGuard[str]:
    """Whether something can let anybody in: a text that is neither empty nor an unresolved reference."""
    return isinstance(value, str) and bool(value) and not value.lower().startswith(_REFERENCES)


def attach(ctx: Context, caller: Caller) -> None:
    """Let a request count as this consumer's from here on. The upstream is told who it is, and nothing that is not."""
    ctx.consumer = caller
    ctx.consumer_name = caller.name
    ctx.consumer_group_id = caller.group_id
    drop_identity(ctx.request)
    ctx.request.headers += caller.fields


def drop_identity(request: Request) -> None:
    """Take away what the client, or a consumer attached before, says of who it is."""
    headers = request.headers
    # PERF: most requests have none, and to look takes a tenth of making a list anew.
    for name, _ in headers:
        if name in _SPELLINGS:
            headers[:] = [pair for pair in headers if pair[0] not in _SPELLINGS]
            return


def watch_identity_headers() -> None:
    """Have `gw.pipeline.headers.admit` ask `locate` about requests with such a header, so that it can be dropped."""
    for name in _SPELLINGS:
        note_origin_header(name)
