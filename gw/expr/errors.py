"""What is wrong with an expression."""


class ExpressionError(ValueError):
    """An expression or pattern cannot be understood. `place` is where in it (`[1][2]`), empty for the whole."""

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(f"{reason} (at {place})" if place else reason)
        self.reason = reason
        self.place = place
