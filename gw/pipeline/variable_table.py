"""What each variable reads: a table of names, and a table of prefixes (`http_`, `arg_`, ...).

Names and meanings are nginx's (ngx_http_variables.c, ngx_http_upstream.c, the realip module) and APISIX's own
(apisix/core/ctx.lua). A getter answers None where the variable has no value; that is `-` in a log, empty in a template.

Text is as everywhere in the pipeline: the path and arguments are UTF-8, what comes from header lines is latin-1, a
character for a byte. `wire_encoding` says which, for those who have to give the bytes back.

A refused request may lack its canonical fields (`path`, `host`): it is logged like any other, so getters do not rely on
them.
"""

from __future__ import annotations

import base64
import binascii
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from gw.clock import Clock
from gw.model.merge import Missing
from gw.pipeline.context import Attempt, Context

Getter: TypeAlias = Callable[[Context], str | None]
Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BASIC: Final = "basic "
_UNDERSCORE: Final = ord("_")  # as a number, since looking for bytes in bytes takes longer than to replace them
_PROTOCOLS: Final = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1", "2": "HTTP/2.0", "3": "HTTP/3.0"}
# PERF: numbers that every line has, written once: a look into a tuple takes a third of formatting one.
STATUSES: Final = tuple(f"{status:03d}" for status in range(1000))
MILLISECONDS: Final = tuple(f"{number / 1000:.3f}" for number in range(1001))
# nginx's `server_name` in APISIX's configuration: one server for all names.
_SERVER_NAME: Final = "_"


# Where a logger that keeps a response's body puts it among a request's `state`: a KeptBody.
RESPONSE_BODY: Final = "resp_body"


# The request.


def _uri(ctx: Context) -> str | None:
    return getattr(ctx.request, "path", None)


def _request_uri(ctx: Context) -> str:
    """Canonical path, and query: no spelling evades a condition. Source: http_access_phase in apisix/init.lua."""
    path = _uri(ctx)
    if path is None:
        return _real_request_uri(ctx)
    query = ctx.request.query
    return f"{path}?{query.decode('latin-1')}" if query else path


def _real_request_uri(ctx: Context) -> str:
    """nginx's $request_uri: as it came."""
    request = ctx.request
    raw = request.target + b"?" + request.query if request.query else request.target
    return raw.decode("latin-1")


def _request_line(ctx: Context) -> str:
    request = ctx.request
    return f"{request.method} {_real_request_uri(ctx)} {_PROTOCOLS.get(request.http_version, 'HTTP/?')}"


def _protocol(ctx: Context) -> str:
    return _PROTOCOLS.get(ctx.request.http_version, "HTTP/?")


def _args(ctx: Context) -> str | None:
    return ctx.request.query.decode("latin-1") or None


def _is_args(ctx: Context) -> str:
    return "?" if ctx.request.query else ""


def _host(ctx: Context) -> str | None:
    return getattr(ctx.request, "host", None) or None


def _server_port(ctx: Context) -> str:
    return _number(ctx.request.server_port)


def _number(number: int | None) -> str:
    """A port of a Unix socket, or one that a header did not tell, is empty text, as in nginx."""
    return "" if number is None else str(number)


def _remote_user(ctx: Context) -> str | None:
    """The user name of Basic credentials, whether or not somebody checked them; never the password."""
    written = joined(ctx.request.headers, b"authorization", b", ")
    if written is None or written[: len(_BASIC)].lower() != _BASIC:
        return None
    try:
        user, colon, _ = base64.b64decode(written[len(_BASIC) :].strip(), validate=True).partition(b":")
    except (ValueError, binascii.Error):
        return None
    return user.decode("latin-1") if colon else None


def _connection(ctx: Context) -> str:
    return str(ctx.request.link.number)


# The upstream. Values of several attempts are separated as nginx does.


def _of_attempts(show: Callable[[Attempt], str]) -> Getter:
    def get(ctx: Context) -> str | None:
        attempts = ctx.attempts
        if len(attempts) == 1:
            return show(attempts[0])
        return ", ".join(map(show, attempts)) if attempts else None

    return get


def _seconds(duration_s: float | None) -> str:
    if duration_s is None:
        return "-"
    return MILLISECONDS[int(duration_s * 1000 + 0.5)] if 0 <= duration_s < 1 else f"{duration_s:.3f}"


def _response_time(attempt: Attempt) -> str:
    return _seconds(attempt.ended_s - attempt.started_s) if attempt.ended_s else "-"


def _upstream_scheme(ctx: Context) -> str:
    return "https" if ctx.attempts and ctx.attempts[-1].node.target.tls is not None else "http"


def _upstream_host(ctx: Context) -> str | None:
    if ctx.upstream_host is not None:
        return ctx.upstream_host
    upstream = ctx.route.upstream if ctx.route is not None else None
    if ctx.attempts and upstream is not None and not isinstance(upstream, Missing):
        return upstream.host_header(ctx.request, ctx.attempts[-1].node).decode("latin-1")
    return joined(ctx.request.headers, b"host", b", ")


def _upstream_uri(ctx: Context) -> str:
    """Empty unless a plugin has set it, as in APISIX."""
    return (ctx.upstream_uri or b"").decode("latin-1")


def _balancer_ip(ctx: Context) -> str | None:
    return ctx.attempts[-1].address.rpartition(":")[0].strip("[]") if ctx.attempts else None


def _balancer_port(ctx: Context) -> str | None:
    return ctx.attempts[-1].address.rpartition(":")[2] if ctx.attempts else None


def _resp_body(ctx: Context) -> str | None:
    """What a logger has kept of the body, in its log phase; nothing where none keeps it."""
    kept = ctx.state.get(RESPONSE_BODY)
    return None if kept is None else bytes(kept).decode("utf-8", "surrogateescape")


# The table.

NAMED: Final[dict[str, Getter]] = {
    "uri": _uri,
    "document_uri": _uri,
    "request_uri": _request_uri,
    "real_request_uri": _real_request_uri,
    "request": _request_line,
    "request_line": _request_line,
    "request_method": lambda ctx: ctx.request.method,
    "method": lambda ctx: ctx.request.method,
    "args": _args,
    "query_string": _args,
    "is_args": _is_args,
    "host": _host,
    "scheme": lambda ctx: ctx.request.scheme,
    "https": lambda ctx: "on" if ctx.request.link.scheme == "https" else "",
    "server_protocol": _protocol,
    "server_name": lambda ctx: _SERVER_NAME,
    "server_addr": lambda ctx: ctx.request.link.server_addr or None,
    "server_port": _server_port,
    "remote_addr": lambda ctx: ctx.request.remote_addr,
    "remote_port": lambda ctx: _number(ctx.request.remote_port),
    "remote_user": _remote_user,
    "realip_remote_addr": lambda ctx: ctx.request.link.peer,
    "realip_remote_port": lambda ctx: _number(ctx.request.link.peer_port),
    "request_id": lambda ctx: ctx.request_id,
    "apisix_request_id": lambda ctx: ctx.request_id,
    "request_length": lambda ctx: str(ctx.received_bytes),
    "connection": _connection,
    "connection_requests": lambda ctx: str(ctx.request.connection_requests),
    # p for a pipelined request, which this gateway does not tell from others.
    "pipe": lambda ctx: ".",
    "status": lambda ctx: STATUSES[ctx.status],
    "bytes_sent": lambda ctx: str(ctx.sent_bytes),
    "body_bytes_sent": lambda ctx: str(ctx.body_sent_bytes),
    "upstream_addr": _of_attempts(lambda attempt: attempt.address),
    "upstream_status": _of_attempts(lambda attempt: STATUSES[attempt.status] if attempt.status else "-"),
    "upstream_connect_time": _of_attempts(lambda attempt: _seconds(attempt.connect_s)),
    "upstream_header_time": _of_attempts(lambda attempt: _seconds(attempt.header_s)),
    "upstream_response_time": _of_attempts(_response_time),
    "apisix_upstream_response_time": _of_attempts(_response_time),
    "upstream_scheme": _upstream_scheme,
    "upstream_host": _upstream_host,
    "upstream_uri": _upstream_uri,
    "balancer_ip": _balancer_ip,
    "balancer_port": _balancer_port,
    "resp_body": _resp_body,
    "route_id": lambda ctx: ctx.route_id or None,
    "route_name": lambda ctx: (ctx.route.name if ctx.route is not None else None) or None,
    "service_id": lambda ctx: ctx.service_id or None,
    "service_name": lambda ctx: (ctx.route.service_name if ctx.route is not None else None) or None,
    "consumer_name": lambda ctx: ctx.consumer_name or None,
    "consumer_group_id": lambda ctx: ctx.consumer_group_id or None,
    # What APISIX says of a request that no plugin for language models had to do with (apisix/cli/ngx_tpl.lua).
    "request_type": lambda ctx: "traditional_http",
    "request_llm_model": lambda ctx: "",
    "llm_model": lambda ctx: "",
    **dict.fromkeys(("llm_time_to_first_token", "llm_prompt_tokens", "llm_completion_tokens"), lambda ctx: "0"),
    # Of protocols that are not proxied here.
    "mqtt_client_id": lambda ctx: None,
    "redis_cmd_line": lambda ctx: None,
    "rpc_time": lambda ctx: None,
}


# By prefix.


def joined(headers: Pairs, name: bytes, separator: bytes) -> str | None:
    """All values of a header in one, as nginx since 1.23 shows them; None without the header."""
    found: bytes | None = None
    for each, value in headers:
        if each == name:
            found = value if found is None else found + separator + value
    return None if found is None else found.decode("latin-1")


def _in(read: Callable[[Context], Pairs], name: str) -> Getter:
    """A header by the end of its variable's name: `x_api_key` is `X-Api-Key`.

    A header that is written with underscores counts only where there is none with dashes, so that nobody can put a
    second value beside one that the gateway vouches for.
    """
    folded = name.lower().replace("-", "_").encode("latin-1", "replace")
    dashed = folded.replace(b"_", b"-")
    separator = b"; " if dashed == b"cookie" else b", "

    def get(ctx: Context) -> str | None:
        headers = read(ctx)
        value = joined(headers, dashed, separator)
        if value is None and dashed != folded:
            written = [(each.replace(b"-", b"_"), text) for each, text in headers if _UNDERSCORE in each]
            value = joined(written, folded, separator) if written else None
        return value

    return get


def header_of(variable: str) -> bytes | None:
    """The request header that a variable `http_x` reads, in lower case; None for other variables."""
    name = variable.removeprefix("http_")
    return None if name in ("", variable) else name.lower().replace("_", "-").encode("latin-1", "replace")


def header_behind(variable: str) -> bytes | None:
    """The request header without which a variable has no value, though it is not the header; None for the others."""
    if variable == "remote_user":
        return b"authorization"
    return b"cookie" if variable.startswith("cookie_") else None


def _request_headers(ctx: Context) -> Pairs:
    return ctx.request.headers


def _response_headers(ctx: Context) -> Pairs:
    return ctx.response_headers


def _upstream_headers(ctx: Context) -> Pairs:
    """As they are on their way to the client: what header filters changed shows here, too."""
    return _response_headers(ctx) if any(attempt.head_s for attempt in ctx.attempts) else ()


def _argument(name: str) -> Getter:
    def get(ctx: Context) -> str | None:
        values = ctx.request.args.get(name) if ctx.request.query else None
        return values[0] if values else None

    return get


def _cookie(name: str) -> Getter:
    """The last cookie of that name, as lua-resty-cookie, which APISIX asks."""
    wanted = name.encode("latin-1", "replace")

    def get(ctx: Context) -> str | None:
        found: bytes | None = None
        for each, value in ctx.request.headers:
            if each == b"cookie":
                for cookie in value.split(b";"):
                    key, equals, text = cookie.strip(b" \t").partition(b"=")
                    if equals and key == wanted:
                        found = text
        return None if found is None else found.decode("latin-1")

    return get


def _parameter(name: str) -> Getter:
    return lambda ctx: ctx.params.get(name) if ctx.params else None


PREFIXED: Final[dict[str, Callable[[str], Getter]]] = {
    "http_": lambda name: _in(_request_headers, name),
    "sent_http_": lambda name: _in(_response_headers, name),
    "upstream_http_": lambda name: _in(_upstream_headers, name),
    "arg_": _argument,
    "cookie_": _cookie,
    "uri_param_": _parameter,
}


# Of the moment, and of the process.


def clocked(clock: Clock) -> dict[str, Getter]:
    """Variables that tell the time."""

    def request_time(ctx: Context) -> str:
        return _seconds((ctx.ended_s or clock.monotonic()) - ctx.started_s)

    return {
        "msec": lambda ctx: f"{clock.wall():.3f}",
        "request_time": request_time,
        "time_local": _each_second(clock, _time_local),
        "time_iso8601": _each_second(clock, _time_iso8601),
    }


def _each_second(clock: Clock, show: Callable[[time.struct_time], str]) -> Getter:
    """Written once for all requests of a second."""
    second, text = -1, ""

    def get(ctx: Context) -> str:
        nonlocal second, text
        now = int(clock.wall())
        if now != second:
            second, text = now, show(time.localtime(now))
        return text

    return get


def _time_local(moment: time.struct_time) -> str:
    """`28/Sep/1970:12:00:00 +0600`, in English whatever the locale."""
    date = f"{moment.tm_mday:02d}/{_MONTHS[moment.tm_mon - 1]}/{moment.tm_year}"
    return f"{date}:{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d} {_offset(moment)}"


def _time_iso8601(moment: time.struct_time) -> str:
    """`1970-09-28T12:00:00+06:00`."""
    offset = _offset(moment)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}{offset[:3]}:{offset[3:]}"


def _offset(moment: time.struct_time) -> str:
    minutes = abs(moment.tm_gmtoff) // 60
    return f"{'-' if moment.tm_gmtoff < 0 else '+'}{minutes // 60:02d}{minutes % 60:02d}"


def of_process() -> dict[str, Getter]:
    """Variables that stay the same for as long as the process lives."""
    hostname, pid = socket.gethostname(), str(os.getpid())
    return {"hostname": lambda ctx: hostname, "pid": lambda ctx: pid}


_FROM_HEADER_LINES: Final = frozenset(
    (
        *("request", "request_line", "real_request_uri", "args", "query_string", "host", "remote_user"),
        *("content_type", "content_length", "upstream_host", "upstream_uri"),
    )
)
_HEADER_PREFIXES: Final = ("http_", "cookie_", "sent_http_", "upstream_http_")


def wire_encoding(name: str) -> str:
    """The encoding that gives a variable's bytes back: `latin-1`, or `utf-8` (with surrogateescape)."""
    return "latin-1" if name in _FROM_HEADER_LINES or name.startswith(_HEADER_PREFIXES) else "utf-8"
