"""What is logged of a request: everything, in the form of APISIX's loggers, or the members that a format names.

The full form follows apisix/utils/log-util.lua (get_full_log), formats its get_custom_format_log: a value that begins
with `$` is a variable, others stand for themselves, objects nest five levels deep.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from gw import __version__
from gw.pipeline.context import Context
from gw.pipeline.fields import Headers
from gw.pipeline.variable_table import wire_encoding
from gw.pipeline.variables import find_variable

log: Final = logging.getLogger(__name__)

# (context) -> an object for JSON
Entry: TypeAlias = Callable[[Context], dict[str, Any]]
_Member: TypeAlias = Callable[[Context], Any]

MAX_DEPTH: Final = 5
# What stands in an entry without a route, and in every entry that a format makes.
NO_ROUTE: Final = "no-matched"
_SERVER: Final = {"hostname": socket.gethostname(), "version": __version__}


def full_entry(ctx: Context) -> dict[str, Any]:
    """Everything but bodies. `start_time` is in milliseconds since the epoch, the latencies in milliseconds."""
    request = ctx.request
    target = request.target + (b"?" + request.query if request.query else b"")
    uri = text_of(target)
    latency_ms = (ctx.ended_s - ctx.started_s) * 1000
    upstream_ms = sum(attempt.response_s or 0.0 for attempt in ctx.attempts) * 1000
    entry = {
        "request": {
            "url": f"{request.scheme}://{request.host}:{request.server_port}{uri}",
            "uri": uri,
            "method": request.method,
            "headers": _headers(request.headers),
            "querystring": {name: _one_or_all(values) for name, values in request.args.items()},
            "size": ctx.received_bytes,
        },
        "response": {"status": ctx.status, "headers": _headers(ctx.response_headers), "size": ctx.sent_bytes},
        "server": _SERVER,
        "service_id": ctx.service_id if ctx.route_id else request.host,
        "route_id": ctx.route_id or NO_ROUTE,
        "client_ip": request.remote_addr,
        "start_time": round(ctx.started_wall_s * 1000),
        "latency": round(latency_ms, 3),
        "apisix_latency": round(max(0.0, latency_ms - upstream_ms), 3),
    }
    if ctx.attempts:
        entry["upstream"] = ", ".join(attempt.address for attempt in ctx.attempts)
        entry["upstream_latency"] = round(upstream_ms, 3)
    if ctx.consumer_name:
        entry["consumer"] = {"username": ctx.consumer_name}
    return entry


def compile_format(members: Mapping[str, Any], owner: str) -> Entry:
    """What makes entries of a format, with `route_id` and `service_id` in them. `owner` is for the log."""
    make = _object(members, owner, 1)

    def entry(ctx: Context) -> dict[str, Any]:
        made = make(ctx)
        made["route_id"] = ctx.route_id or NO_ROUTE
        if ctx.service_id:
            made["service_id"] = ctx.service_id
        return made

    return entry


def extended(base: Entry, members: Mapping[str, Any], owner: str) -> Entry:
    """Entries of `base` with more members; what `base` has stays."""
    more = _object(members, owner, 1)
    return lambda ctx: {**more(ctx), **base(ctx)}


def text_of(data: bytes) -> str:
    """Bytes of a client as text that JSON can hold, whatever they are."""
    return data.decode("utf-8", "replace")


def _object(members: Mapping[str, Any], owner: str, depth: int) -> Entry:
    made = [(name, member) for name, value in members.items() if (member := _member(value, owner, depth)) is not None]

    def entry(ctx: Context) -> dict[str, Any]:
        return {name: value for name, member in made if (value := member(ctx)) is not None}

    return entry


def _member(value: Any, owner: str, depth: int) -> _Member | None:
    """None for what is left out."""
    if isinstance(value, Mapping):
        return _object(value, owner, depth + 1) if depth < MAX_DEPTH else None
    if not isinstance(value, str) or not value.startswith("$"):
        return lambda _: value
    return _variable(value[1:], owner)


def _variable(name: str, owner: str) -> _Member | None:
    if name == "request_body":
        return lambda ctx: text_of(ctx.kept_body) or None
    get = find_variable(name)
    if get is None:
        log.warning("log_format of %s: there is no variable %r; it is left out", owner, name)
        return None
    encoding = wire_encoding(name)

    def member(ctx: Context) -> str | None:
        value = get(ctx)
        if value is None or value.isascii():
            return value
        return text_of(value.encode(encoding, "surrogateescape" if encoding == "utf-8" else "replace"))

    return member


def _headers(headers: Headers) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for name, value in headers:
        key, text = text_of(name), text_of(value)
        before = found.get(key)
        if before is None:
            found[key] = text
        elif isinstance(before, list):
            before.append(text)
        else:
            found[key] = [before, text]
    return found


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else values
