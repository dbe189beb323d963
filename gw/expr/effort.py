"""How long a text may be for a backtracking search to end soon, whatever is in the text.

Where nothing that is repeated holds a choice, each choice (a repetition, an alternative) is made in at most as many
ways as the text has places, so a search takes no more steps than that to the power of their number. A choice inside of
what is repeated (`(a+)+`, `(a|aa)*`) has no such bound.
"""

from __future__ import annotations

import re
from typing import Final

from gw.expr.pieces import NextPiece, pieces_of

# Some 10 ms.
_MOST_STEPS: Final = 1_000_000
# No text is longer.
NO_LIMIT: Final = 1 << 62
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
