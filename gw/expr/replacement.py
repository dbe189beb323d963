"""What takes the place of a match, as ngx.re.sub has it: `$1`, `${1}`, `$0` for all of the match, `$$` for a `$`."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from gw.expr.errors import ExpressionError, shown

# Text as it is, and numbers of groups.
Parts: TypeAlias = tuple[str | int, ...]

_MARK: Final = re.compile(r"\$(?:(\$)|(\d+)|\{(\d+)\})?", re.ASCII)
# Of a group's number; more would be no pattern that compiles.
_MAX_DIGITS: Final = 3


def parse_replacement(text: str, groups: int) -> Parts:
    """Take a replacement apart. Raises ExpressionError for a `$` that is none of these.

    `groups`: how many the pattern has; a group beyond them is empty, as in OpenResty.
    """
    parts: list[str | int] = []
    literal: list[str] = []
    at = 0
    for match in _MARK.finditer(text):
        literal.append(text[at : match.start()])
        at = match.end()
        if match[1]:
            literal.append("$")
            continue
        digits = match[2] or match[3]
        if digits is None:
            raise ExpressionError(f"{shown(text)}: after $ comes a group's number, or $ for a dollar sign")
        if len(digits) > _MAX_DIGITS or int(digits) > groups:
            continue
        if any(literal):
            parts.append("".join(literal))
            literal.clear()
        parts.append(int(digits))
    literal.append(text[at:])
    if any(literal):
        parts.append("".join(literal))
    return tuple(parts)
