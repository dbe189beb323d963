r"""Whether a regular expression occurs in a text, in bounded time whatever the text: for `~~` and `~*`.

What is matched comes from clients, and a pattern that backtracks (`(a+)+$`) would let one of them hold a worker for
minutes. RE2 takes linear time and knows all that PCRE does but for looking around, back references and atomic groups.
Patterns with those go to the `regex` module, which backtracks, but gives up after LONGEST_SEARCH_S.

Text is matched byte by byte, as PCRE does without its `u`: no invalid UTF-8 hides what stands behind it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from gw.expr.effort import is_too_large
from gw.expr.errors import ExpressionError, SearchTooLong, shown
from gw.expr.pattern import LONGEST_SEARCH_S
from gw.expr.pieces import pieces_of

Search: TypeAlias = Callable[[str], bool]

# Of RE2's automata for one pattern, made as texts need them: a tenth of its default, since routes have many patterns.
_AUTOMATA_BYTES: Final = 1 << 20
# Patterns repeat from route to route.
_REMEMBERED: Final = 1024

_NEXT_OUTSIDE: Final = re.compile(r"\\[\s\S]|\[\^?\]?|\{\d+(?:,\d*)?\}|[^\\\[${]+|[\s\S]").match
_NEXT_IN_CLASS: Final = re.compile(r"\\[\s\S]|\[:\^?[a-z]+:\]|\]|[\s\S]").match
# What RE2 has under another name, or not the same characters in.
_ESCAPES: Final = {
    "\\h": r"[ \t]",
    "\\s": r"[\s\v]",
    "\\S": r"[^\s\v]",
    "\\R": r"(?:\r\n|[\n\v\f\r])",
    "\\Z": r"(?:\n?\z)",
    "\\e": r"\x1b",
    "$": r"(?:\n?\z)",
}
_CLASS_ESCAPES: Final = {"\\h": r" \t", "\\s": r"\s\v", "\\e": r"\x1b"}
# Other engines read these otherwise than PCRE without `u` does: refused, never misread.
_REFUSED: Final = frozenset(("\\p", "\\P", "\\X", "\\C", "\\N", "\\Q", "\\E", "\\c", "\\g", "\\G", "\\K"))
# Where `$` is the end of any line, or spaces mean nothing, it is the other engine's to read.
_MODES: Final = re.compile(r"\(\?[a-zA-Z]*[mx]").search


@lru_cache(_REMEMBERED)
def compile_search(pattern: str, *, ignores_case: bool) -> Search:
    """Settle a pattern in PCRE's spelling. Raises ExpressionError.

    The search itself raises SearchTooLong where a text makes a backtracking pattern explode.
    """
    source = _source(pattern)
    return _linear(source, pattern, ignores_case) or _bounded(pattern, ignores_case)


def _linear(source: str, pattern: str, ignores_case: bool) -> Search | None:
    """By RE2; None for what it does not know."""
    import re2  # see gw.expr.engines

    if _MODES(pattern):
        return None
    options: Any = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _AUTOMATA_BYTES
    options.case_sensitive = not ignores_case
    # Bytes, but where letters beyond ASCII are to be found in either case.
    options.encoding = (
        re2.Options.Encoding.UTF8 if ignores_case and not pattern.isascii() else re2.Options.Encoding.LATIN1
    )
    try:
        search = re2.compile(source.encode("utf-8", "surrogateescape"), options).search
    except re2.error:
        return None
    return lambda text: search(_octets(text)) is not None


def _bounded(pattern: str, ignores_case: bool) -> Search:
    """By the `regex` module."""
    import regex  # as above

    if is_too_large(pattern, _NEXT_OUTSIDE, _NEXT_IN_CLASS):
        raise ExpressionError(f"{shown(pattern)} is too large: what it repeats comes to too much when written out")
    flags = regex.VERSION0 | (regex.IGNORECASE if ignores_case else 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = regex.compile(_renamed(pattern).encode("utf-8", "surrogateescape"), flags)
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise ExpressionError(f"{shown(pattern)} is no regular expression here: {error}") from None

    def search(text: str) -> bool:
        subject = _octets(text)
        try:
            return compiled.search(subject, timeout=LONGEST_SEARCH_S) is not None
        except TimeoutError:
            raise SearchTooLong(f"{shown(pattern)} takes too long on {len(subject)} bytes") from None

    return search


def _octets(text: str) -> bytes:
    """A text's bytes: also of half a surrogate pair, which a JSON body may hold."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _renamed(pattern: str) -> str:
    # What is no repetition is a brace; this engine would take some for a fuzzy match.
    outside = {"\\z": r"\Z", "\\Z": r"(?=\n?\Z)", "\\e": r"\x1b", "{": r"\{"}
    return _translated(pattern, outside, {"\\e": r"\x1b"})


def _source(pattern: str) -> str:
    return _translated(pattern, _ESCAPES, _CLASS_ESCAPES)


def _translated(pattern: str, outside: dict[str, str], inside: dict[str, str]) -> str:
    """Pieces outside and inside of classes in another spelling."""
    pieces: list[str] = []
    for match, is_class in pieces_of(pattern, _NEXT_OUTSIDE, _NEXT_IN_CLASS):
        piece = match[0]
        if piece in _REFUSED:
            raise ExpressionError(f"{piece!r} in a regular expression is not supported")
        pieces.append((inside if is_class else outside).get(piece, piece))
    return "".join(pieces)
