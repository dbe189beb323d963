"""Which variables of a format stand outside the quotes of its JSON. Pure."""

from __future__ import annotations

import json
import re


def bare_places(text: str, variable: re.Pattern[str]) -> list[bool]:
    """For each match of `variable` whether it stands outside quotes; all False where the format is no JSON."""
    places: list[bool] = []
    trial: list[str] = []
    is_quoted, end = False, 0
    for match in variable.finditer(text):
        literal = text[end : match.start()]
        is_quoted = _is_quoted_after(literal, is_quoted)
        places.append(not is_quoted)
        trial += (literal, "x" if is_quoted else "0")
        end = match.end()
    try:
        json.loads("".join((*trial, text[end:])))
    except ValueError:
        return [False] * len(places)
    return places


def _is_quoted_after(literal: str, is_quoted: bool) -> bool:
    is_escaped = False
    for character in literal:
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = is_quoted
        elif character == '"':
            is_quoted = not is_quoted
    return is_quoted
