r"""Regular expressions as OpenResty's ngx.re takes them (PCRE), compiled by Python's `re`.

Both are backtracking engines of nearly one language. What only PCRE has and can be said otherwise is rewritten:
`(?<name>...)`, `\z`, `\Z`, `\h`, `\R`, and classes such as `[:alpha:]`. What cannot be (`\K`, recursion, `\Q...\E`,
Unicode properties, flags set in the middle) is refused when the configuration is settled, never misread.
`\w`, `\d`, `\s` and `\b` mean ASCII, as in PCRE without its `u`; with it they mean Unicode.
"""

from __future__ import annotations

import re
import warnings
from typing import AnyStr, Final

from gw.expr.errors import ExpressionError

_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
# Compile once, compile to machine code, and how long names may be: nothing that changes what matches.
_WITHOUT_MEANING: Final = frozenset("joJ")
_UNICODE: Final = frozenset("uU")
_IN_CLASS: Final = re.compile(r"\\[\s\S]|\[:(?P<negated>\^?)(?P<posix>[a-z]+):\]|\]|[\s\S]").match
_OUTSIDE: Final = re.compile(r"\\[\s\S]|\[\^?\]?|\(\?<(?=[A-Za-z_])|[^\\\[(]+|[\s\S]").match
_ESCAPES: Final = {"\\z": r"\Z", "\\Z": r"(?=\n?\Z)", "\\h": r"[ \t]", "\\R": r"(?:\r\n|[\n\v\f\r])", "\\e": r"\x1b"}
_ESCAPES_IN_CLASS: Final = {"\\h": r" \t", "\\e": r"\x1b"}
_POSIX: Final = {
    "alpha": "a-zA-Z",
    "digit": "0-9",
    "alnum": "a-zA-Z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "word": r"\w",
    "space": r"\s",
    "blank": r" \t",
    "punct": r"!-/:-@\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "cntrl": r"\x00-\x1f\x7f",
    "print": r"\x20-\x7e",
    "graph": r"\x21-\x7e",
}


def compile_pattern(text: str, options: str = "jo") -> re.Pattern[str]:
    """For text. `options` are ngx.re's: i, m, s, x, a, u; j, o and J change nothing. Raises ExpressionError."""
    return _compiled(_source(text, options), _flags(options), text)


def compile_bytes_pattern(text: str, options: str = "jo") -> re.Pattern[bytes]:
    """For bytes, which PCRE without `u` sees one by one. Raises ExpressionError."""
    return _compiled(_source(text, options).encode(), _flags(options) & ~re.ASCII, text)


def is_unicode(options: str) -> bool:
    """Whether the subject is to be read as UTF-8."""
    return not _UNICODE.isdisjoint(options)


def _flags(options: str) -> int:
    flags = 0 if is_unicode(options) else int(re.ASCII)
    for option in options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        elif option not in _WITHOUT_MEANING | _UNICODE and option != "a":
            raise ExpressionError(f"the option {option!r} of a regular expression is not supported")
    return flags


def _source(text: str, options: str) -> str:
    source = _translated(text)
    # The line end keeps a comment at the end (option x) from swallowing the parenthesis.
    return rf"\A(?:{source}{chr(10) if 'x' in options else ''})" if "a" in options else source


def _compiled(source: AnyStr, flags: int, text: str) -> re.Pattern[AnyStr]:
    try:
        with warnings.catch_warnings():
            # Of what Python may come to read as set operations; they are plain characters today, as in PCRE.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(source, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise ExpressionError(f"{text!r} is no regular expression here: {error}") from None


def _translated(text: str) -> str:
    """PCRE's spelling in Python's, a piece at a time."""
    pieces: list[str] = []
    at, in_class = 0, False
    while at < len(text):
        match = (_IN_CLASS if in_class else _OUTSIDE)(text, at)
        assert match is not None
        piece = match[0]
        at = match.end()
        if in_class:
            in_class = piece != "]"
            pieces.append(_in_class(piece, match))
        elif piece.startswith("["):
            in_class = True
            pieces.append(piece)
        elif piece == "(?<":
            pieces.append("(?P<")
        else:
            pieces.append(_ESCAPES.get(piece, piece))
    return "".join(pieces)


def _in_class(piece: str, match: re.Match[str]) -> str:
    name = match["posix"]
    if name is None:
        return _ESCAPES_IN_CLASS.get(piece, piece)
    if match["negated"] or name not in _POSIX:
        raise ExpressionError(f"{piece!r} in a regular expression is not supported")
    return _POSIX[name]
