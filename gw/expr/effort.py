"""How long a text may be for a backtracking search to end soon, whatever is in the text.

Where nothing that is repeated holds a choice, each choice (a repetition, an alternative) is made in at most as many
ways as the text has places, so a search takes no more steps than that to the power of their number. A choice inside of
what is repeated (`(a+)+`, `(a|aa)*`) has no such bound.

And how large a pattern becomes: the `regex` module writes out what is repeated at least so often, so that the few
characters of `(?:(?:a{1000}){1000}){1000}` would take all memory there is.
"""

from __future__ import annotations

import re
from typing import Final

from gw.expr.pieces import NextPiece, pieces_of

# Some 10 ms.
_MOST_STEPS: Final = 1_000_000
# No text is longer.
NO_LIMIT: Final = 1 << 62
_LEAST: Final = re.compile(r"\{0*([0-9]*)(?:,[0-9]*)?\}").fullmatch
# More than that is too large in any case, and need not be read.
_MOST_DIGITS: Final = 9
# PCRE's limit is 64 KB of what it compiles, which is less: characters take two bytes there, classes 33. Here as many
# take 0.2 s and 2 s to compile.
_MOST_WRITTEN_OUT: Final = 40_000
_QUANTIFIER: Final = re.compile(r"[*+?]|\{[\d,]+\}").fullmatch


def longest_harmless(pattern: str, outside: NextPiece, in_class: NextPiece) -> int:
    """In characters; 0 for a pattern that no length bounds. The last two are as for `pieces_of`.

    Too low where a pattern says something in a way that is not understood here, never too high. Spaces count: not for
    patterns in which they mean nothing.
    """
    choices = _choices_in(_single(pattern, outside, in_class))
    if choices is None:
        return 0
    is_anchored = pattern.startswith("^") and "|" not in pattern and "(?" not in pattern
    power = choices if is_anchored else choices + 1
    return NO_LIMIT if power <= 1 else int(_MOST_STEPS ** (1 / power)) - 1


def is_too_large(pattern: str, outside: NextPiece, in_class: NextPiece) -> bool:
    """Whether a pattern comes to more than 40,000 characters and classes, roughly. Arguments as above."""
    groups = [0]
    last = 0  # the size of what a quantifier that comes now would repeat
    for piece in _single(pattern, outside, in_class):
        if piece == "(":
            groups.append(0)
        elif piece == ")" and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif (least := _LEAST(piece)) is not None:
            more = last * max(int(least[1][:_MOST_DIGITS] or "0") - 1, 0)
            groups[-1] += more
            last += more
        elif not piece.isspace():  # where spaces mean nothing, a quantifier may stand behind one
            groups[-1] += 1
            last = 1
        if groups[-1] > _MOST_WRITTEN_OUT:
            return True
    return sum(groups) > _MOST_WRITTEN_OUT


def _single(pattern: str, outside: NextPiece, in_class: NextPiece) -> list[str]:
    """Cut further: a class is left as what opens it, and what stands for itself is one piece for each character."""
    pieces: list[str] = []
    for match, is_class in pieces_of(pattern, outside, in_class):
        piece = match[0]
        if is_class:
            continue
        if len(piece) == 1 or piece[0] in "\\[{":
            pieces.append(piece)
        else:
            pieces += piece
    return pieces


def _choices_in(pieces: list[str]) -> int | None:
    """None: one of them is inside of what is repeated, or the parentheses do not fit."""
    choices = 0
    groups = [False]  # for each that is open, whether there is a choice in it
    repeated = False  # whether there is a choice in what a quantifier that comes now would repeat
    before = ""
    for piece in pieces:
        closed = False
        if piece == "(":
            groups.append(False)
        elif piece == ")":
            if len(groups) == 1:
                return None
            closed = groups.pop()
            groups[-1] = groups[-1] or closed
        elif piece == "|" or (_QUANTIFIER(piece) and before != "("):
            if piece not in "|?" and repeated:
                return None
            choices += 1
            groups[-1] = True
        repeated, before = closed, piece
    return choices if len(groups) == 1 else None
