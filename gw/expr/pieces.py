"""A regular expression taken apart into pieces that have one meaning each, outside and inside of character classes.

Engines of nearly one language differ in single pieces: who knows both spellings rewrites piece by piece.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

# The next piece of a text from a position on; one matches at every position but the end.
NextPiece: TypeAlias = Callable[[str, int], re.Match[str] | None]


def pieces_of(pattern: str, outside: NextPiece, in_class: NextPiece) -> Iterator[tuple[re.Match[str], bool]]:
    """The pieces in order, and whether each stands in a class. What begins with `[` opens one, `]` closes it."""
    at, is_class = 0, False
    while at < len(pattern):
        match = (in_class if is_class else outside)(pattern, at)
        assert match is not None
        yield match, is_class
        at = match.end()
        is_class = match[0] != "]" if is_class else match[0].startswith("[")
