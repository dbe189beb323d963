r"""Regular expressions as OpenResty's ngx.re takes them (PCRE), for what is replaced in requests and responses.

PCRE and Python's `re` are backtracking engines of nearly one language. What only PCRE has and can be said otherwise is
rewritten: `(?<name>...)`, `\z`, `\Z`, `\h`, `\R`, and classes such as `[:alpha:]`. What cannot be (`\K`, recursion,
`\Q...\E`, Unicode properties, flags set in the middle) `re` refuses when the configuration is settled, so it is never
misread. `\w`, `\d`, `\s` and `\b` mean ASCII, as in PCRE without its `u`; with it they mean Unicode.

Where a text could make a pattern explode, the work is done by the `regex` module, which reads what `re` takes alike,
takes six times as long, and gives up after a while: no text of a client holds a worker for minutes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, AnyStr, Final, Generic

from gw.expr.effort import is_too_large, longest_harmless
from gw.expr.errors import ExpressionError, SearchTooLong, shown
from gw.expr.pieces import pieces_of

# Of one search: short beside what a request may hold a worker for (50 ms), long beside any that was meant.
LONGEST_SEARCH_S: Final = 0.01
# Of a body in which much may be replaced: this, and a tenth of a second for each MiB.
_LONGEST_SUBSTITUTION_S: Final = 0.05
_SUBSTITUTION_S_PER_CHARACTER: Final = 1e-7

_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
# Compile once, compile to machine code, and how long names may be: nothing that changes what matches.
_WITHOUT_MEANING: Final = frozenset("joJ")
_UNICODE: Final = frozenset("uU")
_NEXT_IN_CLASS: Final = re.compile(r"\\[\s\S]|\[:(?P<negated>\^?)(?P<posix>[a-z]+):\]|\]|[\s\S]").match
_NEXT_OUTSIDE: Final = re.compile(
    r"\\[\s\S]|\[\^?\]?|\(\?<(?=[A-Za-z_])|\{(?:\d+(?:,\d*)?|,\d+)\}|[^\\\[({]+|[\s\S]"
).match
_OUTSIDE: Final = {
    "\\z": r"\Z",
    "\\Z": r"(?=\n?\Z)",
    "\\h": r"[ \t]",
    "\\R": r"(?:\r\n|[\n\v\f\r])",
    "\\e": r"\x1b",
    "(?<": "(?P<",
    # What is no repetition is a brace; the `regex` module would take some for a fuzzy match.
    "{": r"\{",
}
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


class BoundedPattern(Generic[AnyStr]):
    """A compiled expression. `groups`: how many it has. Its matches are like those of `re`."""

    __slots__ = ("_bounded", "_harmless", "_plain", "_text", "groups")

    def __init__(self, plain: re.Pattern[AnyStr], bounded: Any, harmless: int, text: str) -> None:
        """`plain` is for subjects of at most so many characters as are `harmless`, `bounded` for all others."""
        self._plain: re.Pattern[AnyStr] = plain
        self._bounded = bounded
        self._harmless = harmless
        self._text = text
        self.groups = plain.groups

    def search(self, subject: AnyStr) -> re.Match[AnyStr] | None:
        """The first match. Raises SearchTooLong after LONGEST_SEARCH_S."""
        if len(subject) <= self._harmless:
            return self._plain.search(subject)
        try:
            match: re.Match[AnyStr] | None = self._bounded.search(subject, timeout=LONGEST_SEARCH_S)
        except TimeoutError:
            raise self._too_long(subject) from None
        return match

    def sub(self, replace: Callable[[re.Match[AnyStr]], AnyStr], subject: AnyStr, count: int) -> AnyStr:
        """The subject with `count` matches (0: all) replaced. Raises SearchTooLong."""
        if len(subject) <= self._harmless:
            return self._plain.sub(replace, subject, count)
        patience_s = _LONGEST_SUBSTITUTION_S + len(subject) * _SUBSTITUTION_S_PER_CHARACTER
        try:
            replaced: AnyStr = self._bounded.sub(replace, subject, count, timeout=patience_s)
        except TimeoutError:
            raise self._too_long(subject) from None
        return replaced

    def _too_long(self, subject: AnyStr) -> SearchTooLong:
        return SearchTooLong(f"{shown(self._text)} takes too long on {len(subject)} characters")


def compile_pattern(text: str, options: str = "jo") -> BoundedPattern[str]:
    """For text. `options` are ngx.re's: i, m, s, x, a, u; j, o and J change nothing. Raises ExpressionError."""
    return _compiled(_source(text, options), _flags(options), text)


def compile_bytes_pattern(text: str, options: str = "jo") -> BoundedPattern[bytes]:
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
            # In the words of OpenResty's ngx.re.
            raise ExpressionError(f'unknown flag "{shown(option)[1:-1]}" (flags "{shown(options)[1:-1]}")')
    return flags


def _source(text: str, options: str) -> str:
    source = _translated(text)
    # The line end keeps a comment at the end (option x) from swallowing the parenthesis.
    return rf"\A(?:{source}{chr(10) if 'x' in options else ''})" if "a" in options else source


def _compiled(source: AnyStr, flags: int, text: str) -> BoundedPattern[AnyStr]:
    import regex  # see gw.expr.engines

    if is_too_large(text, _NEXT_OUTSIDE, _NEXT_IN_CLASS):
        raise ExpressionError(f"{shown(text)} is too large: what it repeats comes to too much when written out")
    # Flags have other numbers there.
    others = regex.VERSION0 | sum(int(getattr(regex, flag.name)) for flag in re.RegexFlag(flags) if flag.name)
    try:
        with warnings.catch_warnings():
            # Of what Python may come to read as set operations; they are plain characters today, as in PCRE.
            warnings.simplefilter("ignore", FutureWarning)
            plain, bounded = re.compile(source, flags), regex.compile(source, others)
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        raise ExpressionError(f"{shown(text)} is no regular expression here: {error}") from None
    # `^` is the beginning of any line with m, a space means nothing with x; either may be set in the pattern.
    is_plain = not plain.flags & (re.MULTILINE | re.VERBOSE)
    harmless = longest_harmless(text, _NEXT_OUTSIDE, _NEXT_IN_CLASS) if is_plain else 0
    return BoundedPattern(plain, bounded, harmless, text)


def _translated(text: str) -> str:
    """PCRE's spelling in Python's."""
    return "".join(
        _in_class(match) if is_class else _OUTSIDE.get(match[0], match[0])
        for match, is_class in pieces_of(text, _NEXT_OUTSIDE, _NEXT_IN_CLASS)
    )


def _in_class(match: re.Match[str]) -> str:
    piece, name = match[0], match["posix"]
    if name is None:
        return _ESCAPES_IN_CLASS.get(piece, piece)
    if match["negated"] or name not in _POSIX:
        raise ExpressionError(f"{piece!r} in a regular expression is not supported")
    return _POSIX[name]
