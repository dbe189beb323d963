"""The line of a request, settled from access_log_format. Pure: a context in, text out.

The form is nginx's: `$name` and `${name}` of letters, digits and underscores; anything else is literal. A variable
without a value is `-`, or nothing with `json`.

With `json` the line is JSON whenever the format is, also where nginx's would not be: a variable that stands outside
quotes shows a number as it is, nothing as `null`, and anything else (`0.001, 0.002`) as a string.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, cast

from gw.access_log.compiled import Place, Shown, compile_line
from gw.access_log.escape import Escape, escape_default, escape_json
from gw.access_log.json_places import bare_places
from gw.pipeline.context import Context
from gw.pipeline.variable_table import header_behind, header_of, wire_encoding
from gw.pipeline.variables import Getter, find_variable

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))")
_JSON_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
# Made by the gateway of digits, letters and punctuation that no format escapes. The first are always there.
_ALWAYS_PLAIN: Final = frozenset(
    (
        *("remote_addr", "realip_remote_addr", "server_port", "server_protocol", "scheme", "pid", "pipe", "msec"),
        *("status", "bytes_sent", "body_bytes_sent", "request_length", "request_time", "request_id", "time_local"),
        *("time_iso8601", "connection_requests", "upstream_scheme"),
    )
)
_PLAIN: Final = frozenset(
    (
        *("upstream_addr", "upstream_status", "upstream_connect_time", "upstream_header_time"),
        *("upstream_response_time", "balancer_ip", "balancer_port", "connection"),
    )
)
# Header values repeat (Host, User-Agent): what they look like escaped is kept, for so many of so many bytes.
_MAX_REMEMBERED: Final = 1024
_MAX_REMEMBERED_BYTES: Final = 256

# nginx writes this log, and means by a name what APISIX calls otherwise everywhere else (apisix/init.lua).
_OF_NGINX: Final = {"request_uri": "real_request_uri"}


class LineFormat:
    """What one line is made of. Call it with a finished request; the text has its line end.

    `write` is what a call does, for who calls it for each request. `unknown`: names in the format that are no
    variables, for a person to be told.
    """

    __slots__ = ("_literals", "_places", "_remembered", "unknown", "write")

    def __init__(
        self, text: str, escape: str = "default", *, find: Callable[[str], Getter | None] = find_variable
    ) -> None:
        """`escape`: `default` or `json`."""
        matches = list(_VARIABLE.finditer(text))
        written = [match[1] or match[2] for match in matches]
        names = [_OF_NGINX.get(name, name) for name in written]
        bare = bare_places(text, _VARIABLE) if escape == "json" else [False] * len(names)
        ends = [0, *(match.end() for match in matches)]
        starts = [*(match.start() for match in matches), len(text)]
        self._literals = [text[end:start] for end, start in zip(ends, starts, strict=True)]
        self._literals[-1] += "\n"
        self.unknown = tuple(name for name in names if find(name) is None)
        self._places = [
            _place(name, find(name) or _nothing, escape, is_bare=is_bare)
            for name, is_bare in zip(names, bare, strict=True)
        ]
        self._remembered = _Remembered(_escape(escape, "latin-1"))
        self.write = compile_line(
            self._literals, self._places, self._remembered, partial(_spelled_out, self._literals, self._places)
        )

    def __call__(self, ctx: Context) -> str:
        return self.write(ctx)

    def spelled_out(self, ctx: Context) -> str:
        """The same, variable by variable."""
        return _spelled_out(self._literals, self._places, ctx)


def _spelled_out(literals: Sequence[str], places: Sequence[Place], ctx: Context) -> str:
    pieces = [literals[0]]
    for place, literal in zip(places, literals[1:], strict=True):
        pieces += (place.show(ctx), literal)
    return "".join(pieces)


class _Remembered(dict[bytes, str]):
    """Header values as the line shows them."""

    def __init__(self, escape: Escape) -> None:
        super().__init__()
        self._escape = escape

    def __missing__(self, raw: bytes) -> str:
        shown = self._escape(raw.decode("latin-1"))
        if len(raw) <= _MAX_REMEMBERED_BYTES:
            if len(self) >= _MAX_REMEMBERED:
                self.clear()
            self[raw] = shown
        return shown


def _place(name: str, get: Getter, escape: str, *, is_bare: bool) -> Place:
    missing = "null" if is_bare else "" if escape == "json" else "-"
    shown = _shown(name, get, missing, _escape(escape, wire_encoding(name)), is_bare=is_bare)
    header, is_header = header_of(name), not is_bare
    if header is None:
        header, is_header = header_behind(name), False
    return Place(name, shown, missing, header, is_header, is_bare)


def _shown(name: str, get: Getter, missing: str, escape: Escape, *, is_bare: bool) -> Shown:
    if is_bare:

        def bare(ctx: Context) -> str:
            value = get(ctx)
            if value is None:
                return missing
            return value if _JSON_NUMBER(value) else f'"{escape(value)}"'

        return bare
    if name in _ALWAYS_PLAIN:
        return cast(Shown, get)
    if name in _PLAIN:
        return lambda ctx: get(ctx) or missing

    def shown(ctx: Context) -> str:
        value = get(ctx)
        if value is None:
            return missing
        # PERF: gw.access_log.escape.is_harmless, here without two calls.
        if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
            return value
        return escape(value)

    return shown


def _escape(form: str, encoding: str) -> Escape:
    return escape_json(encoding) if form == "json" else escape_default(encoding)


def _nothing(ctx: Context) -> None:
    return None
