"""What is wrong with an expression, and with a text that it is asked of."""

from __future__ import annotations

from typing import Final

# As gw.schema.wording has it, which is above this room.
_MOST_SHOWN_CHARACTERS: Final = 64


def shown(value: object) -> str:
    """What somebody wrote, as Python writes it, and cut: reasons end in answers, log lines and terminals."""
    written = repr(value)
    return written if len(written) <= _MOST_SHOWN_CHARACTERS + 2 else written[:_MOST_SHOWN_CHARACTERS] + "..."


class ExpressionError(ValueError):
    """An expression or pattern cannot be understood. `place` is where in it (`[1][2]`), empty for the whole."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{reason} (at {place})" if place else reason)
        self.reason = reason
        self.place = place


class SearchTooLong(Exception):
    """A text makes a pattern backtrack for longer than any request may take. Neither yes nor no: who asks refuses."""
