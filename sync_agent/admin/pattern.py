"""The patterns by which a list is filtered: regular expressions, in time that is linear in the text.

They come from callers, the viewer among them, and the agent serves everybody: an engine that backtracks would hold it
for minutes, and a limit per text adds up over 100,000 names. RE2 takes what PCRE does (APISIX: ngx.re) but for looking
around, back references and atomic groups; these are refused, not misread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

Search: TypeAlias = Callable[[str], bool]

# As long as the longest name a resource may have, so that each name can be asked for in full.
LONGEST_PATTERN: Final = 256
# Bounds what a pattern unfolds to, and so the time: `.{1000}`, about as much as fits, takes 26 ms for the longest uri.
_AUTOMATON_BYTES: Final = 64 * 1024


def compile_search(text: str) -> Search:
    """Whether the pattern occurs in a text, as a function. Raises ValueError with the reason for one that cannot be."""
    if len(text) > LONGEST_PATTERN:
        raise ValueError(f"a pattern has at most {LONGEST_PATTERN} characters")
    import re2  # some MB that an agent does without until somebody asks by a pattern

    options: Any = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _AUTOMATON_BYTES
    # Byte by byte, as PCRE without its `u`.
    options.encoding = re2.Options.Encoding.LATIN1
    try:
        search = re2.compile(text.encode("utf-8", "surrogateescape"), options).search
    except re2.error as error:
        reason = _reason(error)
        raise ValueError(f"no regular expression without looking around and back references: {reason}") from None
    return lambda subject: search(subject.encode("utf-8", "surrogateescape")) is not None


def _reason(error: Exception) -> str:
    """RE2's word for it, which is bytes, and quotes the pattern."""
    word = error.args[0] if error.args else ""
    return word.decode("utf-8", "backslashreplace") if isinstance(word, bytes) else str(word)
