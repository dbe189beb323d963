"""What a request asks its upstream for, made from a template or from its own path: canonical again, or refused.

A request's path has two spellings (gw.pipeline.path). Expressions and variables see the decoded one; what leaves is
encoded again, here, piece by piece: what the configuration wrote is taken as written, what a request brought in is
encoded. So a `?` of the configuration begins the query and one of a request never does, and no value of a request can
end the path, add an argument or lead out of a directory: a path with dot segments is refused (BadTarget).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from gw.expr import ExpressionError
from gw.expr.pattern import compile_pattern
from gw.expr.replacement import Parts, parse_replacement
from gw.pipeline.context import Context
from gw.pipeline.path import BadTarget, canonical_path
from gw.pipeline.variable_table import wire_encoding
from gw.pipeline.variables import Getter, compile_template, find_variable

# Bytes that may not stand in a path (RFC 3986 3.3; brackets may, as in gw.pipeline.path).
_BEYOND_PATH: Final = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/\[\]%-]")
_BEYOND_PATH_OR_PERCENT: Final = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,;=:@/\[\]-]")
_BEYOND_QUERY: Final = re.compile(rb"[^\x21\x22\x24-\x7e]")
# Of an argument's value, also what would begin the next argument or mean a space.
_BEYOND_VALUE: Final = re.compile(rb"[^A-Za-z0-9._~!$'()*,:@/?\[\]%-]")
_BEYOND_VALUE_OR_PERCENT: Final = re.compile(rb"[^A-Za-z0-9._~!$'()*,:@/?\[\]-]")
# What needs no look at all, in a path as in a query.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~/-]*", re.ASCII).fullmatch
_LONE_PERCENT: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT: Final = re.compile(rb"(?:^|/)(?:\.|%2[eE]){1,2}(?:/|$)").search
_BRACED: Final = re.compile(r"\$\{[^}]*\}|\?")
# Variables that are a canonical path: what is left of percent-encodings in them are encodings.
_PATHS: Final = frozenset(("uri", "document_uri"))
_PATH_PREFIX: Final = "uri_param_"
# Variables with a query, in which separators mean what they say, and encodings are encodings.
_AS_THEY_CAME: Final = frozenset(("request_uri", "real_request_uri", "args", "query_string"))

_Encode = Callable[[str], str]


def _encoder(beyond: re.Pattern[bytes], encoding: str) -> _Encode:
    """Text of a request -> what may leave, percent-encoded."""

    def encode(text: str) -> str:
        if _PLAIN(text):
            return text
        return beyond.sub(_triplet, text.encode(encoding, "surrogateescape")).decode("ascii")

    return encode


# Of the decoded spelling of a path, where a percent sign is one of an encoding that stayed.
_path_of_text: Final = _encoder(_BEYOND_PATH, "utf-8")
_value_of_text: Final = _encoder(_BEYOND_VALUE, "utf-8")


def _triplet(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(match[0])


def _finder(*, in_query: bool) -> Callable[[str], Getter | None]:
    """Variables that answer what may leave in this place."""

    def find(name: str) -> Getter | None:
        get = find_variable(name)
        if get is None:
            return None
        encode = _encoder(_pattern_for(name, in_query=in_query), wire_encoding(name))

        def encoded(ctx: Context) -> str | None:
            value = get(ctx)
            return value if value is None else encode(value)

        return encoded

    return find


def _pattern_for(name: str, *, in_query: bool) -> re.Pattern[bytes]:
    if name in _AS_THEY_CAME:
        return _BEYOND_QUERY if in_query else _BEYOND_PATH
    if name in _PATHS or name.startswith(_PATH_PREFIX):
        return _BEYOND_VALUE if in_query else _BEYOND_PATH
    return _BEYOND_VALUE_OR_PERCENT if in_query else _BEYOND_PATH_OR_PERCENT


def _written(text: str, beyond: re.Pattern[bytes]) -> str:
    """What a configuration wrote: percent-encodings in it are taken as such, a lone percent sign is encoded."""
    return _LONE_PERCENT.sub(b"%25", beyond.sub(_triplet, text.encode())).decode("ascii")


def _written_around_variables(text: str, beyond: re.Pattern[bytes]) -> str:
    """The same for a template: names and defaults in braces, and the backslash before a `$`, are the template's."""
    pieces = re.split(r"(\$\{[^}]*\}|\\)", text)
    return "".join(piece if number % 2 else _written(piece, beyond) for number, piece in enumerate(pieces))


def canonical(path: str, query: str | None) -> bytes:
    """Path and query as they leave. `path`: encoded, and begins with a slash. Raises BadTarget."""
    raw = path.encode()
    # PERF: most paths hold neither, and are looked through in a tenth of the time.
    if (b"." in raw or b"%" in raw) and _DOT_SEGMENT(raw):
        raise BadTarget("the rewritten path holds a dot segment")
    wire = canonical_path(raw).wire
    return wire + b"?" + query.encode() if query else wire


def with_query(uri: bytes, query: bytes) -> bytes:
    """The client's query behind the one that `uri` has, if any."""
    if not query:
        return uri
    if b"?" not in uri:
        return uri + b"?" + query
    return uri + query if uri.endswith(b"&") else uri + b"&" + query


class UriTemplate:
    """`uri` of a configuration: a path, and a query if it has a `?`, with variables. Call it with a context."""

    __slots__ = ("_constant", "_path", "_query")

    def __init__(self, text: str) -> None:
        """Raises ValueError for what could never leave."""
        mark = next((match.start() for match in _BRACED.finditer(text) if match[0] == "?"), None)
        path, query = (text, None) if mark is None else (text[:mark], text[mark + 1 :])
        written = _written_around_variables(path, _BEYOND_PATH)
        self._path = compile_template(written, find=_finder(in_query=False))
        self._query = None
        if query is not None:
            written = _written_around_variables(query, _BEYOND_QUERY)
            self._query = compile_template(written, find=_finder(in_query=True))
        self._constant: bytes | None = None
        if self._path.is_constant and (self._query is None or self._query.is_constant):
            self._constant = canonical(self._path.text, None if self._query is None else self._query.text)

    def __call__(self, ctx: Context) -> bytes:
        """Raises BadTarget."""
        if self._constant is not None:
            return self._constant
        return canonical(self._path(ctx), None if self._query is None else self._query(ctx))


class _Pair(NamedTuple):
    search: Callable[[str], re.Match[str] | None]
    path: Parts
    query: Parts | None


class RegexUri:
    """`regex_uri`: pairs of a pattern and what takes the place of its first match. The first pair that matches counts.

    `is_raw`: for a request's target as it came; what is replaced leaves as it is then.
    """

    __slots__ = ("_is_raw", "_pairs")

    def __init__(self, written: Sequence[str], *, is_raw: bool) -> None:
        """Raises ExpressionError."""
        if len(written) % 2:
            raise ExpressionError("The length of regex_uri should be an even number")
        self._is_raw = is_raw
        self._pairs = tuple(
            _pair(pattern, replacement, is_raw=is_raw)
            for pattern, replacement in zip(written[::2], written[1::2], strict=True)
        )

    def find(self, subject: str) -> tuple[re.Match[str], bytes] | None:
        """The match, and what is to be asked for instead; None where no pair matches.

        Raises BadTarget, and SearchTooLong where the subject makes a pattern explode.
        """
        for pair in self._pairs:
            match = pair.search(subject)
            if match is not None:
                return match, self._raw(pair, match) if self._is_raw else self._replaced(pair, match)
        return None

    def _replaced(self, pair: _Pair, match: re.Match[str]) -> bytes:
        before, after = match.string[: match.start()], match.string[match.end() :]
        path = _path_of_text(before) + _expand(pair.path, match, _path_of_text)
        query = None if pair.query is None else _expand(pair.query, match, _value_of_text) + _value_of_text(after)
        if query is None:
            path += _path_of_text(after)
        # Of `["^/prefix(.*)", "$1"]` nothing may be left, or no slash.
        return canonical(path if path.startswith("/") else "/" + path, query)

    def _raw(self, pair: _Pair, match: re.Match[str]) -> bytes:
        replaced = _expand(pair.path, match, str)
        return (match.string[: match.start()] + replaced + match.string[match.end() :]).encode()


def _pair(pattern: str, replacement: str, *, is_raw: bool) -> _Pair:
    compiled = compile_pattern(pattern)
    parts = parse_replacement(replacement, compiled.groups)
    if is_raw:
        return _Pair(compiled.search, parts, None)
    path, query = _split_at_mark(parts)
    encoded_query = None if query is None else _encoded(query, _BEYOND_QUERY)
    return _Pair(compiled.search, _encoded(path, _BEYOND_PATH), encoded_query)


def _split_at_mark(parts: Parts) -> tuple[Parts, Parts | None]:
    for number, part in enumerate(parts):
        if isinstance(part, str) and "?" in part:
            before, _, after = part.partition("?")
            return (*parts[:number], before), (after, *parts[number + 1 :])
    return parts, None


def _encoded(parts: Parts, beyond: re.Pattern[bytes]) -> Parts:
    return tuple(part if isinstance(part, int) else _written(part, beyond) for part in parts)


def _expand(parts: Parts, match: re.Match[str], encode: _Encode) -> str:
    return "".join(part if isinstance(part, str) else encode(match[part] or "") for part in parts)
