"""What consistent hashing hashes of a request: `hash_on` and `key` of an upstream, settled to a callable.

Source: create_chash_hash_key in apisix/balancer/chash.lua: where the request has no such thing, its client's address.
"""

from collections.abc import Callable
from typing import Final

from gw.model.upstream import Upstream
from gw.pipeline.context import Context
from gw.pipeline.variables import compile_template, find_variable

HashKey = Callable[[Context], bytes]


def _no_key(_: Context) -> bytes:
    return b""


NO_KEY: Final[HashKey] = _no_key


def hash_key(upstream: Upstream) -> HashKey:
    """Where `key` names no variable that there is, the client's address is hashed."""
    key = upstream.key or ""
    if upstream.hash_on == "consumer":
        return lambda ctx: _encoded(ctx.consumer_name or ctx.request.remote_addr)
    if upstream.hash_on == "vars_combinations":
        template = compile_template(key)

        def combined(ctx: Context) -> bytes:
            text, values = template.resolve(ctx)
            return _encoded(text if values else ctx.request.remote_addr)

        return combined
    prefix = {"header": "http_", "cookie": "cookie_"}.get(upstream.hash_on, "")
    # A header is named as it is written, its variable with underscores.
    name = key.lower().replace("-", "_") if prefix == "http_" else key
    getter = find_variable(prefix + name)
    if getter is None:
        return lambda ctx: _encoded(ctx.request.remote_addr)
    return lambda ctx: _encoded(getter(ctx) or ctx.request.remote_addr)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
