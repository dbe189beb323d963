"""The line of a request, settled from access_log_format. Pure: a context in, text out.

The form is nginx's: `$name` and `${name}` of letters, digits and underscores; anything else is literal. A variable
without a value is `-`, or nothing with `json`.

With `json` the line is JSON whenever the format is, also where nginx's would not be: a variable that stands outside
quotes shows a number as it is, nothing as `null`, and anything else (`0.001, 0.002`) as a string.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias, cast

from gw.access_log.escape import Escape, escape_default, escape_json
from gw.access_log.json_places import bare_places
from gw.pipeline.context import Context
from gw.pipeline.variable_table import header_behind, header_of, wire_encoding
from gw.pipeline.variables import Getter, find_variable

# What stands at a place of the line: escaped, never None.
Shown: TypeAlias = Callable[[Context], str]

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


class _Place(NamedTuple):
    """A variable in the format, at a place in the list of pieces. `header`: without it the variable has no value.

    `is_header`: it is that header's value, as it stands.
    """

    at: int
    show: Shown
    missing: str
    header: bytes | None
    is_header: bool


class LineFormat:
    """What one line is made of. Call it with a finished request; the text has its line end.

    `unknown`: names in the format that are no variables, for a person to be told.
    """

    # PERF: headers are looked up in one dict instead of a walk over them for each variable, and their values escaped
    # once instead of for each request; bench/access_log.py has the gain, test_the_short_way_agrees the meaning.
    __slots__ = ("_by_header", "_others", "_pieces", "_places", "_remembered", "unknown")

    def __init__(
        self, text: str, escape: str = "default", *, find: Callable[[str], Getter | None] = find_variable
    ) -> None:
        """`escape`: `default` or `json`."""
        bare = bare_places(text, _VARIABLE) if escape == "json" else None
        self._pieces: list[str] = []
        places: list[_Place] = []
        unknown: list[str] = []
        end = 0
        for number, match in enumerate(_VARIABLE.finditer(text)):
            name, is_bare = match[1] or match[2], bare is not None and bare[number]
            getter = find(name)
            if getter is None:
                unknown.append(name)
            self._pieces += (text[end : match.start()], "")
            places.append(_place(len(self._pieces) - 1, name, getter or _nothing, escape, is_bare=is_bare))
            end = match.end()
        self._pieces.append(text[end:] + "\n")
        self.unknown = tuple(unknown)
        self._places = tuple(places)
        self._by_header = tuple(
            (place.at, place.show, place.missing, place.header, place.is_header)
            for place in places
            if place.header is not None
        )
        self._others = tuple((place.at, place.show) for place in places if place.header is None)
        self._remembered = _Remembered(_escape(escape, "latin-1"))

    def __call__(self, ctx: Context) -> str:
        headers = ctx.request.headers
        fields = dict(headers)
        if len(fields) != len(headers):
            return self.spelled_out(ctx)
        pieces = self._pieces.copy()
        for at, show in self._others:
            pieces[at] = show(ctx)
        for at, show, missing, header, is_header in self._by_header:
            raw = fields.get(header)
            if raw is None:
                # With a dash in its name, it may be there with an underscore instead.
                pieces[at] = show(ctx) if b"-" in header else missing
            else:
                pieces[at] = self._remembered[raw] if is_header else show(ctx)
        return "".join(pieces)

    def spelled_out(self, ctx: Context) -> str:
        """The same, variable by variable: for a request that has a header twice."""
        pieces = self._pieces.copy()
        for place in self._places:
            pieces[place.at] = place.show(ctx)
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


def _place(at: int, name: str, get: Getter, escape: str, *, is_bare: bool) -> _Place:
    missing = "null" if is_bare else "" if escape == "json" else "-"
    shown = _shown(name, get, missing, _escape(escape, wire_encoding(name)), is_bare=is_bare)
    header, is_header = header_of(name), not is_bare
    if header is None:
        header, is_header = header_behind(name), False
    return _Place(at, shown, missing, header, is_header)


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
        return missing if value is None else escape(value)

    return shown


def _escape(form: str, encoding: str) -> Escape:
    return escape_json(encoding) if form == "json" else escape_default(encoding)


def _nothing(ctx: Context) -> None:
    return None
