"""A line's format as one Python function: half of what a line costs variable by variable is calls.

PERF: bench/access_log.py has both, test_the_short_way_agrees holds them equal.

Nothing of the configuration becomes source: it is made of the expressions in this file and of names that stand for the
format's literals, its headers and its getters. `source` is what was compiled, for who wants to see it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, cast

from gw.pipeline.context import Context
from gw.pipeline.upstream import UpstreamRuntime
from gw.pipeline.variable_table import MILLISECONDS, STATUSES

Shown: TypeAlias = Callable[[Context], str]


class Place(NamedTuple):
    """A variable in the format. `show` gives what stands for it, `missing` is that of no value.

    `header`: without this request header it has no value; `is_header`: it is that header's value, as it stands.
    `is_bare`: outside the quotes of a JSON format.
    """

    name: str
    show: Shown
    missing: str
    header: bytes | None
    is_header: bool
    is_bare: bool


# Bytes that no form escapes.
_HARMLESS: Final = re.compile(rb"[!#-\[\]-~]+").fullmatch
# What `show` comes to in the usual case, else `show` itself ({0}). The values need no escape, or have it.
_SHORT: Final = {
    "remote_addr": "request.remote_addr",
    "scheme": "request.scheme",
    "request": "LINES[request.http_version] % (request.method, request.target.decode('ascii'))"
    " if not request.query and HARMLESS(request.target) and request.http_version in LINES else {0}(ctx)",
    "status": "STATUSES[ctx.status]",
    "request_time": "SECONDS[int((ctx.ended_s - ctx.started_s) * 1000 + 0.5)]"
    " if ctx.started_s <= ctx.ended_s < ctx.started_s + 1 else {0}(ctx)",
    "upstream_scheme": "'https' if attempts and attempts[-1].node.target.tls is not None else 'http'",
    "upstream_uri": "'' if ctx.upstream_uri is None else {0}(ctx)",
    "upstream_host": "remembered[ctx.route.upstream.host_header(request, attempts[-1].node)]"
    " if attempts and ctx.upstream_host is None and isinstance(ctx.route.upstream, UpstreamRuntime) else {0}(ctx)",
    "upstream_addr": "attempts[0].address if len(attempts) == 1 else {0}(ctx)",
    "upstream_status": "STATUSES[attempts[0].status] if len(attempts) == 1 and attempts[0].status else {0}(ctx)",
    "upstream_response_time": "SECONDS[int((attempts[0].ended_s - attempts[0].started_s) * 1000 + 0.5)]"
    " if len(attempts) == 1 and attempts[0].started_s <= attempts[0].ended_s < attempts[0].started_s + 1"
    " else {0}(ctx)",
}
# Whole numbers, which JSON takes as they are.
_NUMBERS: Final = {
    "bytes_sent": "ctx.sent_bytes",
    "body_bytes_sent": "ctx.body_sent_bytes",
    "request_length": "ctx.received_bytes",
}
_FRAME: Final = """\
def line(ctx, {names}):
    request = ctx.request
    headers = request.headers
    fields = dict(headers)
    if len(fields) != len(headers):
        return spelled_out(ctx)
    attempts = ctx.attempts
    return f"{body}"
"""


def compile_line(
    literals: Sequence[str], places: Sequence[Place], remembered: dict[bytes, str], spelled_out: Shown
) -> Shown:
    """The function for `literals` with `places` between them. `remembered` escapes the value of a header.

    `spelled_out` makes the line of a request that has a header twice.
    """
    names: dict[str, Any] = {
        "STATUSES": STATUSES,
        "LINES": {"1.1": "%s %s HTTP/1.1", "1.0": "%s %s HTTP/1.0"},
        "HARMLESS": _HARMLESS,
        "SECONDS": MILLISECONDS,
        "UpstreamRuntime": UpstreamRuntime,
        "remembered": remembered,
        "spelled_out": spelled_out,
    }
    body: list[str] = []
    for number, literal in enumerate(literals):
        names[f"literal{number}"] = literal
        body.append(f"{{literal{number}}}")
        if number < len(places):
            place = places[number]
            names |= {f"show{number}": place.show, f"header{number}": place.header, f"missing{number}": place.missing}
            names[f"spelling{number}"] = place.header and place.header.replace(b"-", b"_")
            body.append(f"{{{_expression(place, number)}}}")
    # As arguments with a default: what a function finds among its own variables it finds faster than among globals.
    own = ", ".join(f"{name}={name}" for name in names)
    source = _FRAME.replace("{names}", own).replace("{body}", "".join(body))
    exec(compile(source, "<access_log_format>", "exec"), names)  # noqa: S102 - see above: no configuration in it
    line = cast(Shown, names["line"])
    line.__doc__ = source
    return line


def _expression(place: Place, number: int) -> str:
    show = f"show{number}"
    if place.header is not None:
        value = f"remembered[fields[header{number}]]" if place.is_header else f"{show}(ctx)"
        # With a dash in its name, it may be there with an underscore instead; with several, in many spellings.
        dashes = place.header.count(b"-")
        otherwise = f"{show}(ctx)" if dashes else f"missing{number}"
        if dashes == 1 and place.is_header:
            otherwise = f"missing{number} if spelling{number} not in fields else {otherwise}"
        return f"{value} if header{number} in fields else {otherwise}"
    short = _NUMBERS.get(place.name) or (None if place.is_bare else _SHORT.get(place.name))
    return f"{show}(ctx)" if short is None else short.format(show)
